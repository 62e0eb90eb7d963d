"""Pipes in worker processes of our own."""

from __future__ import annotations

from manyhands.engines.base import BaseEngine
from manyhands.processes.launch import StartMethod, known_start_method


class MultiProcessEngine(BaseEngine):
    """Runs each pipe in a worker process; one whose process dies is run once more.

    Args:
        n_workers: processes; None: as many as there are pipes. Where there are fewer, pipes wait.
        start_method: `forkserver` forks workers from a fresh interpreter; `spawn` starts a fresh one for each.

    Raises:
        OptionsError: `n_workers` is no number from 1, or there is no such `start_method`.
    """

    name: str = "multiprocessing"

    def __init__(self, n_workers: int | None = None, *, start_method: StartMethod = "forkserver") -> None:
        super().__init__("multiprocessing", n_workers, start_method=known_start_method(start_method))
