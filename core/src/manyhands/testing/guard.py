"""No case can be left out: what a class of tests may make of the kit's own methods."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from types import MappingProxyType
from typing import Any, Final

import pytest

REMEDY: Final = 'let it be inherited, or say why it fails by @pytest.mark.xfail(reason="...") on a method of that name'

_FIXTURE: Final = "bench"
_KITS: Final = {"kit": ("ExecutorTests", "backend"), "engine_kit": ("EngineTests", "engine")}
_SHIRKING: Final = ("skip", "skipif", "xfail")
_NO_CLASS_MARKS: Final = {*_SHIRKING, "manyhands_case", "parametrize"}


def kit(tests: object) -> type[Any] | None:
    """The class of all cases that a class of tests is derived from; None: it is derived from none."""
    for module, (name, _) in _KITS.items():
        base = getattr(sys.modules.get(f"manyhands.testing.{module}"), name, None)
        if base is not None and isinstance(tests, type) and issubclass(tests, base):
            return base  # type: ignore[no-any-return]  # it is a class
    return None


def subject(tests: type[Any]) -> str:
    """What a class derived from the kit names that is tested: `backend` or `engine`."""
    return dict(_KITS.values())[getattr(kit(tests), "__name__", "ExecutorTests")]


def cases(tests: object) -> Mapping[str, Any]:
    """The kit's own functions by name, as they were when it was imported.

    Args:
        tests: a class derived from the kit.
    """
    return getattr(sys.modules.get(getattr(kit(tests), "__module__", "")), "CASES", {})


def cases_of(base: type[Any]) -> Mapping[str, Any]:
    """The cases that a class has now, in a mapping that stays as it is.

    Args:
        base: the class.
    """
    names = [name for name in dir(base) if name.startswith("test_")]
    return MappingProxyType({name: inspect.getattr_static(base, name) for name in names})


def case_of(item: pytest.Item) -> Any:
    """The kit's own function that an item stands for; None: it is no case."""
    return cases(getattr(item, "cls", None)).get(getattr(item, "originalname", item.name))


def topic_of(case: Any) -> str:
    """What a case is about: the module that it is in."""
    return str(case.__module__).rpartition(".")[2].replace("_", " ")


def faults(tests: type[Any], collector: pytest.Collector) -> Iterator[str]:
    """What a class derived from the kit leaves out, in sentences with the remedy.

    Args:
        tests: the class.
        collector: of the module or class that it is in.
    """
    for mark in _forbidden_marks(tests, collector):
        told = "on the class, a base of it or its module: leave it out; cases that do not apply skip themselves"
        yield f"the mark {mark} {told}"
    named = subject(tests)
    if not isinstance(getattr(tests, named, None), str):
        yield f'it does not name the {named}: set {named} = "name"'
    if any(getattr(tests, name) is not getattr(object, name) for name in ("__init__", "__new__")):
        yield "pytest collects no class with an __init__ or a __new__: prepare what you need in a fixture"
    base: Any = kit(tests)
    if inspect.getattr_static(tests, _FIXTURE) is not inspect.getattr_static(base, _FIXTURE):
        yield f"{_FIXTURE}: it is the kit's own; name yours otherwise"
    for name, case in cases(tests).items():
        if fault := _fault(name, case, tests):
            yield f"{name}: {fault}"


def _forbidden_marks(tests: type[Any], collector: pytest.Collector) -> list[str]:
    marks = [mark for owner in tests.__mro__ for mark in _marks(vars(owner).get("pytestmark", []))]
    return sorted({mark.name for mark in (*marks, *collector.iter_markers())} & _NO_CLASS_MARKS)


def _marks(own: Any) -> Iterable[pytest.Mark]:
    return own if isinstance(own, list | tuple) else [own]


def _fault(name: str, case: Any, tests: type[Any]) -> str | None:
    here = inspect.getattr_static(tests, name, None)
    if inspect.getattr_static(kit(tests), name, None) is not case:
        return "it is changed in the kit itself, for all backends; override it in your class instead"
    if here is case:
        shirking = [mark.name for mark in _marks(getattr(case, "pytestmark", [])) if mark.name in _SHIRKING]
        told = "is on the kit's own method, for all backends; override it instead"
        return f"the mark {shirking[0]} {told}" if shirking else None
    marks = [mark for mark in _marks(getattr(here, "pytestmark", [])) if mark.name in _SHIRKING]
    if not callable(here) or "xfail" not in [mark.name for mark in marks]:
        return f"it is {'removed' if here is None else 'replaced'}; {REMEDY}"
    return _fault_of_marks(marks)


def _fault_of_marks(marks: list[pytest.Mark]) -> str | None:
    expected = [mark for mark in marks if mark.name == "xfail"]
    if not all(str(mark.kwargs.get("reason", "")).strip() for mark in expected):
        return f"its xfail gives no reason; {REMEDY}"
    run = all(mark.kwargs.get(key, True) for mark in expected for key in ("run", "strict"))
    if len(expected) < len(marks) or not run:
        return f"it must run, and fail; {REMEDY}"
    if len(expected) > 1:
        return f"it has {len(expected)} xfail marks; say all reasons in one"
    return None


def missing_module(item: pytest.Item) -> str | None:
    """The module that an item's class is marked to need and that is not installed; None: there is none.

    Args:
        item: any test.
    """
    needed = [str(module) for mark in item.iter_markers("manyhands_needs") for module in mark.args]
    return next((module for module in needed if importlib.util.find_spec(module) is None), None)


def expect_failures(tests: type[Any]) -> None:
    """Put the kit's own cases in the place of those methods that say why they fail: they run, and must fail.

    Args:
        tests: a class without faults.
    """
    for name, case in cases(tests).items():
        here = inspect.getattr_static(tests, name)
        if here is not case:
            (reason,) = [mark for mark in _marks(here.pytestmark) if mark.name == "xfail"]
            strict = pytest.mark.xfail(*reason.args, **{**reason.kwargs, "strict": True}).mark
            setattr(tests, name, _marked(case, strict))


def _marked(case: Callable[..., Any], mark: pytest.Mark) -> Callable[..., Any]:
    @wraps(case)
    def run(*args: Any, **arguments: Any) -> Any:
        return case(*args, **arguments)

    run.pytestmark = [*getattr(case, "pytestmark", ()), mark]  # type: ignore[attr-defined]  # what pytest reads
    return run
