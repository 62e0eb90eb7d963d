"""A robust mutex of POSIX threads in shared memory, by ctypes.

The kernel marks it when its holder dies, however that happens: the next who takes it is told, within microseconds.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import time
from contextlib import suppress
from functools import cache
from math import inf
from typing import Any, Final

from manyhands_zoosync.errors import LockTimeout
from manyhands_zoosync.lock import LOCK_BYTES

# The numbers of Linux, on all of its processors.
_PROCESS_SHARED: Final = 1
_ROBUST: Final = 1
_ERROR_CHECK: Final = 2

_ATTRIBUTE_BYTES: Final = 64
"""More than any processor needs: 8 at most. A mutex needs up to 48 and has `LOCK_BYTES`."""

_SLICE_SECONDS: Final = 0.1
"""A wait takes no notice of signals, so it is done in pieces, between which Python can."""

_NS: Final = 1_000_000_000


class _Timespec(ctypes.Structure):
    # On the processors of 32 bits both are longs too, in what these functions are called without a version.
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


@cache
def has_robust_locks() -> bool:
    """Whether this system has them: Linux with the C library of GNU."""
    if sys.platform != "linux":
        return False
    with suppress(ValueError, OSError):
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc") and hasattr(
            _library(), "pthread_mutex_consistent"
        )
    return False


@cache
def _library() -> Any:
    """The C library, called with the interpreter lock held: for what never waits that is quicker."""
    return _declared(ctypes.PyDLL(None))


@cache
def _waiting_library() -> Any:
    """The same, called without the interpreter lock."""
    return _declared(ctypes.CDLL(None))


def _declared(library: Any) -> Any:
    for name in ("init", "trylock", "unlock", "consistent", "timedlock", "clocklock"):
        if hasattr(library, f"pthread_mutex_{name}"):
            arguments = {"init": 2, "timedlock": 2}.get(name, 1)
            getattr(library, f"pthread_mutex_{name}").argtypes = [ctypes.c_void_p] * arguments
    if hasattr(library, "pthread_mutex_clocklock"):
        library.pthread_mutex_clocklock.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
    return library


class RobustLock:
    """See `SharedLock`.

    Args:
        memory: where it is, `LOCK_BYTES` on a multiple of as many.
        create: make it.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, memory: memoryview, *, create: bool) -> None:
        # It keeps the memory mapped: the C library gets a bare address.
        self._pin: Any = (ctypes.c_char * LOCK_BYTES).from_buffer(memory)
        self._mutex = ctypes.c_void_p(ctypes.addressof(self._pin))
        library = _library()
        self._try = library.pthread_mutex_trylock
        self._unlock = library.pthread_mutex_unlock
        if create:
            _initialise(self._mutex)

    def acquire(self, timeout: float | None = None) -> bool:
        """See `SharedLock.acquire`."""
        code = self._try(self._mutex)
        if code == 0:
            return False
        if code == errno.EBUSY:
            code = self._wait(timeout)
        return self._judge(code, timeout)

    def release(self) -> None:
        """See `SharedLock.release`."""
        code = self._unlock(self._mutex)
        if code:
            raise OSError(code, f"the lock cannot be released: {os.strerror(code)}")

    def close(self) -> None:
        """See `SharedLock.close`."""
        self._pin = None

    def _wait(self, timeout: float | None) -> int:
        left = inf if timeout is None else timeout
        while True:
            seconds = max(min(left, _SLICE_SECONDS), 0.0)
            code = _timed_lock(self._mutex, seconds)
            left -= seconds  # the clock went on while this process, and whoever holds the lock, was stopped
            if code != errno.ETIMEDOUT or left <= 0:
                return code

    def _judge(self, code: int, timeout: float | None) -> bool:
        if code == 0:
            return False
        if code == errno.EOWNERDEAD:
            _library().pthread_mutex_consistent(self._mutex)
            return True
        if code == errno.EDEADLK:  # ^C came when this thread had just taken it
            return True
        if code == errno.ETIMEDOUT:
            raise LockTimeout(f"another process has held the lock for {timeout:g} seconds; is it stopped?")
        raise OSError(code, f"the lock cannot be taken: {os.strerror(code)}")


def _initialise(mutex: ctypes.c_void_p) -> None:
    library = _library()
    attributes = ctypes.create_string_buffer(_ATTRIBUTE_BYTES)
    _check(library.pthread_mutexattr_init(attributes))
    try:
        _check(library.pthread_mutexattr_setpshared(attributes, _PROCESS_SHARED))
        _check(library.pthread_mutexattr_setrobust(attributes, _ROBUST))
        _check(library.pthread_mutexattr_settype(attributes, _ERROR_CHECK))
        _check(library.pthread_mutex_init(mutex, ctypes.addressof(attributes)))
    finally:
        library.pthread_mutexattr_destroy(attributes)


def _check(code: int) -> None:
    if code:
        raise OSError(code, f"a lock cannot be made: {os.strerror(code)}")


def _timed_lock(mutex: ctypes.c_void_p, seconds: float) -> int:
    library = _waiting_library()
    if hasattr(library, "pthread_mutex_clocklock"):
        until = _timespec(time.clock_gettime_ns(time.CLOCK_MONOTONIC), seconds)
        return int(library.pthread_mutex_clocklock(mutex, time.CLOCK_MONOTONIC, ctypes.addressof(until)))
    until = _timespec(time.time_ns(), seconds)  # glibc before 2.30: whoever sets the clock changes the time limit
    return int(library.pthread_mutex_timedlock(mutex, ctypes.addressof(until)))


def _timespec(now: int, seconds: float) -> _Timespec:
    return _Timespec(*divmod(now + int(seconds * _NS), _NS))
