"""Pipes in actors of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from manyhands.doors.futures import FuturesExecutor
from manyhands.engines.base import BaseEngine
from manyhands.engines.places import located
from manyhands.pool import Pool
from manyhands_ray import hand
from manyhands_ray.away import run_away
from manyhands_ray.executor import RayExecutor


class RayEngine(BaseEngine):
    """Runs each pipe in an actor of a Ray cluster, which reads its shard itself; one whose actor dies is run once more.

    Inputs and outputs are opened by the nodes on which the actors are: their paths must be the same there. A relative
    one is taken from the folder in which this program is.

    Args:
        n_workers: actors; None: as many as there are pipes. Where there is room for fewer, pipes wait.
        address: of the cluster, as for `RayExecutor`.
        resources: what each actor needs, as for `RayExecutor`.
        runtime_env: the environment of the actors, as for `RayExecutor`.

    Raises:
        OptionsError: a value is not one of these.
    """

    name: str = "ray"

    def __init__(
        self,
        n_workers: int | None = None,
        address: str | None = None,
        *,
        resources: Mapping[str, float] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
    ) -> None:
        options: dict[str, Any] = {"address": address, "resources": resources, "runtime_env": runtime_env}
        RayExecutor(**options)  # whatever is wrong with them is told now
        super().__init__("ray", n_workers, max_inflight=None, **options)

    def _make_workers(self, pipes: int) -> FuturesExecutor:
        return _Workers(Pool(self._workers or pipes, "ray", **self._options))


class _Workers(FuturesExecutor):
    """Runs pipes so that they need not see the engine's board, nor be in its folder."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ARG002  # run_pipe
        pipe, board, number = args
        return super().submit(run_away, located(pipe), board, number, hand.HERE, **kwargs)
