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

from manyhands.doors.errors import BrokenWorkers
from manyhands.engines.board import Board
from manyhands.engines.lookout import Lookout
from manyhands.engines.task import Outcome, refusal, run_pipe
from manyhands.errors import ManyhandsError, RunError, UnpicklableError, WorkerLost
from manyhands.live import WorkerView
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
        stuck_timeout: seconds after which a worker that does not get on is killed; None: never.

    Raises:
        OSError: there is no room for the board.
    """

    def __init__(
        self, name: str, pipes: Sequence[Pipe], workers: FuturesExecutor, stuck_timeout: float | None = None
    ) -> None:
        self._pipes = pipes
        self._workers = workers
        self._board = Board.create(len(pipes))
        self._lock = threading.Lock()
        self._running: dict[Future[Outcome], int] = {}
        self._error: BaseException | None = None
        self._lookouts = [Lookout(f"pipe {n + 1} of {len(pipes)}", stuck_timeout) for n in range(len(pipes))]
        self._finds_stuck = stuck_timeout is not None
        self._grace = 0.0
        self._deadline: float | None = None
        self._control = RunControl(threading.Event())
        self._control.wake = self._pass_on
        self.report: FlowReport = FlowReport(name, self._control, "engine")
        self.reports: list[FlowReport] = [FlowReport(name, self._control, "engine") for _ in range(len(pipes))]
        self.report.show(self._views, len(pipes))
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
        self._deadline = monotonic() + grace  # also when it was aborted before, and would end sooner or later
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

    def _views(self) -> Sequence[WorkerView]:
        """The pipes, each as a worker."""
        with self._lock:
            if not self.report.is_finished:
                self._board.look()
        self.look()
        return [self._view(number, report) for number, report in enumerate(self.reports)]

    def _view(self, number: int, report: FlowReport) -> WorkerView:
        status, position = self._lookouts[number].status, None
        failed, reached = report.error_count, 0
        state = str(report.status) if report.is_finished else status.state
        if status.heartbeat and not report.is_finished:
            reached = max(status.reached - report.total_processed, 0)
            position = status.position
        memory, pid = (0, None) if report.is_finished else (status.ram_bytes, status.pid or None)
        done = report.total_processed - failed
        return WorkerView(f"pipe {number + 1}", state, done, failed, reached, position, memory, pid)

    def _pass_on(self) -> None:
        with self._lock:
            if self._control.cancelled.is_set() and not self.report.is_finished:
                self._board.cancel()

    def _read(self, number: int, report: FlowReport) -> None:
        status = self._board.read(number)
        self._lookouts[number].see(status)
        if status.heartbeat and not report.is_finished:
            if report.start_time is None:
                report.begin()
            for name in _COUNTS:
                setattr(report, name, getattr(status, name))
            report.reached, report.fraction = status.reached, status.fraction

    def _add_up(self) -> None:
        for name in _COUNTS:
            setattr(self.report, name, sum(getattr(report, name) for report in self.reports))
        self.report.reached = sum(max(report.reached, report.total_processed) for report in self.reports)
        self.report.fraction = self._fraction()

    def _fraction(self) -> float | None:
        """Pipes count alike: shards are equal shares."""
        fractions = [_fraction(report) for report in self.reports]
        known = [fraction for fraction in fractions if fraction is not None]
        return sum(known) / len(fractions) if len(known) == len(fractions) else None

    def _drive(self) -> None:
        # Each also when the one before failed: pipes that run are to end, or to be ended.
        for step in (self._submit_all, self._settle_all, self._dismiss):
            try:
                step()
            except BaseException as error:  # noqa: BLE001  # it is in the report
                self._fail(error)
        self._conclude()

    def _settle_all(self) -> None:
        while self._running:
            self._settle_some(_LOOK_SECONDS)

    def _dismiss(self) -> None:
        self._workers.shutdown(cancel_futures=True)

    def _submit_all(self) -> None:
        for number, pipe in enumerate(self._pipes):
            if self._control.cancelled.is_set():
                return
            self._lookouts[number].path = getattr(getattr(pipe, "input_adapter", None), "path", None)
            self._running[self._workers.submit(run_pipe, pipe, self._board.path, number)] = number
            self._settle_some(0.0)  # an inline worker has just run it; taking the next pipe may take long

    def _settle_some(self, seconds: float) -> None:
        done, _ = wait_for(self._running, seconds, FIRST_COMPLETED)
        self.look()
        for number in self._running.values():
            self._lookouts[number].tell_lost()
        for future in done:
            self._settle(self._running.pop(future), future)
        if self._control.cancelled.is_set():
            self._deadline = self._deadline or monotonic() + self._grace
            if monotonic() > self._deadline:
                self._workers.kill_workers()
        else:
            self._check()

    def _check(self) -> None:
        """See that workers go on."""
        if self._finds_stuck:
            self._board.look()  # so that they say which record they are at, within what is counted as a whole
        for number in self._running.values():
            self._lookouts[number].check()

    def _settle(self, number: int, future: Future[Outcome]) -> None:
        report = self.reports[number]
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or (isinstance(error, BrokenWorkers) and self._control.cancelled.is_set()):
            report.end(RunStatus.ABORTED)  # it had not begun, or did not end by itself
            return
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
        if isinstance(error, UnpicklableError):
            return refusal(self._pipes[number], number) or error
        if isinstance(error, BrokenWorkers) and isinstance(error.__cause__, ManyhandsError):
            return error.__cause__  # such as that no worker could be started, which says all
        if not isinstance(error, WorkerLost):
            return error
        which = f"pipe {number + 1} of {len(self.reports)}"
        reason = RunError(f"{which} cannot be run: {self._lookouts[number].account(str(error.cause))}")
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
            try:
                self._board.remove()
                self._board.close()
            finally:
                self.report.end(status, self._error)  # last, and in any case: somebody waits for it


def _fraction(report: FlowReport) -> float | None:
    if report.start_time is None:
        return 0.0
    return 1.0 if report.is_finished else report.fraction
