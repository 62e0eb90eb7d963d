"""Pipes in worker processes, each seen through a cell of shared memory."""

from __future__ import annotations

from manyhands.engines.base import BaseEngine
from manyhands.processes.launch import StartMethod, known_start_method


class ZoosyncPoolEngine(BaseEngine):
    """Runs each pipe in a worker of the shared-memory pool; one whose worker dies, or is stuck, is run once more.

    Args:
        n_workers: processes; None: as many as there are pipes. Where there are fewer, pipes wait.
        stuck_timeout: seconds after which a worker is killed that says nothing, or that is still at the same record; a
            batch of hooks counts as one. None: never.
        start_method: `forkserver` forks workers from a fresh interpreter; `spawn` starts a fresh one for each.

    Raises:
        OptionsError: `n_workers` is no number from 1, `stuck_timeout` none above 0, or there is no such `start_method`.
    """

    name: str = "zoosync"

    def __init__(
        self,
        n_workers: int | None = None,
        *,
        stuck_timeout: float | None = None,
        start_method: StartMethod = "forkserver",
    ) -> None:
        start_method = known_start_method(start_method)
        super().__init__("zoosync", n_workers, stuck_timeout=stuck_timeout, start_method=start_method)
