"""One run of an engine: each pipe is a call that a worker makes, its report travels through a board.

pipes ─▶ thread ─ calls ─▶ workers, each with a pipe
reports ◀─ board ◀─────────┘
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future
from concurrent.futures import wait as wait_for
from time import monotonic
from typing import TYPE_CHECKING, Final, Self

from manyhands.engines.board import Board
from manyhands.engines.task import Outcome, run_pipe
from manyhands.errors import ManyhandsError, RunError, WorkerLost
from manyhands.report import FlowReport, RunControl, RunStatus

if TYPE_CHECKING:
    from manyhands.doors.futures import FuturesExecutor
    from manyhands.pipe import Pipe

_LOOK_SECONDS: Final = 0.05
_COUNTS: Final = ("read", "ok", "rejected", "dead", "dropped")


class EngineRun:
    """Pipes and the workers that run them.

    Args:
        name: of the engine.
        pipes: what runs; each is taken when a worker is to have it.
        workers: ended with the run.

    Raises:
        OSError: there is no room for the board.
    """

    def __init__(self, name: str, pipes: Sequence[Pipe], workers: FuturesExecutor) -> None:
        self._pipes = pipes
        self._workers = workers
        self._board = Board.create(len(pipes))
        self._lock = threading.Lock()
        self._running: dict[Future[Outcome], int] = {}
        self._error: BaseException | None = None
        self._grace = 0.0
        self._deadline: float | None = None
        self._control = RunControl(threading.Event())
        self._control.wake = self._pass_on
        self.report: FlowReport = FlowReport(name, self._control, "engine")
        self.reports: list[FlowReport] = [FlowReport(name, self._control, "engine") for _ in pipes]
        self._thread = threading.Thread(target=self._drive, name="manyhands-engine", daemon=True)

    def start(self, grace: float) -> None:
        """Run in a thread of its own.

        Args:
            grace: seconds that pipes may take to end by themselves when the run is aborted.
        """
        self._grace = grace
        self.report.begin()
        self._thread.start()

    def end(self, grace: float) -> None:
        """Abort what runs, and wait.

        Args:
            grace: as for `start`.
        """
        self._grace = grace
        self.report.abort()
        self._thread.join()

    def look(self) -> Self:
        """Take over what is on the board."""
        with self._lock:
            if not self.report.is_finished:
                for number, report in enumerate(self.reports):
                    self._read(number, report)
                self._add_up()
        return self

    def _pass_on(self) -> None:
        with self._lock:
            if self._control.cancelled.is_set() and not self.report.is_finished:
                self._board.cancel()

    def _read(self, number: int, report: FlowReport) -> None:
        status = self._board.read(number)
        if status.heartbeat and not report.is_finished:
            if report.start_time is None:
                report.begin()
            for name in _COUNTS:
                setattr(report, name, getattr(status, name))

    def _add_up(self) -> None:
        for name in _COUNTS:
            setattr(self.report, name, sum(getattr(report, name) for report in self.reports))

    def _drive(self) -> None:
        try:
            self._submit_all()
            while self._running:
                self._settle_some()
        except BaseException as error:  # noqa: BLE001  # it is in the report
            self._fail(error)
        self._workers.shutdown(cancel_futures=True)
        self._conclude()

    def _submit_all(self) -> None:
        for number, pipe in enumerate(self._pipes):
            if self._control.cancelled.is_set():
                return
            self._running[self._workers.submit(run_pipe, pipe, self._board.path, number)] = number

    def _settle_some(self) -> None:
        done, _ = wait_for(self._running, _LOOK_SECONDS, FIRST_COMPLETED)
        self.look()
        for future in done:
            self._settle(self._running.pop(future), future)
        if self._control.cancelled.is_set():
            self._deadline = self._deadline or monotonic() + self._grace
            if monotonic() > self._deadline:
                self._workers.kill_workers()

    def _settle(self, number: int, future: Future[Outcome]) -> None:
        report = self.reports[number]
        if future.cancelled():
            report.end(RunStatus.ABORTED)
            return
        error = future.exception()
        if error is not None:
            error = self._reason(number, error)
            outcome = Outcome(RunStatus.FAILED, report.counts, exception=error)
        else:
            outcome = future.result()
        with self._lock:
            outcome.put_into(report)
        self.report.workers[f"pipe {number + 1}"] = {"chunks": 1, "records": report.total_processed}
        for stage, seconds in outcome.stages.items():
            self.report.spend(stage, seconds)
        if outcome.exception is not None:
            self._fail(outcome.exception)

    def _reason(self, number: int, error: BaseException) -> BaseException:
        if not isinstance(error, WorkerLost):
            return error
        which = f"pipe {number + 1} of {len(self.reports)}"
        reason = RunError(
            f"{which} cannot be run: its worker died twice ({error.cause}); to find the record that kills, "
            "let an executor run the pipe, such as multiprocessing"
        )
        reason.__cause__ = error
        return reason

    def _fail(self, error: BaseException) -> None:
        """The first failure is the one to tell; then the other pipes are to end."""
        if not self._control.cancelled.is_set() or not isinstance(error, ManyhandsError):
            self._error = self._error or error
        self.report.abort()

    def _conclude(self) -> None:
        aborted = self._control.cancelled.is_set()
        status = RunStatus.FAILED if self._error else RunStatus.ABORTED if aborted else RunStatus.COMPLETED
        for report in self.reports:
            report.end(RunStatus.ABORTED)  # those that were never begun
        with self._lock:
            self._add_up()
            self.report.conclude(status, self._error)
            self._board.remove()
            self._board.close()
            self.report.end(status, self._error)
