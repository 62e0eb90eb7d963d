"""Memory that processes share and that cannot be left behind.

It has no name, or loses it before anybody knows it: it goes with the last process that has it open or mapped. Others
get it as a descriptor, inherited or over a private channel. No resource tracker hears of it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from manyhands.processes.owner import owned_name

_NAME: Final = "manyhands"
_OWNER_ONLY: Final = 0o600
_SEALS: Final[int] = getattr(fcntl, "F_SEAL_GROW", 0) | getattr(fcntl, "F_SEAL_SHRINK", 0)


class Segment:
    """A piece of shared memory, mapped here.

    Args:
        descriptor: of the memory; belongs to the segment from now on.
        size: in bytes.

    Raises:
        OSError: it cannot be mapped; the descriptor is closed.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        self.size = size
        self._views: list[memoryview] = []
        try:
            self._map: mmap.mmap | None = mmap.mmap(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    def create(cls, size: int) -> Segment:
        """A new one, all zero. Memory is used only for those pages that are written.

        Raises:
            OSError: there is no memory, or there are no descriptors, for it.
        """
        descriptor = _create_memory() if hasattr(os, "memfd_create") else _create_file()
        try:
            os.fchmod(descriptor, _OWNER_ONLY)
            os.ftruncate(descriptor, size)
            _seal(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, size)

    def view(self, offset: int, size: int) -> memoryview:
        """Bytes of it, in place. Slices of what it returns should not outlive the segment."""
        return self._keep(self._all()[offset : offset + size])

    def words(self, offset: int, count: int) -> memoryview:
        """Unsigned 64-bit numbers of it, in place.

        To set or get one that lies on a multiple of 8 is a single instruction of a 64-bit processor, because CPython
        copies an item of this format as a whole: whoever reads it in another process sees the old number or the new
        one, never a mixture. That is all that holds. In which order several such numbers are seen is another matter:
        x86 keeps the order of the writer, ARM does not. Where the order matters, a lock must be held.
        """
        return self._keep(self._all()[offset : offset + 8 * count].cast("Q"))

    def discard(self, offset: int, size: int) -> None:
        """Give back the memory of the pages that lie wholly in here, if this system can; then they are zero again."""
        start = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (offset + size) // mmap.PAGESIZE * mmap.PAGESIZE
        if self._map is not None and end > start:
            with suppress(OSError, AttributeError):  # another system
                self._map.madvise(mmap.MADV_REMOVE, start, end - start)

    def _all(self) -> memoryview:
        if self._map is None:
            raise ValueError("the segment is closed")
        return memoryview(self._map)

    def _keep(self, view: memoryview) -> memoryview:
        self._views.append(view)
        return view

    def close(self) -> None:
        """Give it back; what `view` and `words` returned can no longer be used. Idempotent.

        If somebody still has a slice of them, the memory stays mapped until that is gone.
        """
        if self._map is None:
            return
        for view in self._views:
            with suppress(BufferError):
                view.release()
        with suppress(BufferError):
            self._map.close()
        self._map = None
        os.close(self.descriptor)


def _create_memory() -> int:
    return os.memfd_create(_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def _create_file() -> int:
    """A file that has its name for a moment; who is killed in this moment leaves a name that says whose it was."""
    descriptor, path = tempfile.mkstemp(prefix=f"{owned_name('segment')}-")
    Path(path).unlink()
    return descriptor


def _seal(descriptor: int) -> None:
    """Fix its size: who touched mapped memory behind the end of its file would be killed by SIGBUS."""
    with suppress(OSError, AttributeError):  # a file, or another system
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
