"""Where the coordinator puts tasks in, takes results out, and sees to what a dead worker had.

All of it is used by the threads of the person and by the one that looks after the workers; whoever changes something
holds the lock of the desk, and for a moment inside it the one that the processes share.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from typing import Final

from manyhands.errors import ManyhandsError, WorkerLost
from manyhands.processes.descriptors import Descriptors
from manyhands.processes.launch import Exit
from manyhands.worker import pickles
from manyhands_zoosync.arena import Arena
from manyhands_zoosync.layout import Layout
from manyhands_zoosync.lock import LockKind, open_lock
from manyhands_zoosync.results import RESULTS, Kind, Record, RecordReader, TaskResult, load_results
from manyhands_zoosync.ring import RingReader
from manyhands_zoosync.segment import Segment
from manyhands_zoosync.slots import IDS, SLOT_BYTES, TaskSlot128
from manyhands_zoosync.status import WorkerStatus
from manyhands_zoosync.statuses import Statuses
from manyhands_zoosync.taskqueue import SharedTaskQueue, Signal
from manyhands_zoosync.worker import NUMBER_BYTES

_NAP_SECONDS: Final = 0.000_2
_LONGEST_SLEEP: Final = 0.1
_BELL_BYTES: Final = 65536
"""As many as a pipe holds."""


class Desk:
    """The coordinator's side of the shared memory, which it owns.

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
        self._layout = layout
        with ExitStack() as opened:
            self.segment: Segment = Segment.create(layout.size)
            opened.callback(self.segment.close)
            fds = opened.enter_context(Descriptors())
            self.rope: int
            self._bell, self.rope = _open_bell(fds)
            self._bells = [_open_bell(fds) for _ in range(layout.workers)]
            shared = open_lock(self.segment, layout.lock, lock, create=True)
            opened.pop_all()
            self._fds = fds
        self.queue: SharedTaskQueue = SharedTaskQueue(self.segment, layout, shared)
        self.arena: Arena = Arena(self.segment.view(layout.arena, layout.arena_bytes))
        workers = range(layout.workers)
        self._readers = [RingReader(self.segment, layout, worker) for worker in workers]
        self._statuses = Statuses(self.segment, layout)
        self._records = [RecordReader() for _ in workers]
        self._reported = [(-1, 0) for _ in workers]
        self._again: deque[bytes] = deque()
        self._loans: dict[int, tuple[int, int]] = {}
        self._deaths: Counter[int] = Counter()
        self._crash_retries = crash_retries
        self._keep = keep
        self._lock = threading.RLock()
        self._closed = False
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

    @property
    def has_again(self) -> bool:
        """Tasks of dead workers wait for room in the queue."""
        return bool(self._again)

    def check(self) -> None:
        """Go on only if there are workers.

        Raises:
            ManyhandsError: why there are none.
        """
        if self.error is not None:
            raise self.error

    # Tasks.

    def put(self, slots: bytes | memoryview) -> int:
        """Put in as many of these tasks as there is room for; how many."""
        with self._lock:
            with self.queue.guard:
                count = self.queue.put(slots)
                woken = self.queue.wake(count)
            self.submitted += count
            self._ring(woken)
        return count

    def lend(self, tsk_id: int, data: bytes) -> int | None:
        """Room in the arena until the task is done; where, or None when there is none now."""
        with self._lock:
            start = self.arena.put(data)
            if start is not None:
                self._loans[tsk_id % IDS] = (start, len(data))
            return start

    def take_back(self, tsk_ids: Iterable[int]) -> None:
        """Their arguments are no longer needed."""
        with self._lock:
            for tsk_id in tsk_ids:
                loan = self._loans.pop(tsk_id % IDS, None)
                if loan is not None:
                    self.arena.free(*loan)

    def put_again(self) -> None:
        """Put in what dead workers had, as far as there is room."""
        with self._lock:
            while self._again:
                slots = self._again.popleft()
                with self.queue.guard:
                    count = self.queue.put(slots)
                    woken = self.queue.wake(count)
                self._ring(woken)
                if rest := slots[count * SLOT_BYTES :]:
                    self._again.appendleft(rest)
                    return

    # Results.

    def collect(self, *, then_sleep: bool = False, for_room: bool = False) -> bool:
        """Take the results that there are.

        Args:
            then_sleep: the caller is about to wait for the bell if there are none.
            for_room: it waits for room in the queue, too.

        Returns:
            Whether there were any, or there is room.
        """
        with self._lock:
            if self._closed:
                return True
            with self.queue.guard:
                there = [reader.exchange() for reader in self._readers]
                found = any(there) or (for_room and len(self.queue) < self._layout.num_slots)
                if then_sleep and not found:
                    self.queue.fall_asleep()
            for worker, is_there in enumerate(there):
                if is_there:
                    self._read(worker)
            if self._again:
                self.put_again()
        return found

    def pause(self, end: float | None, *, for_room: bool = False) -> None:
        """Wait until something has come, or for a tenth of a second, or until a time of `time.monotonic`."""
        if self.collect():
            return
        time.sleep(_NAP_SECONDS)  # results often come one by one: not every one should have to wake this process
        if self.collect(then_sleep=True, for_room=for_room):
            return
        seconds = _LONGEST_SLEEP if end is None else min(max(end - time.monotonic(), 0.0), _LONGEST_SLEEP)
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        if poll.poll(seconds * 1000):
            with suppress(OSError):  # another thread was quicker, or has closed it
                os.read(self._bell, _BELL_BYTES)

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

    def fds_of(self, worker: int) -> list[int]:
        """What a worker inherits: the memory, its bell, and that of the coordinator."""
        bell, rope = self._bells[worker]
        with self._lock:  # nobody may ring before its number is in
            os.set_blocking(bell, False)
            with suppress(BlockingIOError):  # what was rung for an earlier one
                os.read(bell, _BELL_BYTES)
            os.write(rope, worker.to_bytes(NUMBER_BYTES, "little"))
            os.set_blocking(bell, True)
        return [self.segment.descriptor, bell, self.rope]

    def tell(self, signal: Signal) -> None:
        """Give all workers a signal."""
        with self._lock:
            with self.queue.guard:
                self.queue.signal = signal
            self._ring(range(self._layout.workers))

    def bury(self, worker: int, ended: Exit) -> bool:
        """A worker has ended: take what it handed in, and let others run what it did not.

        Returns:
            Whether it had been ready to work.
        """
        with self._lock:
            with self.queue.guard:
                self._readers[worker].exchange()
            self._read(worker)
            with self.queue.guard:
                claimed, running = self.queue.take_over(worker)
                self._readers[worker].reset()
                woken = self.queue.wake(len(self.queue))  # it may have died when it had just been woken for a task
            self._ring(woken)
            first, done = self._reported[worker]
            self._records[worker], self._reported[worker] = RecordReader(), (-1, 0)
            was_ready = worker in self.ready
            self.ready.discard(worker)
            self._statuses.end(worker)
            self._run_again(claimed.slots, done if first == claimed.first else 0, running, _lost(ended, worker))
        self._ring_coordinator()
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
        self._ring_coordinator()

    def statuses(self) -> list[WorkerStatus]:
        """What each worker says."""
        with self._lock:
            return self._statuses.read()

    def _ring(self, workers: Iterable[int]) -> None:
        for worker in workers:
            _ring(self._bells[worker][1])

    def _ring_coordinator(self) -> None:
        _ring(self.rope)

    def close(self) -> None:
        """Give everything back, once the workers have ended."""
        self._ring_coordinator()
        with self._lock:
            self._closed = True
            self._statuses.close()
            self.queue.close()
            self.segment.close()
            self._fds.close()


def _open_bell(fds: Descriptors) -> tuple[int, int]:
    bell, rope = os.pipe()
    for fd in (fds.own(bell), fds.own(rope)):
        os.set_blocking(fd, False)
    return bell, rope


def _ring(rope: int) -> None:
    with suppress(BlockingIOError, BrokenPipeError):  # it has rung often enough, or nobody is there
        os.write(rope, b"!")


def _lost(ended: Exit, worker: int) -> WorkerLost:
    return WorkerLost(ended.code, ended.signal, worker=str(worker))
