"""What pytest loads of the kit: markers, the guard, the look for leaks and the results. Cheap to import."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from manyhands.testing import guard
from manyhands.testing.results import RESULTS, Results

_MARKERS: Final = (
    "manyhands_needs(module): the class tests a backend that needs this module; it is skipped where that is missing",
    "manyhands_case(capabilities, not_): what a case of the conformance kit presupposes",
)

# Before they are imported: their assertions show what they compared.
pytest.register_assert_rewrite("manyhands.testing.bench", "manyhands.testing.cases", "manyhands.testing.engine_cases")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for the results."""
    group = parser.getgroup("manyhands")
    words = "write what came of the conformance kit's cases into this file, as JSON"
    group.addoption("--manyhands-results", metavar="FILE", type=Path, help=words)


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known, and begin to collect results."""
    config.stash[RESULTS] = Results()
    config.pluginmanager.register(config.stash[RESULTS], "manyhands-results")
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> Any:
    """Refuse a class that leaves out a case; do not take the kit itself for tests."""
    tests = guard.kit(obj)
    if tests is None or not isinstance(obj, type):
        return None
    if obj is tests:
        return []
    if faults := list(guard.faults(obj, collector)):
        raise collector.CollectError("\n- ".join([f"{name} must have all cases of the conformance kit:", *faults]))
    guard.expect_failures(obj)
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip classes whose module is missing."""
    for item in items:
        guard.skip_without_modules(item)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Look for what a case left behind, as a part of the case."""
    result = yield
    if guard.case_of(pyfuncitem) is not None:
        bench: Any = pyfuncitem.funcargs["bench"]
        bench.check_leaks()
    return result


@pytest.fixture(scope="class")
def manyhands_cluster(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Any]]:
    """The options that a class's `cluster` gives, while that is up: once for all of its cases."""
    with request.cls().cluster() as options:
        yield options
