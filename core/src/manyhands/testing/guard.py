"""No case can be left out: what a class of tests may make of the kit's own methods."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Final

import pytest

_FIXTURE: Final = "bench"
_KITS: Final = {"kit": ("ExecutorTests", "backend"), "engine_kit": ("EngineTests", "engine")}
_SHIRKING: Final = ("skip", "skipif", "xfail")
_REMEDY: Final = 'let it be inherited, or say why it fails by @pytest.mark.xfail(reason="...")'


def kit(tests: object) -> type[Any] | None:
    """The class of all cases that a class of tests is derived from; None: it is derived from none."""
    for module, (name, _) in _KITS.items():
        base = getattr(sys.modules.get(f"manyhands.testing.{module}"), name, None)
        if base is not None and isinstance(tests, type) and issubclass(tests, base):
            return base  # type: ignore[no-any-return]  # it is a class
    return None


def case_of(item: pytest.Item) -> Any:
    """The kit's own function that an item stands for; None: it is no case."""
    tests = kit(getattr(item, "cls", None))
    return None if tests is None else getattr(tests, getattr(item, "originalname", item.name), None)


def faults(tests: type[Any], collector: pytest.Collector) -> Iterator[str]:
    """What a class derived from the kit leaves out, in sentences with the remedy.

    Args:
        tests: the class.
        collector: of the module or class that it is in.
    """
    base: Any = kit(tests)
    subject = dict(_KITS.values())[base.__name__]
    for mark in _marks(tests, collector):
        yield f"the mark {mark} on the class or its module: leave it out; cases that do not apply skip themselves"
    if not isinstance(getattr(tests, subject, None), str):
        yield f'it does not name the {subject}: set {subject} = "name"'
    for name in (_FIXTURE, *_cases(base)):
        yield from _fault(name, inspect.getattr_static(base, name), inspect.getattr_static(tests, name))


def _marks(tests: type[Any], collector: pytest.Collector) -> list[str]:
    own = getattr(tests, "pytestmark", [])
    marks = [*(own if isinstance(own, list) else [own]), *collector.iter_markers()]
    return sorted({mark.name for mark in marks} & {*_SHIRKING})


def _fault(name: str, case: Any, here: Any) -> Iterator[str]:
    if here is case:
        if shirking := [mark.name for mark in getattr(case, "pytestmark", []) if mark.name in _SHIRKING]:
            yield f"{name}: the mark {shirking[0]} is on the kit's own method, for all backends; override it instead"
        return
    if name == _FIXTURE:
        yield f"{name}: it is the kit's own; name yours otherwise"
        return
    marks = {mark.name: mark for mark in getattr(here, "pytestmark", ())}
    expected = marks.get("xfail")
    if expected is None or not callable(here):
        yield f"{name}: it is {'removed' if here is None else 'replaced'}; {_REMEDY}"
    elif not str(expected.kwargs.get("reason", "")).strip():
        yield f"{name}: its xfail gives no reason; {_REMEDY}"
    elif marks.keys() & {"skip", "skipif"} or not all(expected.kwargs.get(key, True) for key in ("run", "strict")):
        yield f"{name}: it must run, and fail; {_REMEDY}"


def skip_without_modules(item: pytest.Item) -> None:
    """Skip a test of a class that is marked to need a module which is not installed."""
    for mark in item.iter_markers("manyhands_needs"):
        for module in mark.args:
            if importlib.util.find_spec(module) is None:
                item.add_marker(pytest.mark.skip(reason=f"it needs {module}, which is not installed"))


def expect_failures(tests: type[Any]) -> None:
    """Put the kit's own cases in the place of those methods that say why they fail: they run, and must fail.

    Args:
        tests: a class without faults.
    """
    base: Any = kit(tests)
    for name in _cases(base):
        case, here = getattr(base, name), getattr(tests, name)
        if here is not case:
            (reason,) = [mark for mark in here.pytestmark if mark.name == "xfail"]
            strict = pytest.mark.xfail(*reason.args, **{**reason.kwargs, "strict": True}).mark
            setattr(tests, name, _marked(case, strict))


def _marked(case: Callable[..., Any], mark: pytest.Mark) -> Callable[..., Any]:
    @wraps(case)
    def run(*args: Any, **arguments: Any) -> Any:
        return case(*args, **arguments)

    run.pytestmark = [*getattr(case, "pytestmark", ()), mark]  # type: ignore[attr-defined]  # what pytest reads
    return run


def _cases(base: type[Any]) -> list[str]:
    return [name for name in dir(base) if name.startswith("test_")]
