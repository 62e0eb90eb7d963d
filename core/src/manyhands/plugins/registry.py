"""Finds backends by name: one is imported without the others, and a broken one breaks no other."""

from __future__ import annotations

import difflib
import importlib
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from manyhands.engine import Engine
from manyhands.errors import (
    BackendError,
    BackendNotInstalled,
    BrokenPlugin,
    DuplicateBackend,
    IncompatiblePlugin,
    ManyhandsError,
    OptionsError,
    UnknownBackend,
)
from manyhands.executor import Executor
from manyhands.plugins.distributions import KNOWN, KNOWN_ENGINES, installable, name_and_version
from manyhands.plugins.options import check_options
from manyhands.plugins.spec import GROUP, Backend, backends_of
from manyhands.plugins.verdict import fault_of

Kind = Literal["executor", "engine"]


@dataclass(frozen=True, slots=True)
class Found:
    """An entry point and what came of it.

    Attributes:
        name: of the entry point.
        distribution: that brings it, with its version.
        backend: its description; None if it is broken.
        error: why it is broken.
    """

    name: str
    distribution: str
    version: str
    backend: Backend | None = None
    error: BackendError | None = None


def installed() -> Iterator[Found]:
    """Every installed backend by name, broken ones with their reason. Imports the plugin modules, no backend."""
    points = sorted(backend_points(), key=lambda point: (point.name, name_and_version(point.dist)))
    for point in points:
        name, version = name_and_version(point.dist)
        try:
            _refuse_twins(point.name, [other for other in points if other.name == point.name])
            for backend in describe(point):
                yield Found(point.name, name, version, backend=backend)
        except BackendError as error:
            yield Found(point.name, name, version, error=error)


def find(name: str, kind: Kind = "executor") -> Backend:
    """The description of a backend; imports its plugin module and no other.

    Raises:
        BackendError: it is unknown, not installed, broken, incompatible or installed twice; says what to do.
    """
    return _described(_point(name, kind), kind)


def describe(point: EntryPoint) -> list[Backend]:
    """What an entry point describes.

    Raises:
        BrokenPlugin: its import or registration failed, or it does not describe the name it is registered under,
            or not as it should.
        IncompatiblePlugin: it was written for another plugin interface.
    """
    try:
        described = backends_of(point.name, point.load())
    except (Exception, SystemExit) as error:
        raise _broken(point, _words(error)) from error
    for backend in described:
        _refuse_faulty(point, backend)
    mine = [backend for backend in described if backend.name == point.name]
    if not mine:
        raise _broken(point, f"it describes no backend named {point.name!r}")
    return mine


def get_executor(name: str, *, schema_model: type[Any] | None = None, **options: Any) -> Executor:
    """An executor by name.

    Args:
        name: of an installed backend.
        schema_model: the schema, if it is not given to the pipe.
        options: of this backend; see its options model.

    Raises:
        BackendError: the backend cannot be had.
        OptionsError: an option is unknown or wrong.
    """
    point = _point(name, "executor")
    backend = _described(point, "executor")
    checked = check_options(backend, options)
    given = {key: getattr(checked, key) for key in checked.model_fields_set}
    if backend.prepare is not None:
        _loaded(point, backend.prepare)  # it is called by the command line alone, and should be found wrong here too
    executor = _made(point, backend, {"schema_model": schema_model, **given})
    if not isinstance(executor, Executor):
        raise _broken(point, f"{backend.load} is no Executor: it lacks {_lacks(executor)}")
    with suppress(AttributeError):  # for the report; a stranger's class need not take it
        executor.name = name  # type: ignore[attr-defined]  # no part of the protocol
    return executor


def get_engine(name: str, **options: Any) -> Engine:
    """An engine by name.

    Args:
        name: of an installed backend.
        options: of this engine; see its options model.

    Raises:
        BackendError: the engine cannot be had.
        OptionsError: an option is unknown or wrong.
    """
    point = _point(name, "engine")
    backend = _described(point, "engine")
    checked = check_options(backend, options)
    engine = _made(point, backend, {key: getattr(checked, key) for key in checked.model_fields_set})
    if not isinstance(engine, Engine):
        raise _broken(point, f"{backend.load} is no Engine")
    return engine


def prepared(name: str, options: dict[str, Any], kind: Kind = "executor") -> AbstractContextManager[None]:
    """Lets a backend do what is cheaper before anything of the person's is imported, and undo it at the end.

    What else is wrong with the backend or its options is left for `get_executor` or `get_engine` to say.

    Raises:
        BrokenPlugin: there is no such function, it failed, or it gave no context manager.
    """
    try:
        point = _point(name, kind)
        backend = _described(point, kind)
        checked = check_options(backend, options)
    except (BackendError, OptionsError):
        return nullcontext()
    if backend.prepare is None:
        return nullcontext()
    prepare = _loaded(point, backend.prepare)
    try:
        made = prepare(checked)
    except ManyhandsError:
        raise
    except (Exception, SystemExit) as error:
        raise _broken(point, f"{backend.prepare}: {_words(error)}") from error
    if not isinstance(made, AbstractContextManager):
        raise _broken(point, f"{backend.prepare} gave {type(made).__name__}, not a context manager")
    return made


def backend_points() -> list[EntryPoint]:
    """The entry points of all installed backends; imports nothing of theirs."""
    return list(_points(tuple(map(_state_of, sys.path))))


@lru_cache(maxsize=1)
def _points(_path: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    """Read once for each state of `sys.path`: the metadata of everything that is installed takes 10 ms."""
    found: dict[tuple[str, str, str], EntryPoint] = {}
    for point in entry_points(group=GROUP):
        # The same distribution may be seen twice, through two entries of sys.path.
        found.setdefault((point.name, name_and_version(point.dist)[0], point.value), point)
    return tuple(found.values())


def _state_of(entry: str) -> tuple[str, int]:
    """An entry of `sys.path`, and when something was last installed there or removed."""
    try:
        return entry, os.stat(entry or ".").st_mtime_ns  # noqa: PTH116  # pathlib takes longer than the rest of it
    except (OSError, ValueError, TypeError):  # not there, or no path at all
        return str(entry), 0


def _point(name: str, kind: Kind) -> EntryPoint:
    points = [point for point in backend_points() if point.name == name]
    if not points:
        raise _missing(name, kind)
    _refuse_twins(name, points)
    return points[0]


def _described(point: EntryPoint, kind: Kind) -> Backend:
    backends = describe(point)
    for backend in backends:
        if backend.kind == kind:
            return backend
    raise UnknownBackend(
        f"{point.name!r} is no {kind} but an {backends[0].kind}; {kind}s are {', '.join(_names(kind))}"
    )


def _made(point: EntryPoint, backend: Backend, options: dict[str, Any]) -> Any:
    make = _loaded(point, backend.load)
    try:
        return make(**options)
    except ManyhandsError:  # a constructor's own refusal has its own words
        raise
    except (Exception, SystemExit) as error:
        raise _broken(point, f"{backend.load}: {_words(error)}") from error


def _loaded(point: EntryPoint, reference: str) -> Any:
    module, _, attribute = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (Exception, SystemExit) as error:
        raise _broken(point, f"{reference}: {_words(error)}") from error


def _refuse_twins(name: str, points: list[EntryPoint]) -> None:
    if len(points) > 1:
        names = " and ".join(f"{name_and_version(point.dist)[0]} ({point.value})" for point in points)
        raise DuplicateBackend(f"backend {name!r} is brought by {names}; uninstall one of them")


def _names(kind: Kind) -> list[str]:
    """Backends of a kind, those that could be installed included."""
    found = {each.name for each in installed() if each.backend is not None and each.backend.kind == kind}
    return sorted(found | set(KNOWN if kind == "executor" else KNOWN_ENGINES))


def _missing(name: str, kind: Kind) -> BackendError:
    if name in KNOWN:
        return BackendNotInstalled(f"backend {name!r} is not installed: {_pip('install', *installable(KNOWN[name]))}")
    names = _names(kind)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known are {', '.join(names)}"
    return UnknownBackend(f"there is no {kind} {name!r}; {hint}")


def _broken(point: EntryPoint, reason: str) -> BrokenPlugin:
    name, version = name_and_version(point.dist)
    remedy = _pip("uninstall", name)
    return BrokenPlugin(f"backend {point.name!r} of {name} {version} is broken ({reason}); upgrade it or: {remedy}")


def _pip(*words: str) -> str:
    return shlex.join(("pip", *words))


def _words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _refuse_faulty(point: EntryPoint, backend: object) -> None:
    found = fault_of(backend)
    if found is None:
        return
    kind, fault = found
    if kind == "broken":
        raise _broken(point, fault)
    name, version = name_and_version(point.dist)
    what, late = ("it", name) if kind == "old" else ("manyhands", "manyhands-core")
    remedy = f"upgrade {what}: {_pip('install', '-U', *installable(late))}"
    raise IncompatiblePlugin(f"backend {point.name!r} of {name} {version} is {fault}; {remedy}")


def _lacks(executor: Any) -> str:
    wanted = ("capabilities", "start", "submit", "shutdown", "slots", "progress", "evict")
    return ", ".join(name for name in wanted if not hasattr(executor, name)) or "nothing by name"
