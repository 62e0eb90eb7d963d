"""What came of the cases, collected from pytest's reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from manyhands.testing import guard

if TYPE_CHECKING:
    from manyhands.testing.bench import Bench

RESULTS: Final[pytest.StashKey[Results]] = pytest.StashKey()
"""Where a pytest session keeps them."""

_PROPERTY: Final = "manyhands"


class Results:
    """What came of the cases, by the class that has them.

    Attributes:
        classes: by node id; of each the `backend`, what it `declared`, what was `observed`, and its `cases`: `topic`,
            `outcome` (passed, failed, skipped, xfailed or not run) and `reason`.
    """

    def __init__(self) -> None:
        self.classes: dict[str, dict[str, Any]] = {}

    def expect(self, owner: str, backend: str) -> dict[str, Any]:
        """Enter a class with all cases of the kit, as not run.

        Args:
            owner: its node id.
            backend: that it tests.

        Returns:
            What is known of it; if it was entered before, what came of its cases, too.
        """
        if owner not in self.classes:
            cases = {name: _entry(guard.topic_of(case)) for name, case in _cases().items()}
            self.classes[owner] = {"backend": backend, "declared": {}, "observed": {}, "cases": cases}
        return self.classes[owner]

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Enter each set of a case's parameters.

        Args:
            item: any test.
        """
        case = guard.case_of(item)
        if _is_recorded(item):
            owner, _, name = item.nodeid.rpartition("::")
            self._enter(owner, _backend(item), name, _entry(guard.topic_of(case)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in the report of one phase of one test; of tests that are no cases nothing.

        Args:
            report: of any test.
        """
        facts = dict(report.user_properties).get(_PROPERTY)
        if not isinstance(facts, dict):
            return
        owner, _, name = report.nodeid.rpartition("::")
        found = self.expect(owner, facts["backend"])
        for key in ("declared", "observed"):
            found[key].update(facts[key])
        if report.when == "call" or report.outcome != "passed":
            self._enter(owner, facts["backend"], name, _entry(facts["topic"], *_outcome(report)))

    def _enter(self, owner: str, backend: str, name: str, entry: dict[str, str]) -> None:
        cases = self.expect(owner, backend)["cases"]
        cases.pop(name.partition("[")[0], None)  # as long as its parameters were not known
        cases[name] = entry

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write them as JSON, where that was asked for; not in the workers of a session that has some.

        Args:
            session: of pytest.
        """
        path: Path | None = session.config.getoption("--manyhands-results")
        if path is not None and not hasattr(session.config, "workerinput"):
            path.write_text(json.dumps(self.classes, indent=1, sort_keys=True) + "\n")


def record(item: pytest.Item, bench: Bench) -> None:
    """Attach to a case's reports what the results need; what is observed later is in it, too.

    Args:
        item: the case.
        bench: its bench.
    """
    if _is_recorded(item):
        item.user_properties.append((_PROPERTY, _facts(item, asdict(bench.capabilities), bench.observed)))


def complete(item: pytest.Item, report: pytest.TestReport) -> None:
    """Attach to a case's report what is known of a case that did not come as far as to its bench.

    Args:
        item: the case.
        report: of one of its phases.
    """
    if _is_recorded(item) and _PROPERTY not in dict(report.user_properties):
        report.user_properties.append((_PROPERTY, _facts(item, {}, {})))


def skip_reason(report: pytest.TestReport) -> str:
    """What a report of a skipped test says.

    Args:
        report: the report.
    """
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def _cases() -> Mapping[str, Any]:
    kit = import_module("manyhands.testing.kit")  # where others run the tests, nothing has imported it here
    return guard.cases(kit.ExecutorTests)


def _is_recorded(item: pytest.Item) -> bool:
    """It is a case of an executor."""
    return guard.case_of(item) is not None and guard.subject(item.cls) == "backend"  # type: ignore[attr-defined]  # a case has a class


def _facts(item: pytest.Item, declared: dict[str, bool], observed: dict[str, bool]) -> dict[str, Any]:
    topic = guard.topic_of(guard.case_of(item))
    return {"backend": _backend(item), "topic": topic, "declared": declared, "observed": observed}


def _backend(item: pytest.Item) -> str:
    return str(getattr(getattr(item, "cls", None), "backend", None))


def _entry(topic: str, outcome: str = "not run", reason: str = "") -> dict[str, str]:
    return {"topic": topic, "outcome": outcome, "reason": reason}


def _outcome(report: pytest.TestReport) -> tuple[str, str]:
    if report.skipped and hasattr(report, "wasxfail"):
        return "xfailed", str(report.wasxfail)
    if report.skipped:
        return "skipped", skip_reason(report)
    if report.passed:
        return "passed", ""
    crash = getattr(report.longrepr, "reprcrash", None)
    return "failed", str(getattr(crash, "message", report.longrepr)).partition("\n")[0]
