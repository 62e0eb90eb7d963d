"""The contract of an engine: whole pipes side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from manyhands.pipe import Pipe
    from manyhands.report import FlowReport


@runtime_checkable
class Engine(Protocol):
    """Runs whole pipes, each reading its own shard, and reports live progress."""

    def start(self, pipes: Sequence[Pipe]) -> None:
        """Start all pipes and return."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all pipes have ended; False when `timeout` seconds passed first (one deadline for all)."""

    def shutdown(self, timeout: float | None = None) -> None:
        """End everything. Idempotent; leaves nothing behind."""

    @property
    def is_running(self) -> bool:
        """Some pipe has not ended."""

    @property
    def report(self) -> FlowReport:
        """All pipes together."""

    @property
    def pipe_reports(self) -> Sequence[FlowReport]:
        """One report for each pipe, in the order of `start`."""
