"""What workers ask of the nodes that they run on."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import Any, Final

from ray.runtime_env import RuntimeEnv

from manyhands.cpus import cpus
from manyhands.errors import OptionsError

_NAMED: Final = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
"""Options of Ray that are resources, and how a node calls them."""


class Needs:
    """What each worker asks of the node that it runs on.

    Args:
        resources: `num_cpus`, `num_gpus`, `memory` in bytes, and resources by the names that nodes have them under.

    Raises:
        OptionsError: it is no mapping of names to numbers from 0.
    """

    def __init__(self, resources: Mapping[str, float] | None) -> None:
        given = {} if resources is None else resources
        if not isinstance(given, Mapping) or not all(isinstance(n, int | float) and n >= 0 for n in given.values()):
            raise OptionsError(f"resources must be names and numbers from 0, not {resources!r}")
        self._named: dict[str, float] = {"num_cpus": 1, **{k: v for k, v in given.items() if k in _NAMED}}
        self.custom: dict[str, float] = {name: number for name, number in given.items() if name not in _NAMED}

    @property
    def options(self) -> dict[str, Any]:
        """As Ray takes them for an actor."""
        return {**self._named, "resources": self.custom}

    def places(self, nodes: list[dict[str, Any]]) -> int:
        """How many workers there is room for.

        Args:
            nodes: as `ray.nodes` gives them.
        """
        wanted = {_NAMED[name]: number for name, number in self._named.items()} | self.custom
        wanted = {name: number for name, number in wanted.items() if number}
        alive = [node["Resources"] for node in nodes if node["Alive"]]
        if not wanted:
            return len(alive) * cpus()
        return sum(min(math.floor(has.get(name, 0) / number) for name, number in wanted.items()) for has in alive)

    def __str__(self) -> str:
        return ", ".join(f"{name} {number:g}" for name, number in (*self._named.items(), *self.custom.items()))


def checked_environment(runtime_env: Mapping[str, Any] | None) -> dict[str, Any]:
    """The environment of workers, as Ray takes it.

    Raises:
        OptionsError: it is no mapping, or a key is all but one that Ray knows. Others may be those of a plugin of the
            cluster: Ray passes what it does not know, and what nobody takes is lost without a word.
    """
    given = {} if runtime_env is None else runtime_env
    if not isinstance(given, Mapping):
        raise OptionsError(f"runtime_env must be names and values, not {runtime_env!r}")
    known = [name for name in RuntimeEnv.known_fields if not name.startswith("_")]
    for name in {str(name) for name in given} - RuntimeEnv.known_fields:
        if near := difflib.get_close_matches(name, known, n=1):
            raise OptionsError(f"runtime_env: Ray knows no {name!r}; did you mean {near[0]!r}?")
    return dict(given)
