"""What workers ask of the nodes that they run on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

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
