"""What is looked at when all tests have run."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from tests.backends import clusters
from tests.capabilities import PAGE, outdated

from manyhands.testing.results import RESULTS


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Fail docs/capabilities.md if the kit found something else; no test can tell: several processes run the cases."""
    done = yield
    fault = None if hasattr(session.config, "workerinput") else outdated(session.config.stash[RESULTS].classes)
    if fault is not None:
        name = f"{PAGE.parent.name}/{PAGE.name}"
        report = pytest.TestReport(name, (name, None, name), {}, "failed", fault, "call")
        session.config.hook.pytest_runtest_logreport(report=report)
    return done


@pytest.fixture(scope="session", autouse=True)
def _clusters() -> Iterator[None]:
    """Before the first test, as nothing of it is to be taken for what a test leaves behind."""
    with clusters():
        yield
