"""The lock of a file, for systems without robust mutexes.

It is the kind of lock that belongs to a process (`lockf`), not the kind that belongs to an open file (`flock`): all
processes have inherited the same open file, so that they could not exclude each other by that.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from math import inf
from typing import Final

from manyhands_zoosync.errors import LockTimeout

_FIRST_NAP: Final = 0.000_05
_LONGEST_NAP: Final = 0.002

_in_this_process: Final = threading.Lock()
"""Threads of one process all have what one of them has. One for all files: who has two of these locks is rare."""


class FileLock:
    """See `SharedLock`.

    Args:
        holder: a word in shared memory that says who holds it.
        descriptor: of the file. As long as the lock is in use, this process must close no descriptor of this file:
            that would let it go.
    """

    def __init__(self, holder: memoryview, descriptor: int) -> None:
        self._holder = holder
        self._descriptor = descriptor

    def acquire(self, timeout: float | None = None) -> bool:
        """See `SharedLock.acquire`."""
        if not _in_this_process.acquire(timeout=-1 if timeout is None else timeout):
            raise _late(timeout)
        try:
            self._take(timeout)
        except BaseException:
            _in_this_process.release()
            raise
        was_held = self._holder[0] != 0
        self._holder[0] = os.getpid()
        return was_held

    def _take(self, timeout: float | None) -> None:
        nap, left = _FIRST_NAP, inf if timeout is None else timeout
        while True:
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
            except (BlockingIOError, PermissionError):
                if left <= 0:
                    raise _late(timeout) from None
                time.sleep(nap)
                left -= nap  # the clock went on while this process, and whoever holds the lock, was stopped
                nap = min(2 * nap, _LONGEST_NAP)
            else:
                return

    def release(self) -> None:
        """See `SharedLock.release`."""
        self._holder[0] = 0
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1)
        _in_this_process.release()

    def close(self) -> None:
        """See `SharedLock.close`."""


def _late(timeout: float | None) -> LockTimeout:
    return LockTimeout(f"another process has held the lock for {timeout:g} seconds; is it stopped?")
