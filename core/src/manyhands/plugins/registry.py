"""Finds backends by name: one is imported without the others, and a broken one breaks no other."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Literal

from pydantic import BaseModel, ValidationError

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
from manyhands.plugins.spec import GROUP, PLUGIN_API, Backend, backends_of

Kind = Literal["executor", "engine"]

# What to install for the names of the backends that are released; nothing here is imported or preferred.
_KNOWN: Final = {name: f"manyhands-{name}" for name in ("asyncio", "multiprocessing", "sync", "threads")}


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
    points = sorted(_entry_points(), key=lambda point: (point.name, _distribution(point)))
    for point in points:
        name, version = _distribution(point)
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
    return _described(_point(name), kind)


def describe(point: EntryPoint) -> list[Backend]:
    """What an entry point describes.

    Raises:
        BrokenPlugin: its import or registration failed, or it does not describe the name it is registered under.
        IncompatiblePlugin: it was written for another plugin interface.
    """
    try:
        described = backends_of(point.name, point.load())
    except (Exception, SystemExit) as error:
        raise _broken(point, _words(error)) from error
    for backend in described:
        _check_api(point, backend)
    mine = [backend for backend in described if backend.name == point.name]
    if not mine:
        raise _broken(point, f"it describes no backend named {point.name!r}")
    return mine


def check_options(backend: Backend, options: dict[str, Any]) -> BaseModel:
    """The options, checked by the backend's own model.

    Raises:
        OptionsError: names each option at fault, what is wrong, and the allowed names.
    """
    try:
        return backend.options.model_validate(options)
    except ValidationError as error:
        found = [_option_problem(backend, item) for item in error.errors()]
        raise OptionsError(f"backend {backend.name!r}: {'; '.join(found)}") from error


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
    point = _point(name)
    backend = _described(point, "executor")
    checked = check_options(backend, options)
    given = {key: getattr(checked, key) for key in checked.model_fields_set}
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
    point = _point(name)
    backend = _described(point, "engine")
    checked = check_options(backend, options)
    engine = _made(point, backend, {key: getattr(checked, key) for key in checked.model_fields_set})
    if not isinstance(engine, Engine):
        raise _broken(point, f"{backend.load} is no Engine")
    return engine


def prepared(name: str, options: dict[str, Any], kind: Kind = "executor") -> AbstractContextManager[None]:
    """Lets a backend do what is cheaper before anything of the person's is imported, and undo it at the end.

    What is wrong with the backend or its options is left for `get_executor` or `get_engine` to say.
    """
    try:
        backend = find(name, kind)
        checked = check_options(backend, options)
    except (BackendError, OptionsError):
        return nullcontext()
    if backend.prepare is None:
        return nullcontext()
    module, _, function = backend.prepare.partition(":")
    prepares: AbstractContextManager[None] = getattr(importlib.import_module(module), function)(checked)
    return prepares


def _point(name: str) -> EntryPoint:
    points = [point for point in _entry_points() if point.name == name]
    if not points:
        raise _missing(name)
    _refuse_twins(name, points)
    return points[0]


def _described(point: EntryPoint, kind: Kind) -> Backend:
    backends = describe(point)
    for backend in backends:
        if backend.kind == kind:
            return backend
    raise UnknownBackend(f"{point.name!r} is no {kind} but an {backends[0].kind}")


def _made(point: EntryPoint, backend: Backend, options: dict[str, Any]) -> Any:
    module, _, attribute = backend.load.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)(**options)
    except ManyhandsError:  # a constructor's own refusal has its own words
        raise
    except (Exception, SystemExit) as error:
        raise _broken(point, f"{backend.load}: {_words(error)}") from error


def _entry_points() -> list[EntryPoint]:
    found: dict[tuple[str, str, str], EntryPoint] = {}
    for point in entry_points(group=GROUP):
        # The same distribution may be seen twice, through two entries of sys.path.
        found.setdefault((point.name, _distribution(point)[0], point.value), point)
    return list(found.values())


def _distribution(point: EntryPoint) -> tuple[str, str]:
    metadata: Mapping[str, str] = point.dist.metadata if point.dist else {}  # type: ignore[assignment]  # it is one
    # A half removed distribution has entry points and no metadata: it may be broken, but it breaks no other.
    name, version = (metadata.get(key, "unknown") for key in ("Name", "Version"))
    return name, version


def _refuse_twins(name: str, points: list[EntryPoint]) -> None:
    if len(points) > 1:
        names = " and ".join(f"{_distribution(point)[0]} ({point.value})" for point in points)
        raise DuplicateBackend(f"backend {name!r} is brought by {names}; uninstall one of them")


def _missing(name: str) -> BackendError:
    if name in _KNOWN:
        return BackendNotInstalled(f"backend {name!r} is not installed: pip install {_KNOWN[name]}")
    names = sorted({point.name for point in _entry_points()} | set(_KNOWN))
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"known are {', '.join(names)}"
    return UnknownBackend(f"there is no backend {name!r}; {hint}")


def _broken(point: EntryPoint, reason: str) -> BrokenPlugin:
    name, version = _distribution(point)
    return BrokenPlugin(
        f"backend {point.name!r} of {name} {version} is broken ({reason}); upgrade it or: pip uninstall {name}"
    )


def _words(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _check_api(point: EntryPoint, backend: Any) -> None:
    if not isinstance(backend, Backend):
        raise _broken(point, f"manyhands_backends() gave {type(backend).__name__}, not Backend")
    name, version = _distribution(point)
    if backend.plugin_api < PLUGIN_API:
        remedy = f"upgrade it: pip install -U {name}"
    elif backend.plugin_api > PLUGIN_API:
        remedy = "upgrade manyhands: pip install -U manyhands-core"
    else:
        return
    raise IncompatiblePlugin(
        f"backend {point.name!r} of {name} {version} is written for plugin interface {backend.plugin_api}, "
        f"this is {PLUGIN_API}; {remedy}"
    )


def _option_problem(backend: Backend, item: Any) -> str:
    name = ".".join(map(str, item["loc"]))
    if item["type"] == "extra_forbidden":
        return f"unknown option {name!r}; allowed are {', '.join(backend.options.model_fields)}"
    return f"option {name!r}: {item['msg']}, not {item['input']!r}"


def _lacks(executor: Any) -> str:
    wanted = ("capabilities", "start", "submit", "shutdown", "slots", "progress", "evict")
    return ", ".join(name for name in wanted if not hasattr(executor, name)) or "nothing by name"
