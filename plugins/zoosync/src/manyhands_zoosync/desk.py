"""Where the coordinator puts calls in, takes results out, and sees to what a dead worker had.

All of it is used by the threads of the person and by the one that looks after the workers.
"""

from __future__ import annotations

import select
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from manyhands.errors import ManyhandsError, WorkerLost
from manyhands.processes.launch import Exit
from manyhands.worker import pickles
from manyhands_zoosync.basedesk import BaseDesk
from manyhands_zoosync.layout import Layout
from manyhands_zoosync.lock import LockKind
from manyhands_zoosync.results import RESULTS, Kind, Record, RecordReader, TaskResult, load_results
from manyhands_zoosync.slots import SLOT_BYTES, TaskSlot128

_NAP_SECONDS: Final = 0.000_2
_LONGEST_SLEEP: Final = 0.1


class Desk(BaseDesk):
    """The desk of calls.

    Args:
        layout: of the memory.
        lock: kind of its lock.
        crash_retries: so often a task is tried again that its worker did not survive.
        keep: takes results.

    Raises:
        OSError: there is no memory, or there are no descriptors, for it.
    """

    def __init__(
        self, layout: Layout, lock: LockKind, crash_retries: int, keep: Callable[[list[TaskResult]], object]
    ) -> None:
        super().__init__(layout, lock)
        workers = range(layout.workers)
        self._records = [RecordReader() for _ in workers]
        self._reported = [(-1, 0) for _ in workers]
        self._deaths: Counter[int] = Counter()
        self._crash_retries = crash_retries
        self._keep = keep
        self.base: int = 0
        self.submitted: int = 0
        self.succeeded: int = 0
        self.failed: int = 0
        self.lost: int = 0
        self.ready: set[int] = set()
        self.error: ManyhandsError | None = None

    @property
    def outstanding(self) -> int:
        """Tasks that were put in and of which no result has come."""
        return self.submitted - self.succeeded - self.failed

    def check(self) -> None:
        """Go on only if there are workers.

        Raises:
            ManyhandsError: why there are none.
        """
        if self.error is not None:
            raise self.error

    # Tasks.

    def put(self, slots: bytes | memoryview) -> int:
        """See `BaseDesk.put`."""
        with self._lock:
            count = super().put(slots)
            self.submitted += count
        return count

    # Results.

    def pause(self, end: float | None, *, for_room: bool = False) -> None:
        """Wait until something has come, or for a tenth of a second, or until a time of `time.monotonic`."""
        if self.collect():
            return
        time.sleep(_NAP_SECONDS)  # results often come one by one: not every one should have to wake this process
        if self.collect(then_sleep=True, for_room=for_room):
            return
        seconds = _LONGEST_SLEEP if end is None else min(max(end - time.monotonic(), 0.0), _LONGEST_SLEEP)
        poll = select.poll()
        poll.register(self.bell, select.POLLIN)
        if poll.poll(seconds * 1000):
            self.hear_bell()

    def _read(self, worker: int) -> None:
        results: list[TaskResult] = []
        failed = 0
        for record in self._records[worker].feed(self._readers[worker].read()):
            if record.kind == RESULTS:
                self._reported[worker] = (record.first, record.done)
                found, bad = load_results(record)
                results += found
                failed += bad
            else:
                self._hear(worker, record)
        if results:
            self._settle(results, failed)

    def _hear(self, worker: int, record: Record) -> None:
        if record.kind == Kind.READY:
            self.ready.add(worker)
        else:
            self.error = self.error or pickles.loads(record.failures)

    def _settle(self, results: list[TaskResult], failed: int) -> None:
        if self._loans or self._deaths:
            self._forget(results)
        self.failed += failed
        self.succeeded += len(results) - failed
        if self.base:
            results = [result._replace(tsk_id=result.tsk_id + self.base) for result in results]
        self._keep(results)

    def _forget(self, results: list[TaskResult]) -> None:
        self.take_back(result.tsk_id for result in results)
        for result in results:
            self._deaths.pop(result.tsk_id, None)

    # Workers.

    def bury(self, worker: int, ended: Exit) -> bool:
        """A worker has ended: take what it handed in, and let others run what it did not.

        Returns:
            Whether it had been ready to work.
        """
        with self._lock:
            claimed, running = self.take_over(worker)
            first, done = self._reported[worker]
            self._records[worker], self._reported[worker] = RecordReader(), (-1, 0)
            was_ready = worker in self.ready
            self.ready.discard(worker)
            self._run_again(claimed.slots, done if first == claimed.first else 0, running, _lost(ended, worker))
        self.ring_coordinator()
        return was_ready

    def _run_again(self, slots: bytes, done: int, running: int, lost: WorkerLost) -> None:
        rest = slots[done * SLOT_BYTES :]
        if running > done:
            place = (running - done - 1) * SLOT_BYTES
            suspect = TaskSlot128.from_buffer_copy(rest, place).tsk_id
            self._deaths[suspect] += 1
            if self._deaths[suspect] > self._crash_retries:
                rest = rest[:place] + rest[place + SLOT_BYTES :]
                self.lost += 1
                self._settle([TaskResult(suspect, None, lost)], 1)
        if rest:
            self._again.append(rest)
            self.put_again()

    def give_up(self, error: ManyhandsError) -> None:
        """There are no workers any more."""
        self.error = self.error or error
        self.ring_coordinator()


def _lost(ended: Exit, worker: int) -> WorkerLost:
    return WorkerLost(ended.code, ended.signal, worker=str(worker))
