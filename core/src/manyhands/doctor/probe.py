"""What is wrong with one plugin. Imports it and what it describes: runs in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import EntryPoint
from typing import Any, Final

from pydantic import BaseModel

from manyhands.doctor.isolated import words
from manyhands.plugins.spec import GROUP, PLUGIN_API, Backend, backends_of

_METHODS: Final = {
    "executor": ("start", "submit", "shutdown", "slots", "progress", "evict"),
    "engine": ("start", "wait", "shutdown", "is_running", "report", "pipe_reports"),
}

Fault = tuple[str, str]
"""`old`, `new` or `broken`, and what was found."""


def probe(name: str, value: str) -> dict[str, Any]:
    """The faults of an entry point, and the kinds of backend that it has.

    Args:
        name: of the entry point.
        value: what it leads to.
    """
    try:
        described = backends_of(name, EntryPoint(name, value, GROUP).load())
    except (Exception, SystemExit) as error:  # noqa: BLE001  # of others' code anything can come
        return {"faults": [("broken", f"importing {value} failed: {words(error)}")], "kinds": []}
    faults = [fault for backend in described for fault in _faults(name, backend)]
    kinds = [backend.kind for backend in described if isinstance(backend, Backend) and backend.name == name]
    if not (kinds or faults):
        names = ", ".join(repr(backend.name) for backend in described) or "none"
        faults = [("broken", f"its entry point is named {name!r}, the backends that it describes: {names}")]
    return {"faults": faults, "kinds": kinds}


def _faults(name: str, backend: Any) -> Iterator[Fault]:
    if not isinstance(backend, Backend):
        yield "broken", f"manyhands_backends() gave {type(backend).__name__}, not Backend"
    elif backend.plugin_api != PLUGIN_API:
        which = "old" if backend.plugin_api < PLUGIN_API else "new"
        yield which, f"it is written for plugin interface {backend.plugin_api}, this is {PLUGIN_API}"
    elif backend.name == name:
        yield from _broken_parts(backend)


def _broken_parts(backend: Backend) -> Iterator[Fault]:
    if not (isinstance(backend.options, type) and issubclass(backend.options, BaseModel)):
        yield "broken", f"its options {backend.options!r} are no pydantic model"
    if backend.kind not in _METHODS:
        yield "broken", f"{backend.kind!r} is neither an executor nor an engine"
        return
    try:
        lacks = [method for method in _METHODS[backend.kind] if not hasattr(_get(backend.load), method)]
        if backend.prepare is not None:
            _get(backend.prepare)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # as above
        yield "broken", f"importing what it describes failed: {words(error)}"
        return
    if lacks:
        yield "broken", f"{backend.load} is no {backend.kind}: it lacks {', '.join(lacks)}"


def _get(reference: str) -> Any:
    module, _, attribute = reference.partition(":")
    return getattr(import_module(module), attribute)
