"""What executors of `concurrent.futures` raise has types that their users know: ours are of both trees."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor

from manyhands.errors import ExecutorBroken, OptionsError, UsageError


class WorkersError(OptionsError, ValueError):
    """So many workers there cannot be."""


class ShutdownError(UsageError, RuntimeError):
    """A call was submitted to an executor that was shut down, or at the end of the program."""


class BrokenWorkers(ExecutorBroken, BrokenExecutor):
    """There are no workers any more: what calls fail with that had no result, and all that are submitted later."""
