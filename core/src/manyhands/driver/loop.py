"""The driver: one loop for every executor.

    Feeder ─ chunks ─▶ Driver ─ submit ─▶ Executor
                         │ ◀─ futures ────┘
                         ├─ failed: blame.py says what runs again
                         └─ complete: Ledger gives them out in order ─▶ Sink

It runs in a thread of its own, never in the caller's event loop. Everything that can wake it (a finished future, a
chunk that was read, a request to stop) puts a token into one queue, so between two of
them it sleeps, at most for the time in which a trickling source has to be looked after.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Final

from manyhands.chunks import ChunkResult
from manyhands.driver.blame import Budget, Verdict, backoff, judge_crash, judge_error
from manyhands.driver.ledger import Attempt, Ledger
from manyhands.errors import ExecutorBroken, ProtocolError, RunAborted, RunError, UsageError, WorkerLost
from manyhands.events import ChunkDone, ChunkFailed, ChunkSubmitted, Observers, RecordDead, RunEnded, RunStarted
from manyhands.records import ErrorDetail, Outcome
from manyhands.report import FlowReport, RunControl, RunStatus
from manyhands.worker.batch import RecordsCancelled
from manyhands.worker.failures import describe, detail, words
from manyhands.worker.pipeline import ChunkRecords

if TYPE_CHECKING:
    from manyhands.driver.feeder import Feeder
    from manyhands.driver.sink import Sink
    from manyhands.executor import Executor
    from manyhands.worker.context import WorkerContext

WINDOW_BYTES: Final = 64 * 1024 * 1024
"""Chunks and results that wait to be written may take so much memory before reading pauses."""

_PATIENCE_SECONDS: Final = 10.0

Settled = Future[ChunkResult]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the driver does, the same on every backend.

    Attributes:
        ordered: output in input order; else as chunks are complete.
        crash_retries: how often the same records are tried again after their worker died, before the range is
            narrowed down or the record given up.
        error_retries: the same for other failures of the executor.
    """

    ordered: bool = True
    crash_retries: int = 1
    error_retries: int = 0

    def __post_init__(self) -> None:
        for name in ("crash_retries", "error_retries"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise UsageError(f"{name} must be a number from 0, not {value!r}")


class Driver:
    """One run.

    Args:
        executor: where chunks run.
        context: the job.
        feeder: where chunks come from.
        sink: where results go.
        report: kept up to date.
        control: what the person wants.
        options: order and retries.
        observers: told of every event.
        inbox: where wake-ups and finished futures arrive.
    """

    def __init__(
        self,
        executor: Executor,
        context: WorkerContext,
        *,
        feeder: Feeder,
        sink: Sink,
        report: FlowReport,
        control: RunControl,
        options: RunOptions,
        observers: Observers,
        inbox: SimpleQueue[Settled | None],
    ) -> None:
        self._executor = executor
        self._context = context
        self._feeder = feeder
        self._sink = sink
        self._report = report
        self._control = control
        self._observers = observers
        self._inbox = inbox
        self._budget = Budget(options.crash_retries, options.error_retries, context.replayable)
        self._ledger = Ledger(ordered=options.ordered)
        self._running: dict[Settled, Attempt] = {}
        self._waiting: list[Attempt] = []
        self._idle_since: float | None = None

    def run(self) -> None:
        """Run to the end, whatever it is. Never raises: the report has the exception."""
        self._report.begin()
        status, error = RunStatus.COMPLETED, None
        try:
            self._executor.start(self._context)
            self._observers.emit(RunStarted(self._report.executor))
            self._feeder.start()
            self._loop()
            self._feeder.close()
            self._executor.shutdown()
            self._check_abort()
            self._sink.publish()
            status = RunStatus.STOPPED if self._control.closing.is_set() else RunStatus.COMPLETED
        except RunAborted:
            status = RunStatus.ABORTED
        except BaseException as caught:  # noqa: BLE001  # it is in the report, and raised by Pipe.run
            status, error = RunStatus.FAILED, caught
        if status in (RunStatus.ABORTED, RunStatus.FAILED):
            error = self._clean_up(error)
        self._report.spend("read", self._feeder.seconds)
        self._report.conclude(status, error)
        # Before anyone who waits is let go: the run is not over while its observers are still called.
        self._observers.emit(RunEnded(str(status), self._report.counts))
        self._report.end(status, error)

    def _clean_up(self, error: BaseException | None) -> BaseException | None:
        """End everything; the first error is the one to tell."""
        self._control.cancelled.set()
        for step in (self._feeder.close, lambda: self._executor.shutdown(cancel=True), self._sink.discard):
            try:
                step()
            except Exception as further:  # noqa: BLE001  # the other steps must run
                error = error or further
        return error

    def _loop(self) -> None:
        while not self._through():
            self._check_abort()
            begun = self._submit_all()
            self._settle_all(wait=not begun)
            self._write_complete()
            if self._control.paused.is_set() and not len(self._ledger):
                self._report.pause()
        if not self._control.closing.is_set():
            self._feeder.check()

    def _through(self) -> bool:
        if len(self._ledger):
            return False
        return self._feeder.exhausted or self._control.closing.is_set()

    def _check_abort(self) -> None:
        if self._control.cancelled.is_set():
            raise RunAborted("the run was aborted")

    def _submit_all(self) -> bool:
        """Submit what the window and the executor's slots allow; True if anything was."""
        begun = False
        slots = self._executor.slots()
        if not isinstance(slots, int) or slots < 1:
            raise ProtocolError(f"slots() must be a number from 1, not {slots!r}")
        while len(self._running) < slots and not self._control.cancelled.is_set():
            attempt = self._next_attempt(slots)
            if attempt is None:
                break
            self._submit(attempt)
            begun = True
            if self._executor.capabilities.inline:
                break  # it has run already: write its result before the next
        return begun

    def _next_attempt(self, slots: int) -> Attempt | None:
        now = monotonic()
        for index, attempt in enumerate(self._waiting):
            if attempt.due <= now:
                return self._waiting.pop(index)
        if self._control.paused.is_set() or self._control.closing.is_set() or not self._has_room(slots):
            return None
        chunk = self._feeder.take()
        if chunk is None:
            return None
        self._ledger.open(chunk)
        self._report.read += chunk.size
        return Attempt(chunk)

    def _has_room(self, slots: int) -> bool:
        """Bounds what is read and not written, so that one slow chunk at the head does not let the rest pile up.

        Twice the slots and two chunks more, fewer where they exceed `WINDOW_BYTES`; the feeder holds two on top.
        """
        return not len(self._ledger) or (len(self._ledger) < 2 * slots + 2 and self._ledger.nbytes < WINDOW_BYTES)

    def _submit(self, attempt: Attempt) -> None:
        chunk = attempt.chunk
        self._observers.emit(ChunkSubmitted(chunk.sequence, chunk.lo, chunk.hi, chunk.attempt))
        future = self._executor.submit(chunk)
        if not isinstance(future, Future) or future in self._running:
            raise ProtocolError(f"submit() must return a new Future for each chunk, not {future!r}")
        self._running[future] = attempt
        future.add_done_callback(self._inbox.put)

    def _settle_all(self, *, wait: bool) -> None:
        for future in self._arrived(wait):
            attempt = self._running.pop(future, None)
            if attempt is not None:
                self._settle(future, attempt)

    def _arrived(self, wait: bool) -> Iterator[Settled]:
        """Futures that are done; waits a little for the first token if asked to."""
        try:
            token = self._inbox.get(timeout=self._feeder.patience) if wait else self._inbox.get_nowait()
            while True:
                if token is not None:
                    yield token
                token = self._inbox.get_nowait()
        except Empty:
            return

    def _settle(self, future: Settled, attempt: Attempt) -> None:
        if future.cancelled():
            self._hand_back(attempt)
            return
        self._idle_since = None
        error = future.exception()
        if error is None:
            self._accept(future.result(), attempt)
        elif isinstance(error, WorkerLost):
            self._tell_failed(attempt, error, began=True)
            self._follow(judge_crash(attempt, error, self._budget), attempt, error)
        elif isinstance(error, RecordsCancelled):
            self._control.cancelled.set()
        elif isinstance(error, RunError) or not isinstance(error, Exception):
            raise error
        else:
            self._tell_failed(attempt, error, began=True)
            self._follow(judge_error(attempt, self._budget), attempt, error)

    def _accept(self, result: ChunkResult, attempt: Attempt) -> None:
        self._ledger.settle(result, attempt.chunk)
        counts = (result.ok, result.rejected, result.dropped)
        self._observers.emit(ChunkDone(result.sequence, result.lo, result.hi, *counts, result.worker, result.stages))

    def _hand_back(self, attempt: Attempt) -> None:
        """It had not begun, so nobody is to blame; but an executor that begins nothing is of no use."""
        self._tell_failed(attempt, ProtocolError("handed back before it began"), began=False)
        now = monotonic()
        if self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since > _PATIENCE_SECONDS:
            raise ExecutorBroken(f"for {_PATIENCE_SECONDS:g} seconds the executor handed back every chunk and ran none")
        elif attempt.returned:
            attempt.due = now + backoff(1)  # its workers may be about to start
        attempt.returned = True
        attempt.chunk = attempt.chunk.narrowed(attempt.chunk.lo, attempt.chunk.hi)
        self._waiting.append(attempt)

    def _follow(self, verdict: Verdict, attempt: Attempt, error: Exception) -> None:
        for again in verdict.again:
            if again.chunk.size == attempt.chunk.size:
                again.due = monotonic() + backoff(again.crashes + again.errors)
            self._waiting.append(again)
        if verdict.given_up is not None:
            self._give_up(attempt, *verdict.given_up, error)

    def _give_up(self, attempt: Attempt, lo: int, hi: int, error: Exception) -> None:
        """Write the error records here: their worker cannot."""
        chunk, dead = attempt.chunk, isinstance(error, WorkerLost)
        outcome = Outcome.DEAD if dead else Outcome.REJECTED
        records = ChunkRecords(chunk.narrowed(lo, hi), self._context)
        reasons = [_death(error)] if isinstance(error, WorkerLost) else describe(error)
        lost = [records.error_record(index, _raw(records, index), reasons, outcome=outcome) for index in range(lo, hi)]
        encoder = self._sink.error_encoder
        errors = lost if encoder is None else encoder.join([encoder.encode(record) for record in lost])
        result = ChunkResult(chunk.sequence, lo, hi, rejected=0 if dead else hi - lo, errors=errors)
        self._ledger.bury(result)
        if isinstance(error, WorkerLost):
            self._tell_dead(attempt, lo, hi, error)

    def _tell_dead(self, attempt: Attempt, lo: int, hi: int, error: WorkerLost) -> None:
        stage = error.progress.stage if error.progress else None
        for index in range(lo, hi):
            position = attempt.chunk.start + index
            self._observers.emit(RecordDead(position, error.cause, stage, attempt.chunk.attempt + 1))

    def _tell_failed(self, attempt: Attempt, error: Exception, *, began: bool) -> None:
        chunk = attempt.chunk
        self._observers.emit(ChunkFailed(chunk.sequence, chunk.lo, chunk.hi, chunk.attempt, str(error), began))

    def _write_complete(self) -> None:
        for entry in self._ledger.pop_complete():
            begun = perf_counter()
            parts = entry.in_order()
            self._sink.write(parts)
            for part in parts:
                self._report.add(part)
            self._report.spend("write", perf_counter() - begun)
        self._report.fraction = self._feeder.consumed(self._report.total_processed)


def _raw(records: ChunkRecords, index: int) -> Any:
    try:
        return records.pristine(index)
    except Exception as error:  # noqa: BLE001  # what kept the worker from reading it keeps us from it
        return f"<unreadable: {words(error)}>"


def _death(lost: WorkerLost) -> ErrorDetail:
    """The same words on every backend and in every run: no pid, no time."""
    return detail("WorkerLost", str(lost))
