"""How far each pipe of an engine is: a small file that the engine and its workers have mapped.

    line 0        word 0: 1 once everything is to end; word 1: when somebody looked last
    cells         one for each pipe, see `manyhands.processes.cells`: the fields of `Status`, in order

One file for all, because each cell has lines of its own. Nobody but this user can open it.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from manyhands.live import resident
from manyhands.processes.cells import CellReader, CellWriter, cell_bytes
from manyhands.processes.owner import Owner, owned_name, owner_of

if TYPE_CHECKING:
    from types import TracebackType

    from manyhands.report import FlowReport

_LINE: Final = 64
_KIND: Final = "board"
_MILLION: Final = 1_000_000
_INTEREST_NS: Final = 1_000_000_000
"""So long after the last look somebody may look again."""

_NS: Final = 1_000_000_000

SILENT_SECONDS: Final = 2.0
"""A worker that has said nothing for so long is silent; they write ten times a second."""


class Status(NamedTuple):
    """How far a pipe is, at one time.

    Attributes:
        read, ok, rejected, dead, dropped: records.
        ram_bytes: resident memory of the process that runs it; 0 where that cannot be had.
        heartbeat: when this was written, in nanoseconds of the monotonic clock; 0: never.
        pid: of the process that runs it.
        begun: when that process started, as `manyhands.processes.owner` has it.
        reached: records that have an outcome or that it has come past, which is not counted yet.
        position: of the record that it is at, in the input.
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
    begun: int = 0
    reached: int = 0
    position: int = 0
    millionths: int = 0

    @property
    def total_processed(self) -> int:
        """Records that have an outcome."""
        return self.ok + self.rejected + self.dead + self.dropped

    @property
    def fraction(self) -> float | None:
        """Of its input, from 0 to 1; None: not known."""
        return (self.millionths - 1) / _MILLION if self.millionths else None

    @property
    def silent_seconds(self) -> float:
        """How long its worker has said nothing."""
        return (time.monotonic_ns() - self.heartbeat) / _NS

    @property
    def state(self) -> str:
        """`waiting` for a worker, `running`, or `silent`: its worker has said nothing for a while."""
        if not self.heartbeat:
            return "waiting"
        return "silent" if self.silent_seconds > SILENT_SECONDS else "running"

    @classmethod
    def of(cls, report: FlowReport, worker: Owner, position: int) -> Self:
        """Of a run in this process, now.

        Args:
            report: of the run.
            worker: this process.
            position: of the record that it is at.
        """
        r = report
        counts = (r.read, r.ok, r.rejected, r.dead, r.dropped)
        millionths = 0 if r.fraction is None else int(r.fraction * _MILLION) + 1
        now = time.monotonic_ns()
        return cls(*counts, resident() or 0, now, worker.pid, worker.start, r.reached, position, millionths)


_FIELDS: Final = len(Status._fields)
_CELL: Final = Struct(f"={_FIELDS}Q")
_CELL_BYTES: Final = cell_bytes(_FIELDS)


class Board:
    """The file, mapped.

    Args:
        path: of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open = ExitStack()
        with path.open("r+b") as file:
            shared = self._open.enter_context(mmap.mmap(file.fileno(), 0))
        self._all = self._open.enter_context(memoryview(shared))
        self._words = self._open.enter_context(self._all[:_LINE].cast("Q"))
        self._readers: dict[int, CellReader] = {}
        self._writers: dict[int, CellWriter] = {}

    @classmethod
    def create(cls, pipes: int, folder: Path | None = None) -> Self:
        """A new one, all zero; its maker removes it.

        Those that runs left behind which were killed are removed.

        Args:
            pipes: how many.
            folder: where; None: in the temporary one.

        Raises:
            OSError: it cannot be created.
        """
        folder = folder or Path(tempfile.gettempdir())
        _sweep(folder)
        path = folder / f"{owned_name(_KIND)}{time.monotonic_ns()}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(bytes(_LINE + pipes * _CELL_BYTES))  # now, for there must be room when it is mapped
        except OSError:
            path.unlink()
            raise
        return cls(path)

    def read(self, pipe: int) -> Status:
        """How far a pipe is: as it was written, at one time."""
        if pipe not in self._readers:
            self._readers[pipe] = CellReader(self._cell(pipe), _FIELDS)
            self._open.callback(self._readers[pipe].close)
        return Status(*_CELL.unpack(self._readers[pipe].read()))

    def write(self, pipe: int, status: Status) -> None:
        """Say how far a pipe is; for the one process that runs it."""
        if pipe not in self._writers:
            self._writers[pipe] = CellWriter(self._cell(pipe))
            self._open.callback(self._writers[pipe].close)
        self._writers[pipe].write(_CELL.pack(*status))

    def _cell(self, pipe: int) -> memoryview:
        start = _LINE + pipe * _CELL_BYTES
        return self._open.enter_context(self._all[start : start + _CELL_BYTES])

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
        self._open.close()

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
