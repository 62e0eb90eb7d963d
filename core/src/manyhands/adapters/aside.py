"""A file that is written aside: how it is opened and locked, and how much of it is whole."""

from __future__ import annotations

import errno
import io
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

try:
    import fcntl
except ImportError:  # Windows has no flock: there, two runs into one output at a time go unnoticed
    fcntl = None  # type: ignore[assignment]

HAS_LOCKS: bool = fcntl is not None
"""Also, that a file may be renamed or removed while it is open."""

BUFFER_BYTES: Final = io.DEFAULT_BUFFER_SIZE


def open_aside(partial: Path) -> io.BufferedRandom | None:
    """The file, empty and locked; None if another run has it."""
    # A link in its place would have us write into what it leads to.
    if partial.is_symlink():
        raise OSError(errno.ELOOP, f"{partial} is a link; remove it")
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    while True:
        file = buffered(os.open(partial, flags, 0o666))
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            file.close()
            raise OSError(errno.ELOOP, f"{partial} is no regular file of its own; move or remove it")
        if not lock(file.fileno()):
            file.close()
            return None
        if is_at(file, partial):
            file.truncate(0)
            return file
        # Whoever had it published or removed it between our two calls: what we hold may be a complete output.
        file.close()


def buffered(descriptor: int) -> io.BufferedRandom:
    """A file to read and write, by its descriptor."""
    return io.BufferedRandom(io.FileIO(descriptor, "r+"), BUFFER_BYTES)


def is_at(file: IO[bytes], path: Path) -> bool:
    """The file is what has this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def lock(descriptor: int) -> bool:
    """Whether nobody else has locked it; where there are no locks, nobody has."""
    if not HAS_LOCKS:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def close_quietly(file: io.IOBase) -> None:
    """Close a file that is lost or safe either way."""
    with suppress(OSError):
        file.close()


def complete_bytes(data: bytes, *, quotes: bool) -> int:
    """How much of it is whole records."""
    end = data.rfind(b"\n") + 1
    is_open = quotes and data.count(b'"', 0, end) % 2
    while is_open:
        start = data.rfind(b"\n", 0, end - 1) + 1
        is_open ^= data.count(b'"', start, end) % 2
        end = start
    return end
