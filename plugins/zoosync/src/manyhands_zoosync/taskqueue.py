"""The queue of tasks in shared memory: a ring of slots that one process fills and many empty.

`head` and `tail` count the tasks that were ever claimed and put in. They never wrap, so a full ring, in which they
differ by `num_slots`, is never taken for an empty one; the task at position p lies in slot p mod `num_slots`. Every
slot has a commit word that is written last and holds p + 1: a slot whose word says something else is not handed out.

Whatever says how far somebody is, here and in the rings of results, is read and written only while the lock is held.
So it holds on every processor that who sees the count sees what was counted. A worker that dies with the lock in its
hands leaves at most a batch that is claimed while `head` does not say so, which `repair` sees.

A worker copies its batch out of the ring, so that the slots are free at once, to a place where everybody can read it:
if the worker dies, its supervisor finds there what has to be run again.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from manyhands_zoosync.layout import LINE, MOST_AT_ONCE, Layout
from manyhands_zoosync.lock import Guard, SharedLock
from manyhands_zoosync.segment import Segment
from manyhands_zoosync.slots import SLOT_BYTES

_PATIENCE: Final = 60.0
_FIRST, _END, _RUNNING, _ASLEEP, _PROGRESS = range(5)


class Signal(IntEnum):
    """What the supervisor tells all workers.

    `TERMINATE`: leave when the queue is empty. `ABORT`: leave after the task that is under way.
    """

    NONE = 0
    TERMINATE = 1
    ABORT = 2


_ABORT: Final = int(Signal.ABORT)


class Claimed(NamedTuple):
    """A batch. A tuple because there may be one for each task.

    Attributes:
        first: position of its first task; no other batch ever has the same.
        slots: the tasks.
    """

    first: int
    slots: bytes


class SharedTaskQueue:
    """The queue, in one of the processes that share it.

    Args:
        segment: the memory.
        layout: where it lies there.
        lock: the lock in it.
    """

    def __init__(self, segment: Segment, layout: Layout, lock: SharedLock) -> None:
        self._lock = lock
        self._num_slots = layout.num_slots
        self._workers = layout.workers
        self._head = segment.words(layout.head, 1)
        self._tail = segment.words(layout.tail, 1)
        self._signals = segment.words(layout.signal, 2)
        self._claims = [segment.words(layout.claim(worker), LINE // 8) for worker in range(layout.workers)]
        self._commits = segment.words(layout.commits, layout.num_slots)
        self._slots = segment.view(layout.slots, SLOT_BYTES * layout.num_slots)
        self._batches = [
            segment.view(layout.batch(worker), SLOT_BYTES * MOST_AT_ONCE) for worker in range(layout.workers)
        ]
        self._ids = [batch[:SLOT_BYTES].cast("I") for batch in self._batches]
        self.guard: Guard = Guard(lock, self.repair, _PATIENCE)

    # Everything below is for who holds the lock: `with queue.guard:`.

    def __len__(self) -> int:
        return self._tail[0] - self._head[0]

    def put(self, slots: bytes | memoryview) -> int:
        """Put in as many of these tasks as there is room for, from the first; how many that was."""
        tail = self._tail[0]
        count = min(len(slots) // SLOT_BYTES, self._num_slots - (tail - self._head[0]))
        self._fill(tail, memoryview(slots), count)
        self._tail[0] = tail + count
        return count

    def _fill(self, tail: int, slots: memoryview, count: int) -> None:
        start = tail % self._num_slots
        whole = min(count, self._num_slots - start)
        self._slots[start * SLOT_BYTES : (start + whole) * SLOT_BYTES] = slots[: whole * SLOT_BYTES]
        self._commits[start : start + whole] = array("Q", range(tail + 1, tail + whole + 1))
        if whole < count:
            self._fill(tail + whole, slots[whole * SLOT_BYTES :], count - whole)

    def claim(self, worker: int, most: int) -> Claimed | None:
        """Give back the last batch, which is finished, and take another.

        Args:
            worker: who asks.
            most: so many tasks at most, and no more than its share of those that wait.

        Returns:
            None when there are no tasks, or it is to leave.
        """
        claim = self._claims[worker]
        claim[_END] = claim[_RUNNING] = 0
        head = self._head[0]
        waiting = self._tail[0] - head
        if not waiting or self._signals[0] == _ABORT:
            return None
        slots = self._committed(head, min(most, -(-waiting // self._workers)))
        end = head + len(slots) // SLOT_BYTES
        self._batches[worker][: len(slots)] = slots
        claim[_FIRST] = head
        claim[_END] = end  # from here on it is this worker's, whatever becomes of it
        self._head[0] = end
        return Claimed(head, slots) if slots else None

    def _committed(self, head: int, count: int) -> bytes:
        """The tasks from a position, as far as they are all there."""
        start = head % self._num_slots
        end = start + count
        if end > self._num_slots:
            whole = self._num_slots - start
            return self._committed(head, whole) + self._committed(head + whole, count - whole)
        # Nobody can have come here and find less: rather no task than a wrong one.
        if self._commits[start:end].tolist() != list(range(head + 1, head + count + 1)):
            return b""
        return self._slots[start * SLOT_BYTES : end * SLOT_BYTES].tobytes()

    def repair(self) -> None:
        """Put right what a dead holder of the lock left: a batch that was claimed is no longer in the ring."""
        self._head[0] = max(self._head[0], *(claim[_END] for claim in self._claims))

    def take_over(self, worker: int) -> tuple[Claimed, int]:
        """What a dead worker had claimed and not given back, and which one it ran, from 1; 0: none of them.

        The worker has nothing any more.
        """
        claim = self._claims[worker]
        first, end, running = claim[_FIRST], claim[_END], claim[_RUNNING]
        count = max(end - first, 0)
        claim[_END] = claim[_RUNNING] = claim[_ASLEEP] = claim[_PROGRESS] = 0
        return Claimed(first, bytes(self._batches[worker][: count * SLOT_BYTES])), running if count else 0

    @property
    def signal(self) -> Signal:
        """What the workers were told."""
        return Signal(self._signals[0])

    @signal.setter
    def signal(self, signal: Signal) -> None:
        self._signals[0] = signal

    def fall_asleep(self, worker: int | None = None) -> None:
        """A worker, or the coordinator, is about to wait for its bell: whoever has something for it must ring it."""
        if worker is None:
            self._signals[1] = 1
        else:
            self._claims[worker][_ASLEEP] = 1

    def wake(self, most: int) -> Sequence[int]:
        """Workers that sleep and are going to be rung by the caller, who must do it when the lock is released."""
        woken: list[int] = []
        for worker, claim in enumerate(self._claims):
            if len(woken) >= most:
                break
            if claim[_ASLEEP]:
                claim[_ASLEEP] = 0
                woken.append(worker)
        return woken

    def wake_coordinator(self) -> bool:
        """Whether the coordinator sleeps and must be rung by the caller, likewise."""
        if not self._signals[1]:
            return False
        self._signals[1] = 0
        return True

    # For who has a batch, without the lock.

    def running(self, worker: int) -> memoryview:
        """The word in which a worker says which of its tasks it runs, from 1; 0: none."""
        return self._claims[worker][_RUNNING : _RUNNING + 1]

    def progress(self, worker: int) -> memoryview:
        """The word in which a worker says how far it is in its task, see `manyhands.worker.cell`."""
        return self._claims[worker][_PROGRESS : _PROGRESS + 1]

    # For anybody, without the lock.

    def is_aborted(self) -> bool:
        """Whether the signal is `ABORT`."""
        return self._signals[0] == _ABORT

    def at(self, worker: int) -> int | None:
        """The `tsk_id` of the first task of a worker's batch, if it has begun that; None: it has not.

        With the lock held it remains so. Without it, it was so at some time during the call, or was about to be.
        """
        claim = self._claims[worker]
        return self._ids[worker][0] if claim[_END] and claim[_RUNNING] else None

    def close(self) -> None:
        """Give up the lock and the memory, before that is closed."""
        for ids in self._ids:
            ids.release()
        self._lock.close()
