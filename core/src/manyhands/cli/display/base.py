"""What a display is."""

from __future__ import annotations

from typing import Protocol

from manyhands.report import FlowReport


class Display(Protocol):
    """Shows a run."""

    def update(self, report: FlowReport) -> None:
        """Called several times a second."""

    def close(self) -> None:
        """The run has ended; the terminal is the person's again. Idempotent."""

    def sum_up(self, report: FlowReport, notes: list[str]) -> None:
        """The closing summary.

        Args:
            report: final.
            notes: sentences about outputs and what to do.
        """


class NoDisplay:
    """Shows nothing."""

    def update(self, report: FlowReport) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def sum_up(self, report: FlowReport, notes: list[str]) -> None:
        """Nothing."""
