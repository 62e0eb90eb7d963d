"""What a worker of an engine does: it runs a pipe and says how far it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from manyhands.engines.board import Board, Status
from manyhands.report import RunStatus

if TYPE_CHECKING:
    from manyhands.pipe import Pipe
    from manyhands.report import FlowReport

_BEAT_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a pipe ended.

    Attributes:
        status: `completed`, `failed` or `aborted`.
        counts: records read, and how many had each outcome.
        stages: seconds in each stage.
        exception: why it failed.
    """

    status: RunStatus
    counts: dict[str, int]
    stages: dict[str, float] = field(default_factory=dict)
    exception: BaseException | None = None

    def put_into(self, report: FlowReport) -> None:
        """Let a report end so."""
        if report.start_time is None:
            report.begin()
        counts = self.counts
        report.read, report.ok, report.rejected = counts["in"], counts["ok"], counts["rejected"]
        report.dead, report.dropped = counts["dead"], counts["dropped"]
        for stage, seconds in self.stages.items():
            report.spend(stage, seconds)
        report.end(self.status, self.exception)


def run_pipe(pipe: Pipe, board: Path, number: int) -> Outcome:
    """Run a pipe to its end, whatever that is.

    Args:
        pipe: which.
        board: the file in which it says how far it is.
        number: of the pipe.
    """
    with Board(board) as shared:
        report = pipe.start()
        while not report.wait(_BEAT_SECONDS):
            shared.write(number, Status.of(report))
            if shared.is_cancelled:
                report.abort()
        shared.write(number, Status.of(report))
    return Outcome(report.status, report.counts, dict(report.stages), report.exception)
