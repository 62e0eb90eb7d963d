"""Every installed executor backend, as a stranger finds it: by its name, and by what its description says.

Those whose workers are a cluster's take part alone, where `MANYHANDS_CLUSTERS` is set: all on the same cluster of their
kind, which the fixture `clusters` starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import psutil
import pytest

from manyhands import Backend, Executor, get_executor
from manyhands.plugins.registry import installed

PLUGINS = sorted(file.parent.name for file in Path(__file__).parents[1].glob("plugins/*/pyproject.toml"))
FOUND = list(installed())
BACKENDS: dict[str, Backend] = {
    found.name: found.backend for found in FOUND if found.backend and found.backend.kind == "executor"
}

REFERENCE = "sync"
"""The one in which nothing is concurrent: what it makes of a job is what all must make of it."""

WORKERS = 3

CLUSTERS = "MANYHANDS_CLUSTERS" in os.environ

_addresses: dict[str, str] = {}
_workers: dict[str, Callable[[], list[psutil.Process]]] = {}


def names(wanted: Callable[[Backend], object] = lambda _: True, kind: str = "executor") -> list[str]:
    """Of the backends that are like this."""
    found = (each.backend for each in FOUND if each.backend and each.backend.kind == kind)
    taking_part = (backend for backend in found if backend.capabilities.distributed is CLUSTERS)
    return [backend.name for backend in taking_part if wanted(backend)]


OTHERS = names(lambda backend: backend.name != REFERENCE)
IN_OTHER_PROCESSES = names(lambda backend: backend.capabilities.crosses_process)
NOT_INLINE = names(lambda backend: not backend.capabilities.inline)

every_backend = pytest.mark.parametrize("name", names())
every_other_backend = pytest.mark.parametrize("name", OTHERS)


def offered(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that the backend has."""
    fields = BACKENDS[name].options.model_fields
    return {key: value for key, value in options.items() if key in fields}


def choices(name: str, option: str) -> list[Any]:
    """The values of an option that is one of a few; none if the backend does not have it."""
    field = BACKENDS[name].options.model_fields.get(option)
    return [] if field is None else list(_literals(field.annotation))


def make(name: str, **options: Any) -> Executor:
    """The backend with those of the options that it has, and a few workers."""
    return get_executor(name, **offered(name, {"max_workers": WORKERS, **cluster_of(name), **options}))


def cluster_of(name: str) -> dict[str, str]:
    """The options with which the backend finds the cluster of the tests."""
    return {"address": _addresses[name]} if name in _addresses else {}


def cluster_workers(name: str) -> list[psutil.Process]:
    """The processes of that cluster which run jobs."""
    return _workers[name]() if name in _workers else []


@contextmanager
def clusters() -> Iterator[None]:
    """A cluster for each backend that is to have one."""
    with ExitStack() as stack:
        if "dask" in names():
            from plugins.dask.tests.clusters import cluster

            made = stack.enter_context(cluster(WORKERS))
            _addresses["dask"], _workers["dask"] = made.address, made.processes
        if "ray" in names():
            from plugins.ray.tests.support import connected, head

            running = stack.enter_context(head(WORKERS))
            _addresses["ray"], _workers["ray"] = running.address, running.actors
            stack.enter_context(connected(running.address))
        stack.callback(_addresses.clear)
        yield


@dataclass(frozen=True)
class Variant:
    """A backend with an option that others do not have.

    Attributes:
        name: of the backend.
        options: what is set.
    """

    name: str
    options: Mapping[str, Any]

    def __str__(self) -> str:
        return "-".join([self.name, *map(str, self.options.values())])


def variants(*options: str, of: list[str] | None = None) -> list[Variant]:
    """Each backend with each value of each of these options that it has."""
    return [
        Variant(name, {option: value})
        for name in (names() if of is None else of)
        for option in options
        for value in choices(name, option)
        if value is not None
    ]


def _literals(annotation: Any) -> Iterator[Any]:
    for value in get_args(annotation):
        if get_args(value):
            yield from _literals(value)
        elif not isinstance(value, type):
            yield value
