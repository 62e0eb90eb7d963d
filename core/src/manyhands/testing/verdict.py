"""Whether what became of a case counts: only what the backend declares skips it, only a marked method excuses it."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from manyhands.errors import BackendError
from manyhands.plugins.registry import find
from manyhands.testing.bench import Bench
from manyhands.testing.cases.needs import why_not
from manyhands.testing.engine_bench import EngineBench
from manyhands.testing.guard import REMEDY, case_of, missing_module, subject
from manyhands.testing.results import skip_reason


def replaced(item: pytest.Function) -> str | None:
    """What is about to run in the place of what the kit has, in a sentence with the remedy; None: nothing.

    Args:
        item: a case, with its fixtures.
    """
    case, function = case_of(item), getattr(item.obj, "__func__", item.obj)
    if inspect.unwrap(function, stop=lambda found: found is case) is not case:
        return f"{item.name}: it is replaced before it runs; {REMEDY}"
    if type(item.funcargs.get("bench")) is not (Bench if subject(item.cls) == "backend" else EngineBench):
        return f"{item.name}: bench is not the kit's own fixture; name yours otherwise"
    return None


def unfounded(item: pytest.Function, report: pytest.TestReport) -> str | None:
    """Why a case does not count as skipped, or as failed for a reason, in a sentence with the remedy; None: it does.

    Args:
        item: a case.
        report: of one of its phases.
    """
    excuse = getattr(report, "wasxfail", None)
    if excuse is not None:
        if report.skipped and excuse in _reasons(getattr(item.cls, item.originalname, None)):
            return None
        return f"{item.name}: it is excused ({excuse}) by what is no mark on a method of its class; {REMEDY}"
    if not report.skipped or missing_module(item) is not None or not _applies(item):
        return None
    return f"{item.name}: it is skipped ({skip_reason(report)}), but not for what its backend declares; {REMEDY}"


def _reasons(method: Any) -> list[str]:
    return [mark.kwargs.get("reason", "") for mark in getattr(method, "pytestmark", ()) if mark.name == "xfail"]


def _applies(item: pytest.Function) -> bool:
    own = getattr(case_of(item), "pytestmark", [])
    if any(mark not in own for mark in item.iter_markers("manyhands_case")):
        return True
    named = subject(item.cls)
    name = str(getattr(item.cls, named, None))
    try:
        return why_not(item, name, find(name, "engine" if named == "engine" else "executor").capabilities) is None
    except BackendError:
        return True
