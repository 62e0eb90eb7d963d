"""Where the executor puts chunks in and takes out what workers say.

A chunk is a task of the queue: its bytes are lent room in the arena, the slot says where, and has the chunk's header.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from typing import Final

from manyhands.chunks import Chunk
from manyhands.processes.messages import Message, Unframer
from manyhands.worker.transport import dump_chunk
from manyhands_zoosync.basedesk import BaseDesk
from manyhands_zoosync.layout import Layout
from manyhands_zoosync.lock import LockKind
from manyhands_zoosync.payload import PLACE
from manyhands_zoosync.slots import SLOT

_LEAST: Final = 256 << 20
"""Room for chunks where it cannot be as much as the machine has."""

_LARGE: Final = 4 << 20
"""What chunks of so many bytes had is given back to the system: others will hardly ever be as large."""


class ChunkDesk(BaseDesk):
    """The desk of chunks.

    Args:
        layout: of the memory.
        lock: kind of its lock.

    Raises:
        OSError: there is no memory, or there are no descriptors, for it.
    """

    def __init__(self, layout: Layout, lock: LockKind) -> None:
        super().__init__(layout, lock)
        self._unframers = [Unframer() for _ in range(layout.workers)]
        self._heard: list[tuple[int, Message]] = []

    def give(self, tsk_id: int, chunk: Chunk) -> bool:
        """Let the next free worker run a chunk; whether there was room for it."""
        header, payload = dump_chunk(chunk)
        with self._lock:
            start = self.lend(tsk_id, payload)
            if start is None:
                return False
            data = PLACE.pack(start, len(payload)) + header
            if self.put(SLOT.pack(tsk_id, 0, 0, len(data), data)):
                return True
            self.take_back([tsk_id])
            return False

    def give_again(self, slot: bytes) -> None:
        """Let another worker run what one that has ended had claimed."""
        with self._lock:
            self._again.appendleft(slot)
            self.put_again()

    def messages(self) -> list[tuple[int, Message]]:
        """What has been heard from which worker since the last time."""
        with self._lock:
            heard, self._heard = self._heard, []
        return heard

    def _read(self, worker: int) -> None:
        for message in self._unframers[worker].feed(self._readers[worker].read()):
            self._heard.append((worker, message))

    def bury(self, worker: int) -> tuple[bytes, bool, int]:
        """A worker has ended.

        Returns:
            The slot that it had claimed, empty: none; whether it had begun that; and what it said of its progress.
        """
        with self._lock:
            word = self.queue.progress(worker)[0]
            claimed, running = self.take_over(worker)
            self._unframers[worker] = Unframer()
        return claimed.slots, bool(running), word

    def take_back(self, tsk_ids: Iterable[int]) -> None:
        """See `BaseDesk.take_back`."""
        with self._lock:
            for tsk_id in tsk_ids:
                start, size = self._loans.get(tsk_id, (0, 0))
                super().take_back([tsk_id])
                if size >= _LARGE:
                    self.segment.discard(self._layout.arena + start, size)


def arena_bytes() -> int:
    """As much as the machine has: what is not used takes none of it, and a chunk that is larger cannot be run.

    Where the user's address space or the size of files is limited, or the machine does not tell: much less.
    """
    limits = [resource.getrlimit(limit)[0] for limit in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE)]
    if limited := [limit for limit in limits if limit != resource.RLIM_INFINITY]:
        return min(*limited, 2 * _LEAST) // 2  # what is only mapped counts, too
    if "SC_PHYS_PAGES" not in os.sysconf_names:
        return _LEAST
    return max(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), _LEAST)
