"""What pytest loads of the kit: markers, the guard, the look for leaks and the results. Cheap to import."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from manyhands.testing import guard
from manyhands.testing.census import CENSUS, Census
from manyhands.testing.contract import unexpected
from manyhands.testing.results import RESULTS, Results, complete

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
    config.stash[RESULTS], config.stash[CENSUS] = Results(), Census()
    config.pluginmanager.register(config.stash[RESULTS], "manyhands-results")
    config.pluginmanager.register(config.stash[CENSUS], "manyhands-census")
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, name: str, obj: object) -> Generator[None, Any, Any]:
    """Refuse a class that leaves out a case; do not take the kit itself for tests."""
    made = yield
    tests = guard.kit(made.obj) if isinstance(made, pytest.Class) else None
    if tests is None:
        return made
    if obj is tests or not getattr(made.obj, "__test__", True):
        return []
    if faults := list(guard.faults(made.obj, collector)):
        raise collector.CollectError("\n- ".join([f"{name} must have all cases of the conformance kit:", *faults]))
    guard.expect_failures(made.obj)
    collector.config.stash[CENSUS].taken.add(made.obj)
    if guard.subject(made.obj) == "backend":  # engines are not in the results
        collector.config.stash[RESULTS].expect(made.nodeid, made.obj.backend)
    return made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip classes whose module is missing."""
    for item in items:
        if (module := guard.missing_module(item)) is not None:
            item.add_marker(pytest.mark.skip(reason=f"it needs {module}, which is not installed"))


@pytest.hookimpl(wrapper=True, tryfirst=True)  # around what makes an excuse of a mark
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a case that is skipped or excused by anything but the kit or a marked method of its class."""
    report = yield
    if guard.case_of(item) is not None and isinstance(item, pytest.Function):
        from manyhands.testing.verdict import unfounded  # not for whoever has tests but no backend's

        complete(item, report)
        if (fault := unfounded(item, report)) is not None:
            vars(report).pop("wasxfail", None)
            report.outcome, report.longrepr = "failed", fault
    return report


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Say whose fault an exception is, and look for what a case left behind, as a part of the case."""
    case = guard.case_of(pyfuncitem)
    if case is None:
        return (yield)
    from manyhands.testing.verdict import replaced  # as above

    if (fault := replaced(pyfuncitem)) is not None:
        pytest.fail(fault, pytrace=False)
    bench: Any = pyfuncitem.funcargs["bench"]
    try:
        result = yield
    except AssertionError:
        raise
    except Exception as error:
        error.add_note(unexpected(guard.topic_of(case), bench.name))
        raise
    bench.check_leaks()
    return result


@pytest.fixture(scope="class")
def manyhands_cluster(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Any]]:
    """The options that a class's `cluster` gives, while that is up: once for all of its cases."""
    with request.cls().cluster() as options:
        yield options
