"""Where what lies in the shared memory of a task queue.

    line 0       lock
    line 1       head: how many tasks were ever claimed
    line 2       tail: how many were ever put in
    line 3       word 0: signal to the workers; word 1: the coordinator sleeps
    5 lines a worker
        claim    its batch: word 0 first position, word 1 end (0: none), word 2 which one it runs, from 1;
                 word 3: it sleeps; word 4: how far it is in its task, if that is a chunk
        ring     word 0: bytes of results ever written
        read     word 0: bytes of results ever read
        status   2 lines, see `manyhands_zoosync.status`
    commit words one for each slot, see `manyhands_zoosync.taskqueue`
    slots
    batches      room for the slots that a worker has claimed, for each
    rings        of results, one for each worker
    arena        for arguments that are too large for a slot

A line has 64 bytes, so that no two processes write into the same line of a processor's cache.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import ClassVar, Final

from manyhands_zoosync.slots import SLOT_BYTES

LINE: Final = 64
MOST_AT_ONCE: Final = 300
"""Tasks in a batch at most."""

_WORKER_LINES: Final = 5
_BATCH_BYTES: Final = MOST_AT_ONCE * SLOT_BYTES


@dataclass(frozen=True, slots=True)
class Layout:
    """The places, in bytes from the start.

    Attributes:
        num_slots: tasks that can wait.
        workers: how many there are.
        ring_bytes: of the ring of each worker.
        arena_bytes: of the arena.
    """

    num_slots: int
    workers: int
    ring_bytes: int
    arena_bytes: int

    lock: ClassVar[int] = 0
    head: ClassVar[int] = LINE
    tail: ClassVar[int] = 2 * LINE
    signal: ClassVar[int] = 3 * LINE

    def claim(self, worker: int) -> int:
        """The claim of a worker."""
        return (4 + _WORKER_LINES * worker) * LINE

    def written(self, worker: int) -> int:
        """The end of its ring."""
        return self.claim(worker) + LINE

    def read(self, worker: int) -> int:
        """The start of its ring."""
        return self.claim(worker) + 2 * LINE

    def status(self, worker: int) -> int:
        """Its status cell."""
        return self.claim(worker) + 3 * LINE

    @property
    def commits(self) -> int:
        """The commit words."""
        return self.claim(self.workers)

    @property
    def slots(self) -> int:
        """The slots."""
        return _pages(self.commits + 8 * self.num_slots)

    def batch(self, worker: int) -> int:
        """The room for its batch."""
        return _pages(self.slots + SLOT_BYTES * self.num_slots) + _BATCH_BYTES * worker

    def ring(self, worker: int) -> int:
        """Its ring."""
        return _pages(self.batch(self.workers)) + self.ring_bytes * worker

    @property
    def arena(self) -> int:
        """The arena."""
        return _pages(self.ring(self.workers))

    @property
    def size(self) -> int:
        """All of it."""
        return _pages(self.arena + self.arena_bytes)


def _pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
