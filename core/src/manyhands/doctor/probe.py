"""What is wrong with one plugin. Imports it and what it describes: runs in a process of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import thread as pools
from importlib import import_module
from importlib.metadata import EntryPoint
from time import monotonic
from typing import Any, Final

from manyhands.doctor.isolated import words
from manyhands.plugins.spec import GROUP, Backend, backends_of
from manyhands.plugins.verdict import Fault, fault_of

_METHODS: Final = {
    "executor": ("start", "submit", "shutdown", "slots", "progress", "evict"),
    "engine": ("start", "wait", "shutdown", "is_running", "report", "pipe_reports"),
}
_SECONDS: Final = 1.0
"""How long a thread that an import has started may go on."""


def probe(name: str, value: str) -> dict[str, Any]:
    """The faults of an entry point, and the kinds of backend that it has.

    Args:
        name: of the entry point.
        value: what it leads to.
    """
    before = set(threading.enumerate())
    try:
        described = backends_of(name, EntryPoint(name, value, GROUP).load())
    except (Exception, SystemExit) as error:  # noqa: BLE001  # of others' code anything can come
        return {"faults": [("broken", f"importing {value} failed: {words(error)}")], "kinds": []}
    faults = [fault for backend in described for fault in _faults(name, backend)]
    faults += _threads(before)
    kinds = [backend.kind for backend in described if isinstance(backend, Backend) and backend.name == name]
    if not (kinds or faults):
        names = ", ".join(repr(backend.name) for backend in described) or "none"
        faults = [("broken", f"its entry point is named {name!r}, the backends that it describes: {names}")]
    return {"faults": faults, "kinds": kinds}


def _faults(name: str, backend: Any) -> Iterator[Fault]:
    fault = fault_of(backend)
    if fault is not None:
        yield fault
    elif backend.name == name:
        yield from _broken_parts(backend)


def _threads(before: set[threading.Thread]) -> Iterator[Fault]:
    """Those that importing has started and that Python would wait for at the end of every command."""
    end = monotonic() + _SECONDS
    for thread in set(threading.enumerate()) - before:
        in_pool = thread in pools._threads_queues  # noqa: SLF001  # nothing public tells these, which Python ends itself
        if not (thread.daemon or in_pool):
            thread.join(max(end - monotonic(), 0.0))
            if thread.is_alive():
                yield "broken", f"importing it leaves the thread {thread.name!r} running, so that no command ends"


def _broken_parts(backend: Backend) -> Iterator[Fault]:
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
