"""CPython's own tests of executors, on every backend that makes calls side by side.

They are those of the interpreter that runs them; `tox -e contract` sees to one that has them.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import threading
from functools import partial
from typing import Any

import pytest

from manyhands import as_futures_executor

from ..backends import BACKENDS, names  # noqa: TID252  # as its neighbours do

IS_WANTED = "MANYHANDS_CPYTHON_TESTS" in os.environ
PACKAGE = "test.test_concurrent_futures"
MIXINS = {
    "executor": ("ExecutorTest", 9),
    "test_wait": ("WaitTests", 8),
    "test_as_completed": ("AsCompletedTests", 5),
    "test_shutdown": ("ExecutorShutdownTest", 4),
}
"""By module: the class, and how many portable tests it has in CPython 3.13."""

NOT_PORTABLE = ("test_interpreter_shutdown", "test_submit_after_interpreter_shutdown", "test_hang_gh83386")
"""They start programs that import a class of `concurrent.futures`; core/tests/test_futures_door.py has their like."""


if not IS_WANTED:
    why = "CPython's own tests of executors take minutes, and a Python from 3.13 on that has them: `tox -e contract`"
    pytest.skip(why, allow_module_level=True)


def part(name: str) -> Any:
    try:
        return importlib.import_module(f"{PACKAGE}.{name}")
    except ModuleNotFoundError as error:
        pytest.fail(f"this Python has no {error.name}: it is before 3.13, or was installed without its own tests")


UTIL = part("util")


def make(name: str, mixin: type) -> type:
    """The tests of a mixin for a backend."""

    class OfBackend(UTIL.ExecutorMixin):  # type: ignore[name-defined,misc]  # found at run time
        executor_type = staticmethod(partial(as_futures_executor, name))

        def create_event(self) -> Any:  # from 3.14 on
            if not BACKENDS[name].capabilities.crosses_process:
                return threading.Event()
            manager = multiprocessing.Manager()
            self.addCleanup(manager.shutdown)
            return manager.Event()

    members = {"__module__": __name__, **dict.fromkeys(NOT_PORTABLE)}
    return type(f"{name}{mixin.__name__}", (OfBackend, mixin, UTIL.BaseTestCase), members)


def portable(mixin: type) -> list[str]:
    return [name for name in dir(mixin) if name.startswith("test_") and name not in NOT_PORTABLE]


for _module, (_class, _) in MIXINS.items():
    for _name in names(lambda backend: backend.capabilities.concurrent):
        globals()[f"{_name}{_class}"] = make(_name, getattr(part(_module), _class))


@pytest.mark.parametrize("module", MIXINS)
def test_all_of_them_are_here(module: str) -> None:
    name, count = MIXINS[module]
    assert len(portable(getattr(part(module), name))) >= count
