"""The coordinator's side of the shared memory, whatever the tasks are.

All of it is used by several threads; whoever changes something holds the lock of the desk, and for a moment inside it
the one that the processes share.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from typing import Final

from manyhands.processes.descriptors import Descriptors
from manyhands.processes.messages import Buffer
from manyhands_zoosync.arena import Arena
from manyhands_zoosync.baseworker import NUMBER_BYTES
from manyhands_zoosync.layout import Layout
from manyhands_zoosync.lock import LockKind, open_lock
from manyhands_zoosync.ring import RingReader
from manyhands_zoosync.segment import Segment
from manyhands_zoosync.slots import IDS, SLOT_BYTES
from manyhands_zoosync.status import WorkerStatus
from manyhands_zoosync.statuses import Statuses
from manyhands_zoosync.taskqueue import Claimed, SharedTaskQueue, Signal

_BELL_BYTES: Final = 65536
"""As many as a pipe holds."""


class BaseDesk(ABC):
    """Where tasks are put in and results taken out. It owns the memory.

    Args:
        layout: of the memory.
        lock: kind of its lock.

    Raises:
        OSError: there is no memory, or there are no descriptors, for it.
    """

    def __init__(self, layout: Layout, lock: LockKind) -> None:
        self._layout = layout
        with ExitStack() as opened:
            self.segment: Segment = Segment.create(layout.size)
            opened.callback(self.segment.close)
            fds = opened.enter_context(Descriptors())
            self.bell: int
            self.rope: int
            self.bell, self.rope = _open_bell(fds)
            self._bells = [_open_bell(fds) for _ in range(layout.workers)]
            shared = open_lock(self.segment, layout.lock, lock, create=True)
            opened.pop_all()
            self._fds = fds
        self.queue: SharedTaskQueue = SharedTaskQueue(self.segment, layout, shared)
        self.arena: Arena = Arena(self.segment.view(layout.arena, layout.arena_bytes))
        self._readers = [RingReader(self.segment, layout, worker) for worker in range(layout.workers)]
        self._statuses = Statuses(self.segment, layout)
        self._last: list[WorkerStatus] = []
        self._again: deque[bytes] = deque()
        self._loans: dict[int, tuple[int, int]] = {}
        self._lock = threading.RLock()
        self._closed = False

    @abstractmethod
    def _read(self, worker: int) -> None:
        """Take what a worker has handed in."""

    @property
    def has_again(self) -> bool:
        """Tasks of dead workers wait for room in the queue."""
        return bool(self._again)

    # Tasks.

    def put(self, slots: bytes | memoryview) -> int:
        """Put in as many of these tasks as there is room for; how many."""
        with self._lock:
            with self.queue.guard:
                count = self.queue.put(slots)
                woken = self.queue.wake(count)
            self._ring(woken)
        return count

    def lend(self, tsk_id: int, data: Buffer) -> int | None:
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

    def hear_bell(self) -> None:
        """It has rung: be ready for the next time."""
        with self._lock:  # once it is closed, its number may be that of another file
            if not self._closed:
                with suppress(BlockingIOError):  # another thread was quicker
                    os.read(self.bell, _BELL_BYTES)

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

    def take_over(self, worker: int) -> tuple[Claimed, int]:
        """A worker has ended: take what it handed in, and make its place ready for another.

        Returns:
            See `SharedTaskQueue.take_over`.
        """
        with self._lock:
            with self.queue.guard:
                self._readers[worker].exchange()
            self._read(worker)
            with self.queue.guard:
                found = self.queue.take_over(worker)
                self._readers[worker].reset()
                woken = self.queue.wake(len(self.queue))  # it may have died when it had just been woken for a task
            self._ring(woken)
            self._statuses.end(worker)
        return found

    def statuses(self) -> list[WorkerStatus]:
        """What each worker says, or said last."""
        with self._lock:
            return list(self._last) if self._closed else self._statuses.read()

    def _ring(self, workers: Iterable[int]) -> None:
        for worker in workers:
            _ring(self._bells[worker][1])

    def ring_coordinator(self) -> None:
        """Wake who waits for the bell."""
        _ring(self.rope)

    def close(self) -> None:
        """Give everything back, once the workers have ended."""
        self.ring_coordinator()
        with self._lock:
            self._last = self._statuses.read()
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
