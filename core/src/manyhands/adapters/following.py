"""Copies a part of an output while another process is still writing it, so that little is left to copy at its end."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

_COPY_BYTES: Final = 1 << 20
_RANGE_BYTES: Final = 1 << 30
_SYNC_BYTES: Final = 8 << 20
"""So much is written out at once: what waits for the end of the last part would otherwise be all of it."""


class Follower:
    """Appends what is in one file, as far as it is written, to another.

    Args:
        path: the file that is written.
        target: descriptor of the other, at its end.

    Raises:
        OSError: it cannot be opened; nothing stays open.
    """

    def __init__(self, path: Path, target: int) -> None:
        self._target = target
        self._start = os.lseek(target, 0, os.SEEK_END)
        self._unsynced = 0
        self._source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)

    def go_on(self) -> None:
        """Copy what has been written since. Raises `OSError`."""
        before = os.lseek(self._target, 0, os.SEEK_CUR)
        copy_bytes(self._source, self._target)
        self._unsynced += os.lseek(self._target, 0, os.SEEK_CUR) - before
        if self._unsynced > _SYNC_BYTES:
            os.fsync(self._target)
            self._unsynced = 0

    def end(self, complete: Path | None) -> bool:
        """Copy the rest if the complete file is the one that was followed, else take back what was copied.

        Args:
            complete: that file; None: there is none.

        Raises:
            OSError: it cannot be copied.
        """
        try:
            if complete is not None and self._copy_rest(complete):
                return True
            os.ftruncate(self._target, self._start)
            os.lseek(self._target, 0, os.SEEK_END)
            return False
        finally:
            os.close(self._source)

    def _copy_rest(self, complete: Path) -> bool:
        try:
            # Opened anew, for a network file system may not show through the old descriptor what was written since.
            source = os.open(complete, os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        with os.fdopen(source, "rb", 0):
            # As long as it is open here, no other file can have its number.
            if not os.path.samestat(os.fstat(self._source), os.fstat(source)):
                return False
            os.lseek(source, os.lseek(self._source, 0, os.SEEK_CUR), os.SEEK_SET)
            copy_bytes(source, self._target)
            return True


def copy_bytes(source: int, target: int) -> None:
    """Append what one descriptor has to read to another, in the kernel where that can do it."""
    with suppress(OSError, AttributeError):  # not between these file systems, or not on this one
        while os.copy_file_range(source, target, _RANGE_BYTES):
            pass
    while data := os.read(source, _COPY_BYTES):
        view = memoryview(data)
        while view:
            view = view[os.write(target, view) :]
