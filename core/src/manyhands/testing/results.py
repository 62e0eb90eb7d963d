"""What came of the cases, collected from pytest's reports, also from those of the workers of pytest-xdist."""

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
        self._failed: dict[str, str] = {}  # what no facts are known of, because a worker died of it: reasons by node id

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
        if _is_recorded(item):
            facts = _facts(item, {}, {})
            self._enter(facts, _entry(facts["topic"]))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in the report of one phase of one test; of tests that are no cases nothing.

        Args:
            report: of any test.
        """
        facts = dict(report.user_properties).get(_PROPERTY)
        if not isinstance(facts, dict):
            if report.failed:
                self._failed[report.nodeid] = _outcome(report)[1]
            return
        found = self.expect(facts["class"], facts["backend"])
        for key in ("declared", "observed"):
            found[key].update(facts[key])
        if report.when == "call" or report.outcome != "passed":
            self._enter(facts, _entry(facts["topic"], *_outcome(report)))

    def _enter(self, facts: Mapping[str, Any], entry: dict[str, str]) -> None:
        cases = self.expect(facts["class"], facts["backend"])["cases"]
        cases.pop(facts["case"].partition("[")[0], None)  # as long as its parameters were not known
        cases[facts["case"]] = entry

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take in what a worker of pytest-xdist collected, which is more than what it ran.

        Args:
            node: the worker, as the process that distributes the tests sees it.
        """
        for owner, found in getattr(node, "workeroutput", {}).get(_PROPERTY, {}).items():
            known = self.classes.setdefault(owner, found)
            ran = {name: case for name, case in known["cases"].items() if case["outcome"] != "not run"}
            known["cases"] = {**found["cases"], **ran}
            for name, case in known["cases"].items():
                if (reason := self._failed.get(f"{owner}::{name}")) is not None:
                    case.update(outcome="failed", reason=reason)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write them as JSON, where that was asked for; a worker of pytest-xdist hands them over.

        Args:
            session: of pytest.
        """
        path: Path | None = session.config.getoption("--manyhands-results")
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput[_PROPERTY] = self.classes
        elif path is not None:
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
    """By its class and name: the node id may have more in it where several processes run the tests."""
    return {
        "class": getattr(item.parent, "nodeid", ""),
        "case": item.name,
        "backend": str(getattr(getattr(item, "cls", None), "backend", None)),
        "topic": guard.topic_of(guard.case_of(item)),
        "declared": declared,
        "observed": observed,
    }


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
