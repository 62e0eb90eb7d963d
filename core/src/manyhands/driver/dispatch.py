"""Keeps an executor busy and sees that every record it was given comes back once, or is given up.

    take() ─ chunks ─▶ submit ─▶ Executor
                        │ ◀─ futures ─┘
                        ├─ failed or late: blame.py says what runs again
                        └─ complete: Ledger gives them out in order

Whoever owns a dispatcher calls it from one thread. Everything that can wake that thread (a finished future, a chunk
that was read, a request to stop) puts a token into one queue, so between two of them it sleeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Final

from manyhands.chunks import Chunk, ChunkResult
from manyhands.driver.blame import Budget, Verdict, backoff, judge_crash, judge_error, judge_timeout
from manyhands.driver.ledger import Attempt, Ledger
from manyhands.driver.watch import Watch, same_place
from manyhands.errors import (
    ExecutorBroken,
    ProtocolError,
    RecordTimeout,
    RunAborted,
    RunError,
    WorkerLost,
)
from manyhands.events import ChunkDone, ChunkFailed, ChunkSubmitted, Observers, RecordDead
from manyhands.worker.plan import RecordsCancelled

if TYPE_CHECKING:
    from manyhands.driver.options import RunOptions
    from manyhands.executor import Executor, Progress

_PATIENCE_SECONDS: Final = 10.0

Settled = Future[ChunkResult]
Inbox = SimpleQueue[Settled | None]
Take = Callable[[], Chunk | None]
Bury = Callable[[Chunk, int, int, Exception], ChunkResult]
"""Makes the result of records that are given up: of this chunk, from one index to another, for this reason."""


class Dispatcher:
    """The chunks that an executor has or must still get.

    Args:
        executor: started already when the first chunk is submitted.
        options: order, retries and time limits.
        bury: makes the result of records that are given up.
        replayable: records may run again.
        observers: told of every event.
        inbox: where wake-ups and finished futures arrive.
        on_result: called with each result as it comes, in whatever order; unlike an observer it must not raise.
    """

    def __init__(
        self,
        executor: Executor,
        options: RunOptions,
        bury: Bury,
        *,
        replayable: bool,
        observers: Observers,
        inbox: Inbox,
        on_result: Callable[[ChunkResult], None] | None = None,
    ) -> None:
        self._executor = executor
        self._bury = bury
        self._observers = observers
        self._inbox = inbox
        self._on_result = on_result
        self._budget = Budget(options.crash_retries, options.error_retries, options.timeout_retries, replayable)
        self._watch = Watch(executor, options)
        self._running: dict[Settled, Attempt] = {}
        self._evicted: dict[Settled, tuple[RecordTimeout, Progress | None]] = {}
        self._fenced: set[Settled] = set()
        self._waiting: list[Attempt] = []
        self._idle_since: float | None = None
        self.ledger: Ledger = Ledger(ordered=options.ordered)

    def submit_all(self, take: Take) -> bool:
        """Submit what the executor's slots allow; True if anything was.

        Args:
            take: gives the next chunk that is not yet in the ledger, or None.
        """
        begun = False
        while self._has_slot:
            attempt = self._next_attempt(take)
            if attempt is None:
                break
            self._submit(attempt)
            begun = True
            if self._executor.capabilities.inline:
                break  # it has run already: write its result before the next
        return begun

    @property
    def running(self) -> Mapping[Settled, Attempt]:
        """What was submitted and is not done."""
        return self._running

    @property
    def _has_slot(self) -> bool:
        return len(self._running) + len(self._fenced) < self.slots

    @property
    def slots(self) -> int:
        """Chunks worth having in flight now.

        Raises:
            ProtocolError: the executor does not say a number from 1.
        """
        slots = self._executor.slots()
        if not isinstance(slots, int) or slots < 1:
            raise ProtocolError(f"slots() must be a number from 1, not {slots!r}")
        return slots

    def settle_all(self, timeout: float | None) -> None:
        """Take what has arrived.

        Args:
            timeout: seconds to wait for something at most; 0 does not wait, None waits until something comes.

        Raises:
            RunError: the executor can run nothing more, or broke its contract.
        """
        if self._watch.period is not None and self._running:
            timeout = self._watch.period if timeout is None else min(timeout, self._watch.period)
        if self._waiting and self._has_slot:
            due = max(min(attempt.due for attempt in self._waiting) - monotonic(), 0.0)
            timeout = due if timeout is None else min(timeout, due)
        for future in self._arrived(timeout):
            self._fenced.discard(future)
            attempt = self._running.pop(future, None)
            if attempt is not None:
                self._settle(future, attempt)
        self._evict_overdue()

    def abandon(self) -> None:
        """Forget everything under way: its results are ignored."""
        self._fenced.update(self._running)
        self._running.clear()
        self._waiting.clear()
        self.ledger.clear()

    def _next_attempt(self, take: Take) -> Attempt | None:
        now = monotonic() if self._waiting else 0.0
        for index, attempt in enumerate(self._waiting):
            if attempt.due <= now:
                return self._waiting.pop(index)
        chunk = take()
        if chunk is None:
            return None
        self.ledger.open(chunk)
        return Attempt(chunk)

    def _submit(self, attempt: Attempt) -> None:
        chunk = attempt.chunk
        self._observers.emit(ChunkSubmitted, chunk.sequence, chunk.lo, chunk.hi, chunk.attempt)
        future = self._executor.submit(chunk)
        if not isinstance(future, Future) or future in self._running:
            raise ProtocolError(f"submit() must return a new Future for each chunk, not {future!r}")
        self._running[future] = attempt
        future.add_done_callback(self._inbox.put)

    def _arrived(self, timeout: float | None) -> Iterator[Settled]:
        """Futures that are done."""
        try:
            token = self._inbox.get(timeout=timeout) if timeout != 0 else self._inbox.get_nowait()
            while True:
                if token is not None:
                    yield token
                token = self._inbox.get_nowait()
        except Empty:
            return

    def _settle(self, future: Settled, attempt: Attempt) -> None:
        evicted = self._evicted.pop(future, None)
        if future.cancelled():
            self._hand_back(attempt)
            return
        self._idle_since = None
        error = future.exception()
        if error is None:
            self._accept(future.result(), attempt)
        elif evicted is not None and isinstance(error, WorkerLost):
            self._settle_evicted(attempt, error, *evicted)
        elif isinstance(error, RecordsCancelled):
            raise RunAborted("the run was aborted")
        elif isinstance(error, RunError) or not isinstance(error, Exception):
            raise error
        else:
            self._judge(attempt, error)

    def _settle_evicted(self, attempt: Attempt, lost: WorkerLost, late: RecordTimeout, seen: Progress | None) -> None:
        """It was killed for being late; if it had moved on when the kill came, nobody is to blame."""
        late.worker = lost.worker
        moved = late.limit == "record_timeout" and not (lost.progress is None or same_place(lost.progress, seen))
        if moved and self._budget.replayable:
            self._tell_failed(attempt, late, began=True)
            self._waiting.append(attempt.again())
        else:
            self._judge(attempt, late)

    def _accept(self, result: ChunkResult, attempt: Attempt) -> None:
        self.ledger.settle(result, attempt.chunk)
        if self._on_result is not None:
            self._on_result(result)
        counts = (result.ok, result.rejected, result.dropped)
        self._observers.emit(ChunkDone, result.sequence, result.lo, result.hi, *counts, result.worker, result.stages)

    def _hand_back(self, attempt: Attempt) -> None:
        """It had not begun, so nobody is to blame; but an executor that begins nothing is of no use."""
        self._tell_failed(attempt, ProtocolError("handed back before it began"), began=False)
        again, now = attempt.again(), monotonic()
        again.returned = True
        if self._idle_since is None:
            self._idle_since = now
        elif now - self._idle_since > _PATIENCE_SECONDS:
            raise ExecutorBroken(f"for {_PATIENCE_SECONDS:g} seconds the executor handed back every chunk and ran none")
        elif attempt.returned:
            again.due = now + backoff(1)  # its workers may be about to start
        self._waiting.append(again)

    def _evict_overdue(self) -> None:
        for future, late, seen in self._watch.overdue(self._running):
            before = self._evicted.get(future)
            if before is not None and (seen is None or same_place(before[1], seen)):
                continue  # it is being killed, or nothing is seen of it any more because it was
            if self._executor.evict(future):
                self._evicted[future] = (late, seen)
            elif not future.done():
                self._fenced.add(future)
                self._judge(self._running.pop(future), late)

    def _judge(self, attempt: Attempt, error: Exception) -> None:
        self._tell_failed(attempt, error, began=True)
        if isinstance(error, WorkerLost):
            verdict = judge_crash(attempt, error, self._budget)
        elif isinstance(error, RecordTimeout):
            verdict = judge_timeout(attempt, error, self._budget)
        else:
            verdict = judge_error(attempt, self._budget)
        self._follow(verdict, attempt, error)

    def _follow(self, verdict: Verdict, attempt: Attempt, error: Exception) -> None:
        for again in verdict.again:
            if again.chunk.size == attempt.chunk.size:
                again.due = monotonic() + backoff(again.failures)
            self._waiting.append(again)
        for lo, hi in verdict.given_up:
            self.ledger.bury(self._bury(attempt.chunk, lo, hi, error))
            if isinstance(error, WorkerLost | RecordTimeout):
                self._tell_dead(attempt, lo, hi, error)
            else:
                self._observers.emit(ChunkDone, attempt.chunk.sequence, lo, hi, 0, hi - lo, 0, "", {})

    def _tell_dead(self, attempt: Attempt, lo: int, hi: int, error: WorkerLost | RecordTimeout) -> None:
        stage = error.stage
        for index in range(lo, hi):
            position = attempt.chunk.start + index
            self._observers.emit(RecordDead, position, error.cause, stage, attempt.chunk.attempt + 1, error.worker)

    def _tell_failed(self, attempt: Attempt, error: Exception, *, began: bool) -> None:
        chunk = attempt.chunk
        worker: str = getattr(error, "worker", "")
        self._observers.emit(ChunkFailed, chunk.sequence, chunk.lo, chunk.hi, chunk.attempt, str(error), began, worker)
