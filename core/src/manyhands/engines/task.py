"""What a worker of an engine does: it runs a pipe and says how far it is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from manyhands.engines.board import Board, Status
from manyhands.errors import UnpicklableError
from manyhands.hooks import BaseHook
from manyhands.processes.owner import Owner
from manyhands.report import RunStatus
from manyhands.worker import pickles

if TYPE_CHECKING:
    from manyhands.pipe import Pipe
    from manyhands.report import FlowReport

_BEAT_SECONDS: Final = 0.1


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
    worker, adapter = Owner.this(), pipe.input_adapter
    first = max(adapter.position, adapter.skip_rows)
    begun = Status(heartbeat=time.monotonic_ns(), pid=worker.pid, begun=worker.start, position=first)
    with Board(board) as shared:
        shared.write(number, begun)  # what a worker wrote that is dead is no longer so
        report = pipe.start()
        while not report.wait(_BEAT_SECONDS):
            position = _position(report, shared.is_watched, first)
            shared.write(number, Status.of(report, worker, position))
            if shared.is_cancelled:
                report.abort()
        shared.write(number, Status.of(report, worker, first + report.total_processed))
    return Outcome(report.status, report.counts, dict(report.stages), report.exception)


def _position(report: FlowReport, is_watched: bool, first: int) -> int:
    views = report.look() if is_watched else ()
    positions = [view.position for view in views if view.position is not None]
    return min(positions, default=first + report.total_processed)


def refusal(pipe: Pipe, number: int) -> UnpicklableError | None:
    """The error that names which part of a pipe cannot be sent to a worker; None: there is no such part.

    Args:
        pipe: which.
        number: of it, from 0.
    """
    for name, value in pipe.__getstate__().items():
        for part in value if isinstance(value, list) else [value]:
            try:
                pickles.dumps(part)
            except Exception as error:  # noqa: BLE001  # whatever its own code raises
                what = f"{type(part).__name__} ({name} of pipe {number + 1})"
                advice = "; make it in the hook's setup" if isinstance(part, BaseHook) else ""
                refused = UnpicklableError(f"{what} cannot be sent to a worker process: {pickles.named(error)}{advice}")
                refused.__cause__ = error
                return refused
    return None
