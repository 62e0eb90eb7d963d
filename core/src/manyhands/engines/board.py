"""How far each pipe of an engine is: a small file that the engine and its workers have mapped.

    line 0        word 0: 1 once everything is to end; word 1: when somebody looked last
    line n + 1    pipe n: the fields of `Status`

A line is 128 bytes, sixteen words of 64 bits. Each word is written and read as a whole; a line is not, so what is read
of a pipe at work is good for a display, not for accounts.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from manyhands.live import resident
from manyhands.processes.owner import owned_name, owner_of

if TYPE_CHECKING:
    from types import TracebackType

    from manyhands.report import FlowReport

_WORDS: Final = 16
_BYTES: Final = 8 * _WORDS
_KIND: Final = "board"
_MILLION: Final = 1_000_000
_INTEREST_NS: Final = 1_000_000_000
"""So long after the last look somebody may look again."""


class Status(NamedTuple):
    """How far a pipe is.

    Attributes:
        read, ok, rejected, dead, dropped: records.
        ram_bytes: resident memory of the process that runs it; 0 where that cannot be had.
        heartbeat: when this was written, in nanoseconds of the monotonic clock; 0: never.
        pid: of the process that runs it.
        reached: records that have an outcome or that it has come past, which is not counted yet.
        millionths: of its input that are done, and one more; 0: not known.
    """

    read: int = 0
    ok: int = 0
    rejected: int = 0
    dead: int = 0
    dropped: int = 0
    ram_bytes: int = 0
    heartbeat: int = 0
    pid: int = 0
    reached: int = 0
    millionths: int = 0

    @property
    def fraction(self) -> float | None:
        """Of its input, from 0 to 1; None: not known."""
        return (self.millionths - 1) / _MILLION if self.millionths else None

    @classmethod
    def of(cls, report: FlowReport) -> Self:
        """Of a run in this process, now."""
        r = report
        counts = (r.read, r.ok, r.rejected, r.dead, r.dropped)
        millionths = 0 if r.fraction is None else int(r.fraction * _MILLION) + 1
        return cls(*counts, resident() or 0, time.monotonic_ns(), os.getpid(), r.reached, millionths)


_FIELDS: Final = len(Status._fields)


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
        return Status(*self._words[line : line + _FIELDS])

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

    def look(self) -> None:
        """Let pipes know that somebody looks."""
        self._words[1] = time.monotonic_ns()

    @property
    def is_watched(self) -> bool:
        """Somebody has looked a moment ago."""
        return time.monotonic_ns() - self._words[1] < _INTEREST_NS

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
