"""What every worker process does with the shared memory: claim tasks, hand in what came of them, and sleep."""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn

from manyhands.processes.messages import Buffer
from manyhands_zoosync.job import BaseJob
from manyhands_zoosync.lock import open_lock
from manyhands_zoosync.ring import RingWriter
from manyhands_zoosync.segment import Segment
from manyhands_zoosync.status import CELL_BYTES, StatusWriter, WorkerState
from manyhands_zoosync.taskqueue import Claimed, SharedTaskQueue

NUMBER_BYTES: Final = 4
"""With its number its bell is rung for the first time, before it starts."""

_NAP_SECONDS: Final = 0.000_1
_LONGEST_NAP: Final = 0.002

Make = Callable[[int, Any, Segment, int, int], "BaseWorker"]
"""The class of a worker: it is called with its number, its job, the memory, its bell and that of the coordinator."""


def live(descriptors: Sequence[int], make: Make) -> None:
    """Work until the supervisor says stop, or is gone.

    Args:
        descriptors: of the job, of the memory, of this worker's bell, and of the coordinator's.
        make: the worker.
    """
    described, shared, bell, rope = descriptors
    number = int.from_bytes(os.read(bell, NUMBER_BYTES), "little")
    job = BaseJob.load(described)
    worker = make(number, job, Segment(shared, job.layout.size), bell, rope)
    try:
        worker.work()
    finally:
        worker.close()


class BaseWorker(ABC):
    """A worker, apart from what it does with a task.

    Args:
        number: its place.
        job: what it was told.
        segment: the memory.
        bell: who has something for it rings this.
        rope: rings the bell of the coordinator.
    """

    def __init__(self, number: int, job: BaseJob, segment: Segment, bell: int, rope: int) -> None:
        layout = job.layout
        self._number = number
        self._batch_size = job.batch_size
        self._segment = segment
        self._bell, self._rope = bell, rope
        self._queue = SharedTaskQueue(segment, layout, open_lock(segment, layout.lock, job.lock, create=False))
        self._ring = RingWriter(segment, layout, number)
        self._status = StatusWriter(segment.view(layout.status(number), CELL_BYTES))
        self._running = self._queue.running(number)
        self._arena = segment.view(layout.arena, layout.arena_bytes)
        self._pid = os.getpid()

    @abstractmethod
    def work(self) -> None:
        """All that it does in its life."""

    @abstractmethod
    def _run(self, claimed: Claimed) -> None:
        """Run a batch and write what came of it; that is published with the next claim."""

    def _run_next(self) -> bool:
        """Run a batch, after a sleep if there is none; whether there may be more."""
        claimed = self._claim()
        if claimed is None:
            time.sleep(_NAP_SECONDS)  # tasks often come one by one: not every one should have to wake somebody
            claimed = self._claim(then_sleep=True)
        if claimed is not None:
            self._run(claimed)
            return True
        if self._queue.signal:
            return False
        self._be(WorkerState.IDLE)
        return bool(os.read(self._bell, 4096))

    def _claim(self, *, then_sleep: bool = False) -> Claimed | None:
        queue = self._queue
        with queue.guard:
            self._ring.exchange()
            claimed = queue.claim(self._number, self._batch_size)
            if claimed is None and then_sleep and not queue.signal:
                queue.fall_asleep(self._number)
            is_waited_for = queue.wake_coordinator()
        if is_waited_for:
            self._ring_bell()
        return claimed

    def _publish(self) -> None:
        """Let the coordinator see what was written, without a claim."""
        with self._queue.guard:
            self._ring.exchange()
            is_waited_for = self._queue.wake_coordinator()
        if is_waited_for:
            self._ring_bell()

    def _write(self, data: Buffer) -> None:
        written, nap = self._ring.write(data), _NAP_SECONDS
        while written < len(data):
            self._wait_for_room(nap)
            written += self._ring.write(memoryview(data)[written:])
            nap = min(2 * nap, _LONGEST_NAP)

    def _wait_for_room(self, nap: float) -> None:
        """Give the coordinator time to read something. Nobody rings for that: it is in no hurry, or busy."""
        self._publish()
        if self._status.state != WorkerState.WAITING:
            self._be(WorkerState.WAITING)
        time.sleep(nap)

    def _be(self, state: WorkerState) -> None:
        self._status.state = state
        self._status.publish()

    def _ring_bell(self) -> None:
        with suppress(OSError):  # nobody is there, or it has rung so often that one more makes no difference
            os.write(self._rope, b"!")

    def close(self) -> None:
        """Give back the memory."""
        self._queue.close()
        self._status.close()
        self._segment.close()


def end_fork(whose: str) -> NoReturn:
    """End this process, which a task has forked, and which goes on as if it were the worker.

    Args:
        whose: of what it is.
    """
    sys.stderr.write(f"a process that a {whose} has forked came back from the {whose}; it is ended\n")
    sys.stderr.flush()
    os._exit(1)
