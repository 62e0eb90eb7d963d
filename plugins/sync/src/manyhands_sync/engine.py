"""Pipes one after another."""

from __future__ import annotations

from manyhands.engines.base import BaseEngine


class SequentialEngine(BaseEngine):
    """Runs one pipe after the other in this process: nothing is concurrent, everything is easy to debug.

    Args:
        n_workers: for the sake of other engines' callers: it is always one pipe at a time.
    """

    name: str = "sync"

    def __init__(self, n_workers: int | None = None) -> None:
        super().__init__("sync", n_workers)
