"""All checks, one after the other; one that crashes is itself a finding."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Final

from manyhands.doctor.finding import Finding
from manyhands.doctor.isolated import words
from manyhands.doctor.remedies import pip
from manyhands.plugins.distributions import installable

CHECKS: Final = ("environment", "plugins", "clusters", "processes", "leftovers", "job")
"""The modules beside this one; each has `check(job) -> Iterable[Finding]`."""


def examine(job: Path | None = None) -> Iterator[Finding]:
    """Look at everything.

    Args:
        job: a job file, which is then looked at as well.
    """
    for name in CHECKS:
        yield from _guarded(name, job)


def _guarded(name: str, job: Path | None) -> Iterator[Finding]:
    """Imported here: what the others need may be what is broken."""
    try:
        yield from import_module(f"manyhands.doctor.{name}").check(job)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever it is, the person needs the other findings
        yield Finding(name, "error", name, f"this check failed: {words(error)}", _remedy(error))


def _remedy(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        missing = error.name.partition(".")[0]
        if missing != "manyhands":
            return pip("install", missing)
    return pip("install", "--upgrade", "--force-reinstall", *installable("manyhands-core"))
