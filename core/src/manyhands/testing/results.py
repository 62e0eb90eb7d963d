"""What came of the cases, collected from pytest's reports."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from manyhands.testing.guard import case_of

if TYPE_CHECKING:
    from manyhands.testing.bench import Bench

RESULTS: Final[pytest.StashKey[Results]] = pytest.StashKey()
"""Where a pytest session keeps them."""

_PROPERTY: Final = "manyhands"


class Results:
    """What came of the cases, by the class that has them.

    Attributes:
        classes: by node id; of each the `backend`, what it `declared`, what was `observed`, and its `cases`: `topic`,
            `outcome` (passed, failed, skipped or xfailed) and `reason`.
    """

    def __init__(self) -> None:
        self.classes: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in the report of one phase of one test; of tests that are no cases nothing.

        Args:
            report: of any test.
        """
        properties = dict(report.user_properties).get(_PROPERTY)
        if not isinstance(properties, dict):
            return
        owner, _, case = report.nodeid.rpartition("::")
        facts = {"backend": properties["backend"], "declared": properties["declared"], "observed": {}, "cases": {}}
        found = self.classes.setdefault(owner, facts)
        found["observed"].update(properties["observed"])
        if report.when == "call" or report.outcome != "passed":
            outcome, reason = _outcome(report)
            found["cases"][case] = {"topic": properties["topic"], "outcome": outcome, "reason": reason}

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
    case = case_of(item)
    if case is not None:
        facts = {
            "backend": bench.name,
            "topic": case.__module__.rpartition(".")[2].replace("_", " "),
            "declared": asdict(bench.capabilities),
            "observed": bench.observed,
        }
        item.user_properties.append((_PROPERTY, facts))


def _outcome(report: pytest.TestReport) -> tuple[str, str]:
    if hasattr(report, "wasxfail"):
        return "xfailed", str(report.wasxfail)
    if report.outcome == "skipped":
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        return "skipped", text.removeprefix("Skipped: ")
    if report.outcome == "passed":
        return "passed", ""
    crash = getattr(report.longrepr, "reprcrash", None)
    return "failed", str(getattr(crash, "message", report.longrepr)).partition("\n")[0]
