"""Memory that the supervisor and its workers share: where each worker is, and whether the run was aborted.

    line 0        word 0: 1 once no new record may start
    line n + 1    word 0: progress of worker n, see `manyhands.worker.cell`; word 1: how many chunks it has begun

A line is 64 bytes, eight words, so that no two processes write into the same line of a processor's cache. The memory
has no name in the file system, so nothing of it can be left behind.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path
from typing import Final

from manyhands.processes.owner import owned_name

_WORDS: Final = 8
_BYTES: Final = 8 * _WORDS


class Board:
    """The shared memory of an executor.

    Args:
        descriptor: of the memory.
        workers: how many workers it has lines for.
    """

    def __init__(self, descriptor: int, workers: int) -> None:
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, (workers + 1) * _BYTES)
        self._words = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls, workers: int) -> Board:
        """A new one, all zero."""
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("manyhands")
        else:
            descriptor, path = tempfile.mkstemp(prefix=f"{owned_name('board')}-")
            Path(path).unlink()
        os.ftruncate(descriptor, (workers + 1) * _BYTES)
        return cls(descriptor, workers)

    def progress_of(self, worker: int) -> memoryview:
        """The word into which this worker writes its progress."""
        return self._words[(worker + 1) * _WORDS : (worker + 1) * _WORDS + 1]

    def begun_by(self, worker: int) -> int:
        """How many chunks this worker has begun."""
        return self._words[(worker + 1) * _WORDS + 1]

    def begin(self, worker: int, count: int) -> None:
        """This worker begins its next chunk."""
        self._words[(worker + 1) * _WORDS + 1] = count

    def clear(self, worker: int) -> None:
        """Another worker takes this line."""
        self._words[(worker + 1) * _WORDS] = 0
        self._words[(worker + 1) * _WORDS + 1] = 0

    def cancel(self) -> None:
        """No new record may start."""
        self._words[0] = 1

    def is_set(self) -> bool:
        """Whether no new record may start; named as the method of an event, which this stands for in a worker."""
        return self._words[0] != 0

    def close(self) -> None:
        """Give the memory back."""
        self._words.release()
        self._map.close()
        os.close(self.descriptor)
