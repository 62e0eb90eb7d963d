"""No class of tests can be left out: pytest passes over one that is not named as it expects, and says nothing."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from types import ModuleType
from typing import Any, Final

import pytest

from manyhands.testing import guard

CENSUS: Final[pytest.StashKey[Census]] = pytest.StashKey()
"""Where a pytest session keeps it."""


class Census:
    """Which modules pytest looked into, and which classes derived from the kit it took.

    Attributes:
        modules: the modules.
        taken: the classes.
    """

    def __init__(self) -> None:
        self.modules: list[pytest.Module] = []
        self.taken: set[type[Any]] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, Any, Any]:
        """Remember a module that could be imported.

        Args:
            collector: of whatever was looked into.
        """
        report = yield
        if report.passed and isinstance(collector, pytest.Module):
            self.modules.append(collector)
        return report

    @pytest.hookimpl(tryfirst=True)  # a worker of pytest-xdist hands over what was collected, and waits
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Report a class that was passed over as an error; what a run selects of the others does not matter.

        Args:
            session: of pytest.
        """
        found = {owner: module for module in self.modules for owner in _classes(module.obj)}
        for owner, module in found.items():
            if owner not in self.taken and _tests_a_backend(owner):
                report = pytest.CollectReport(module.nodeid, "failed", _fault(owner), [])
                session.config.hook.pytest_collectreport(report=report)


def _classes(place: ModuleType | type[Any], path: str = "") -> Iterator[type[Any]]:
    for name, value in vars(place).items():
        if isinstance(value, type):
            yield value
            if value.__qualname__ == path + name:
                yield from _classes(value, f"{path}{name}.")


def _tests_a_backend(owner: type[Any]) -> bool:
    is_one = guard.kit(owner) is not None and isinstance(getattr(owner, guard.subject(owner), None), str)
    return is_one and not owner.__subclasses__()


def _fault(owner: type[Any]) -> str:
    named = guard.subject(owner)
    return (
        f"pytest passes over {owner.__module__}.{owner.__qualname__}, "
        f"which tests the {named} {getattr(owner, named)!r}: "
        "let its name begin with Test, at the top of its module, without __test__; "
        f"if it is a base for other classes, let those name the {named}"
    )
