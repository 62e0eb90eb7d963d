"""Who drives an executor when nobody waits for it: a thread of its own, or whoever submits to an inline one.

    submit ─▶ queue ─▶ Driver's thread ─ chunks ─▶ Dispatcher ─▶ Executor
    future ◀──────────────┘ ◀─ complete chunks ─────┘

The thread ends when the executor was shut down or forgotten, or the program is at its end, and every call is done.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from manyhands.chunks import Chunk, ChunkKind, ChunkResult
from manyhands.doors.errors import BrokenWorkers, ShutdownError
from manyhands.doors.job import is_called
from manyhands.driver.dispatch import Dispatcher
from manyhands.driver.maprun import MapRun, Order
from manyhands.driver.options import RunOptions
from manyhands.driver.seat import Seat
from manyhands.errors import UsageError
from manyhands.events import Observers
from manyhands.worker import codec
from manyhands.worker.failures import words

if TYPE_CHECKING:
    from manyhands.doors.job import Job
    from manyhands.pool import Pool

_drivers: Final[WeakSet[Driver]] = WeakSet()
_is_over: Final = threading.Event()
"""The program is at its end."""


class Desk(ABC):
    """Takes jobs.

    Args:
        pool: whose workers do them; nobody else uses it.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._is_closed = False

    @abstractmethod
    def submit(self, job: Job) -> None:
        """Do it.

        Raises:
            ShutdownError: the desk is closed.
            BrokenWorkers: there are no workers any more.
        """

    @abstractmethod
    def close(self, *, cancel: bool = False) -> None:
        """Take no more jobs, and end the workers when all are done. Waits for nothing.

        Args:
            cancel: cancel those that have not begun.
        """

    @abstractmethod
    def join(self) -> None:
        """Wait until all jobs are done and all workers have ended.

        Raises:
            ShutdownError: a job is what waits: it would be for ever.
        """

    @abstractmethod
    def kill(self) -> None:
        """End the workers at once; what is not done fails."""

    def _check_open(self) -> None:
        if _is_over.is_set():
            raise ShutdownError("cannot schedule new futures after interpreter shutdown: the program is at its end")
        if self._is_closed:
            raise ShutdownError("cannot schedule new futures after shutdown: make another executor")

    @property
    def _is_called(self) -> bool:
        """This is part of a job."""
        table = self._pool._table  # noqa: SLF001  # it is the pool's other face
        return table is not None and is_called(table)

    def _check_outside(self) -> None:
        if self._is_called:
            raise ShutdownError("a call of this executor cannot wait for its end: use shutdown(wait=False)")


class InPlace(Desk):
    """Does each job before `submit` returns, by an inline executor.

    Args:
        pool: see `Desk`.
    """

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self._lock = threading.RLock()  # held while a job is done, which may submit others

    def submit(self, job: Job) -> None:
        """See `Desk.submit`."""
        with self._lock:
            self._check_open()
            seat = Seat(self._pool._open())  # noqa: SLF001  # it is the pool's other face
            job.begin()
            try:
                for values, failures in list(_run(job, seat)):
                    job.finish(values, failures)
                    del values, failures  # tracebacks hold this frame
            except Exception as error:  # noqa: BLE001  # of the executor: what a call raises is a failure
                job.fail(error)
        if self._is_closed:  # meanwhile
            self.close()

    def close(self, *, cancel: bool = False) -> None:  # noqa: ARG002  # nothing waits
        """See `Desk.close`. While a job is under way, who submitted it ends the workers afterwards."""
        self._is_closed = True
        if not self._is_called and self._lock.acquire(blocking=False):
            try:
                self._pool.close()
            finally:
                self._lock.release()

    def join(self) -> None:
        """See `Desk.join`."""
        self._check_outside()
        with self._lock:
            self._pool.close()

    def kill(self) -> None:
        """See `Desk.kill`."""
        self._is_closed = True
        self._pool.terminate()


def _run(job: Job, seat: Seat) -> Iterator[tuple[list[object], dict[int, BaseException]]]:
    order = Order(job.work.function, job.items, len(job.items), ordered=True, eager=False, star=True)
    return MapRun(order, seat).batches()


class Driver(Desk):
    """A thread that gives jobs to an executor and results to their futures. It starts with the first job.

    Args:
        pool: whose workers do them; they start in the thread, so that `submit` need not wait for them.
    """

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool)
        self._lock = threading.RLock()  # a handler of a signal may submit while this thread does
        self._pid: int | None = None
        self._thread: threading.Thread | None = None
        self._seat: _Seat | None = None
        self._queue: deque[Job] = deque()
        self._jobs: dict[int, Job] = {}  # under way, by the number of their chunk
        self._numbers = count()
        self._error: BaseException | None = None
        self._is_cancelling = self._is_killed = False
        _drivers.add(self)

    def submit(self, job: Job) -> None:
        """See `Desk.submit`."""
        if self._is_foreign:  # its locks may be held by threads that are not here
            raise UsageError(f"the workers of this pool belong to process {self._pid}, of which this is a fork")
        with self._lock:
            if self._error is not None:
                raise self._broken()
            self._check_open()
            self._queue.append(job)
            if self._thread is None:
                self._start()
        self._wake()

    def close(self, *, cancel: bool = False) -> None:
        """See `Desk.close`."""
        if self._is_foreign:
            return
        with self._lock:
            self._is_closed = True
            self._is_cancelling |= cancel
        self._wake()

    def join(self) -> None:
        """See `Desk.join`. Where a callback of a future is what waits, it does not."""
        self._check_outside()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def kill(self) -> None:
        """See `Desk.kill`."""
        if self._is_foreign:
            return
        self._is_killed = True
        self.close()
        self._pool.terminate()

    @property
    def _is_foreign(self) -> bool:
        """This is a fork of the process that has the thread."""
        return self._pid is not None and self._pid != os.getpid()

    def _start(self) -> None:
        # Not a daemon: at the end of the program, threads and processes may be started only while there is such a one.
        self._thread = threading.Thread(target=self._run, name="manyhands-futures", daemon=False)
        self._pid = os.getpid()
        self._thread.start()

    def _wake(self) -> None:
        seat = self._seat  # until it is there, the thread is about to look into the queue
        if seat is not None:
            seat.inbox.put(None)

    def _next(self) -> Job | None:
        try:
            return self._queue.popleft()
        except IndexError:
            return None

    # For the driver's own thread.

    def _run(self) -> None:
        try:
            self._drive(_Seat(self._pool._open()))  # noqa: SLF001  # it is the pool's other face
        except BaseException as error:  # noqa: BLE001  # nobody may wait for a driver that is gone
            self._break(error)
            self._pool.terminate()
        else:
            self._pool.close()

    def _drive(self, seat: _Seat) -> None:
        dispatcher = Dispatcher(
            seat.as_executor(),
            RunOptions(ordered=False),
            self._bury,
            replayable=True,
            observers=Observers(),
            inbox=seat.inbox,
        )
        try:
            seat.take()
            self._seat = seat
            while True:
                seat.check()
                dispatcher.submit_all(self._take)
                if self._is_cancelling:
                    self._cancel()
                self._settle(dispatcher)
                if self._is_closed and not self._queue and not len(dispatcher.ledger):
                    return
                dispatcher.settle_all(None)
        finally:
            dispatcher.abandon()
            seat.leave()

    def _take(self) -> Chunk | None:
        while (job := self._next()) is not None:
            try:
                payload = self._payload(job)
            except BaseException as error:  # noqa: BLE001  # pickling runs code of the arguments' own
                job.fail(error)
                continue
            if payload is not None:
                number = next(self._numbers)
                self._jobs[number] = job
                compressed = isinstance(payload, bytes) and bool(self._open_seat.compression)
                return Chunk(number, job.start, len(job.items), ChunkKind.CALLS, payload, compressed=compressed)
        return None

    def _payload(self, job: Job) -> object:
        """What travels; None if it was cancelled. From here on it has begun, unless it begins in this process."""
        seat = self._open_seat
        if not seat.crosses_process:
            return job.here(seat.table) if not job.is_cancelled or job.begin() else None
        return codec.compress(seat.code() + job.packed(), seat.compression) if job.begin() else None

    @property
    def _open_seat(self) -> _Seat:
        assert self._seat is not None  # noqa: S101  # for type checkers: the thread takes jobs only when it is there
        return self._seat

    def _cancel(self) -> None:
        """Cancel what waits. It is done here, and after handing out, so that each worker has what it was free for."""
        while (job := self._next()) is not None:
            job.cancel()
            job.begin()
        for job in list(self._jobs.values())[self._open_seat.workers :]:
            job.cancel()  # only one that has not begun can be

    def _settle(self, dispatcher: Dispatcher) -> None:
        for entry in dispatcher.ledger.pop_complete():
            self._jobs.pop(entry.chunk.sequence).settle(entry.in_order())

    def _bury(self, chunk: Chunk, lo: int, hi: int, error: Exception) -> ChunkResult:
        job = self._jobs[chunk.sequence]
        errors = [(index, job.reason(error, index)) for index in range(lo, hi)]
        return ChunkResult(chunk.sequence, lo, hi, output=[], errors=errors)

    def _break(self, error: BaseException) -> None:
        with self._lock:
            self._error = error
        for job in (*self._jobs.values(), *self._queue):
            job.fail(self._broken())
        self._jobs.clear()
        self._queue.clear()

    def _broken(self) -> BrokenWorkers:
        why = "they were killed on request" if self._is_killed or self._error is None else words(self._error)
        broken = BrokenWorkers(f"there are no workers any more: {why}")
        broken.__cause__ = self._error
        return broken


class _Seat(Seat):
    """The executor as a driver sees it."""

    def slots(self) -> int:
        """See `Seat.slots`. No process holds a call in advance.

        That call could not be cancelled, and would wait for the one before it, which may take long or even wait for it.
        """
        slots = super().slots()
        return min(slots, self.workers) if self.crosses_process else slots


def _end_all() -> None:
    """Let all jobs be done. Then the threads end, and with them the program may."""
    _is_over.set()
    for driver in list(_drivers):
        driver.close()
    for driver in list(_drivers):
        with suppress(RuntimeError):  # a fork of the program has the object, but not the thread
            driver.join()


# As concurrent.futures does: the hooks of `atexit` run only when all threads that are no daemons have ended.
threading._register_atexit(_end_all)  # type: ignore[attr-defined]  # noqa: SLF001
