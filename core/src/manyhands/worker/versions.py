"""Whether workers that somebody else started run what this program runs.

    check_versions(client.run(versions, "manyhands-mine")[address], address, "manyhands-mine")

`versions` is called on the worker, by its name. Where that fails because manyhands is not installed there,
`check_versions(None, address)` says so.
"""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from manyhands.errors import WorkerInitError

_log: Final = logging.getLogger("manyhands")
_MISSING: Final = "not installed"


def versions(*plugins: str) -> dict[str, str]:
    """What runs here: `python`, `implementation`, and each distribution that both ends must have.

    Args:
        plugins: further distributions of that kind, such as that of the backend.
    """
    found = {"python": platform.python_version(), "implementation": sys.implementation.name}
    return found | {name: _installed(name) for name in (*_DISTRIBUTIONS, *plugins)}


def check_versions(theirs: Mapping[str, str] | None, where: str, *plugins: str) -> None:
    """Compare what a worker runs with what this process runs.

    Args:
        theirs: what `versions` gave there; None: it cannot be had, as manyhands is not installed.
        where: the worker's host or address, for messages.
        plugins: what `versions` was given there; of these both ends must have the same version.

    Raises:
        WorkerInitError: something differs that breaks runs: names the worker, and all that differs so.
    """
    if theirs is None:
        raise WorkerInitError(f"the worker at {where} cannot import manyhands: install manyhands-core there")
    mine = versions(*plugins)
    breaks = {**_BREAKS, **dict.fromkeys(plugins, _whole)}
    breaking = [_told(name, mine, theirs) for name in _differing(mine, theirs, breaks)]
    if breaking:
        remedy = "let all workers have the same versions as the program"
        raise WorkerInitError(f"the worker at {where} does not fit this program: {'; '.join(breaking)}; {remedy}")
    if harmless := [_told(name, mine, theirs) for name in _differing(mine, theirs, dict.fromkeys(mine, _whole))]:
        _log.warning("the worker at %s has other versions, which should do: %s", where, "; ".join(harmless))


def _installed(name: str) -> str:
    try:
        return _found(name)
    except PackageNotFoundError:
        return _MISSING


@cache  # many workers are compared with the same
def _found(name: str) -> str:
    return version(name)


def _whole(text: str) -> str:
    return text


def _major(text: str) -> str:
    return text.partition(".")[0]


def _minor(text: str) -> str:
    return ".".join(text.split(".")[:2])


# What must be equal: bytecode and the schemas of pydantic are of one minor version, formats of one major version.
_BREAKS: Final[Mapping[str, Callable[[str], str]]] = {
    "python": _minor,
    "implementation": _whole,
    "manyhands-core": _whole,
    "pydantic": _minor,
    "msgpack": _major,
    "cloudpickle": _major,
    "lz4": _major,
}
_DISTRIBUTIONS: Final = tuple(name for name in _BREAKS if name not in ("python", "implementation"))


def _differing(
    mine: Mapping[str, str], theirs: Mapping[str, str], parts: Mapping[str, Callable[[str], str]]
) -> Iterator[str]:
    for name, part in parts.items():
        if part(mine[name]) != part(theirs.get(name, _MISSING)):
            yield name


def _told(name: str, mine: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    return f"{name} {theirs.get(name, _MISSING)} there, {mine[name]} here"
