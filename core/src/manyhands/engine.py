"""The contract of an engine: whole pipes side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from manyhands.pipe import Pipe
    from manyhands.report import FlowReport


@runtime_checkable
class Engine(Protocol):
    """Runs whole pipes, each reading its own shard, and reports live progress. `BaseEngine` is most of one."""

    def start(self, pipes: Sequence[Pipe]) -> None:
        """Start all pipes and return.

        Each pipe is run by one worker; where there are fewer workers, pipes wait. One that fails ends the others, and
        the run fails with its exception. One whose worker dies runs once more, from its beginning; if it kills that
        one as well, the run fails with a `RunError` that names it by its number from 1 and the cause of the death.

        Args:
            pipes: each may be made only when it is taken, which may take time: take them once, in order.

        Raises:
            UsageError: some run already, or there is none.
        """

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all pipes have ended; False when `timeout` seconds passed first (one deadline for all)."""

    def shutdown(self, timeout: float | None = None) -> None:
        """End everything: what still runs is aborted and publishes nothing. Idempotent; leaves nothing behind.

        Args:
            timeout: seconds that pipes may take to end by themselves, where they can be killed otherwise.
        """

    @property
    def is_running(self) -> bool:
        """Some pipe has not ended."""

    @property
    def report(self) -> FlowReport:
        """All pipes together: the sums, live. Its `abort` ends the run."""

    @property
    def pipe_reports(self) -> Sequence[FlowReport]:
        """One report for each pipe, in the order of `start`: live, and each ends with its pipe."""
