"""Every installed executor backend, as a stranger finds it: by its name, and by what its description says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

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


def names(wanted: Callable[[Backend], object] = lambda _: True) -> list[str]:
    """Of the backends that are like this."""
    return [name for name, backend in BACKENDS.items() if wanted(backend)]


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
    return get_executor(name, **offered(name, {"max_workers": WORKERS, **options}))


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
