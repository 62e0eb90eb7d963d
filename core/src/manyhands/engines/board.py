"""How far each pipe of an engine is: a small file that the engine and its workers have mapped.

    line 0        word 0: 1 once everything is to end
    line n + 1    pipe n: the fields of `Status`

A line is 64 bytes, eight words of 64 bits. Each word is written and read as a whole; a line is not, so what is read of
a pipe at work is good for a display, not for accounts.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from manyhands.processes.owner import owned_name, owner_of

if TYPE_CHECKING:
    from types import TracebackType

    from manyhands.report import FlowReport

_WORDS: Final = 8
_BYTES: Final = 8 * _WORDS
_KIND: Final = "board"
_PAGE: Final = mmap.PAGESIZE
_MEMORY: Final = Path("/proc/self/statm")


class Status(NamedTuple):
    """How far a pipe is.

    Attributes:
        read, ok, rejected, dead, dropped: records.
        ram_bytes: resident memory of the process that runs it; 0 where that cannot be had.
        heartbeat: when this was written, in nanoseconds of the monotonic clock; 0: never.
        pid: of the process that runs it.
    """

    read: int = 0
    ok: int = 0
    rejected: int = 0
    dead: int = 0
    dropped: int = 0
    ram_bytes: int = 0
    heartbeat: int = 0
    pid: int = 0

    @classmethod
    def of(cls, report: FlowReport) -> Self:
        """Of a run in this process, now."""
        r = report
        counts = (r.read, r.ok, r.rejected, r.dead, r.dropped)
        return cls(*counts, _resident(), time.monotonic_ns(), os.getpid())


class Board:
    """The file, mapped.

    Args:
        path: of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._words = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls, pipes: int) -> Self:
        """A new one, all zero, in the temporary folder; its maker removes it.

        Those that runs left behind which were killed are removed.

        Raises:
            OSError: it cannot be created.
        """
        folder = Path(tempfile.gettempdir())
        _sweep(folder)
        path = folder / f"{owned_name(_KIND)}{time.monotonic_ns()}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.ftruncate(descriptor, (pipes + 1) * _BYTES)
        finally:
            os.close(descriptor)
        return cls(path)

    def read(self, pipe: int) -> Status:
        """How far a pipe is."""
        line = (pipe + 1) * _WORDS
        return Status(*self._words[line : line + _WORDS])

    def write(self, pipe: int, status: Status) -> None:
        """Say how far a pipe is."""
        line = (pipe + 1) * _WORDS
        for word, value in enumerate(status, line):
            self._words[word] = value

    def cancel(self) -> None:
        """Let every pipe end."""
        self._words[0] = 1

    @property
    def is_cancelled(self) -> bool:
        """Every pipe is to end."""
        return self._words[0] != 0

    def remove(self) -> None:
        """Remove the file; who has it mapped keeps it."""
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of it. Idempotent."""
        self._words.release()
        self._map.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _sweep(folder: Path) -> None:
    for path in folder.glob(f"manyhands-*-{_KIND}*"):
        owner = owner_of(path.name)
        if owner is not None and not owner.may_live():
            with suppress(OSError):  # another user's
                path.unlink()


def _resident() -> int:
    try:
        return int(_MEMORY.read_bytes().split()[1]) * _PAGE
    except OSError:  # not Linux
        return 0
