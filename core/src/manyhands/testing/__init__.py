"""The conformance kit: proves that a backend keeps the contract of an executor.

It comes with `pip install 'manyhands-core[testing]' manyhands-sync`; the second is the backend to compare with. The
whole test file of a backend:

    from manyhands.testing import ExecutorTests


    class TestBackground(ExecutorTests):
        backend = "background"

The names below are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from manyhands.testing.bench import Bench as Bench
    from manyhands.testing.engine_bench import EngineBench as EngineBench
    from manyhands.testing.engine_kit import EngineTests as EngineTests
    from manyhands.testing.kit import ExecutorTests as ExecutorTests
    from manyhands.testing.ran import Ran as Ran
    from manyhands.testing.script import Deed as Deed
    from manyhands.testing.script import Script as Script
    from manyhands.testing.script import attempts as attempts
    from manyhands.testing.script import deterministic_failure as deterministic_failure
    from manyhands.testing.script import fate as fate
    from manyhands.testing.script import release as release
    from manyhands.testing.script import seeded as seeded

_HOMES = {
    "bench": ("Bench",),
    "engine_bench": ("EngineBench",),
    "engine_kit": ("EngineTests",),
    "kit": ("ExecutorTests",),
    "ran": ("Ran",),
    "script": ("Deed", "Script", "attempts", "deterministic_failure", "fate", "release", "seeded"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)  # noqa: PLE0605  # every name is a str


def __getattr__(name: str) -> Any:
    try:
        module = importlib.import_module(f"manyhands.testing.{_HOME[name]}")
    except KeyError:
        raise AttributeError(f"module 'manyhands.testing' has no attribute {name!r}") from None
    return getattr(module, name)


def __dir__() -> list[str]:
    return __all__
