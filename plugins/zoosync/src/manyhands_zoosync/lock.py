"""Locks between processes that survive the death of whoever holds them.

There are two kinds with one interface. A robust mutex needs the C library of GNU; it costs less than a microsecond
while nobody else wants it. Elsewhere it is the lock of a file, which the kernel takes from the dead.

Who gets the lock sees all that its earlier holders wrote, in whatever order: that is what processors guarantee for the
instructions inside it.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Final, Literal, Protocol

from manyhands_zoosync.segment import Segment

LOCK_BYTES: Final = 64
"""Room that a lock needs in shared memory, on a multiple of as many."""

LockKind = Literal["robust", "file"]


class SharedLock(Protocol):
    """A lock that processes share. It belongs to a thread, which must not take it twice."""

    def acquire(self, timeout: float | None = None) -> bool:
        """Take it.

        Args:
            timeout: seconds to wait for it, without those for which this process is stopped; None: as long as it takes.

        Returns:
            True if its last holder died, or was interrupted, while it held it: what the lock guards may be half done,
            and must be put right before anything else.

        Raises:
            LockTimeout: it stayed in other hands.
        """

    def release(self) -> None:
        """Let it go. Only for its holder."""

    def close(self) -> None:
        """Give up using it, before the memory is closed. Idempotent."""


def best_kind() -> LockKind:
    """The kind for this system."""
    from manyhands_zoosync.robust import has_robust_locks

    return "robust" if has_robust_locks() else "file"


def open_lock(segment: Segment, offset: int, kind: LockKind, *, create: bool) -> SharedLock:
    """The lock at a place in shared memory.

    Args:
        segment: the memory.
        offset: of the place; `LOCK_BYTES` from there belong to the lock.
        kind: the same in all processes, see `best_kind`.
        create: make it, which one process does before the others look.
    """
    if kind == "robust":
        from manyhands_zoosync.robust import RobustLock

        return RobustLock(segment.view(offset, LOCK_BYTES), create=create)
    from manyhands_zoosync.filelock import FileLock

    return FileLock(segment.words(offset, 1), segment.descriptor)


class Guard:
    """Takes a lock for a `with` block, and puts right what a dead holder left half done.

    Args:
        lock: it.
        repair: called with the lock held, when its last holder died holding it. It must bear being repeated.
        timeout: seconds after which a lock that nobody lets go is an error.
    """

    def __init__(self, lock: SharedLock, repair: Callable[[], object], timeout: float) -> None:
        self._acquire = lock.acquire
        self._release = lock.release
        self._repair = repair
        self._timeout = timeout

    def __enter__(self) -> None:
        if self._acquire(self._timeout):
            try:
                self._repair()
            except BaseException:
                self._release()
                raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()
