"""What a worker is doing, in a cell of shared memory that anybody may read at any time without a lock.

The cell is one of `manyhands.processes.cells`; its words are the fields of `WorkerStatus`, in order.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from manyhands.processes.cells import CellReader, CellWriter, cell_bytes

_COUNT: Final = 10
_FIELDS: Final = Struct(f"={_COUNT}Q")

CELL_BYTES: Final = cell_bytes(_COUNT)
"""Room that a cell needs in shared memory, on a multiple of 64."""

_STATM: Final = "/proc/self/statm"
_PAGE: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_MEMORY_SECONDS: Final = 0.25
_NS: Final = 1_000_000_000
_WORD: Final = (1 << 64) - 1


class WorkerState(IntEnum):
    """What a worker is up to. `WAITING`: for room, because nobody fetches its results."""

    STARTING = 0
    IDLE = 1
    RUNNING = 2
    WAITING = 3
    ENDED = 4


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What a worker said last.

    Attributes:
        state: what it is up to.
        total_processed: so many records or tasks it is through with.
        success_count: so many of them succeeded.
        error_count: so many failed.
        ram_bytes: memory that the process has in use.
        position: what it is at: a record's place in the input, a task's id.
        end: where `position` will be when all is done; 0: nobody knows.
        heartbeat: when it said that, in nanoseconds of `time.monotonic_ns`.
        pid: its process id; None: it has not begun.
        started: when it began, on the clock of `heartbeat`.
    """

    state: WorkerState = WorkerState.STARTING
    total_processed: int = 0
    success_count: int = 0
    error_count: int = 0
    ram_bytes: int = 0
    position: int = 0
    end: int = 0
    heartbeat: int = 0
    pid: int | None = None
    started: int = 0

    @property
    def silent_seconds(self) -> float:
        """How long it has said nothing."""
        return (time.monotonic_ns() - self.heartbeat) / _NS


class StatusWriter:
    """The worker's side of a cell: set attributes, then `publish`.

    Args:
        memory: the cell, `CELL_BYTES`.

    Attributes are those of `WorkerStatus`, as far as a worker sets them.
    """

    def __init__(self, memory: memoryview) -> None:
        self._cell = CellWriter(memory)
        self._pid = os.getpid()
        self._started = time.monotonic_ns()
        self._ram = 0
        self._ram_read = 0
        self.state: WorkerState = WorkerState.STARTING
        self.total_processed: int = 0
        self.success_count: int = 0
        self.error_count: int = 0
        self.position: int = 0
        self.end: int = 0

    def publish(self) -> None:
        """Let others see it, with the time and the memory in use. Takes two microseconds, not for every record."""
        now = time.monotonic_ns()
        if now - self._ram_read > _MEMORY_SECONDS * _NS:
            self._ram, self._ram_read = ram_bytes(), now
        fields = _FIELDS.pack(
            self.state,
            self.total_processed,
            self.success_count,
            self.error_count,
            self._ram,
            self.position & _WORD,
            self.end & _WORD,
            now,
            self._pid,
            self._started,
        )
        self._cell.write(fields)

    def close(self) -> None:
        """Give up the memory, before it is closed."""
        self._cell.close()


class StatusReader:
    """The side of everybody else: any number of them may read a cell.

    Args:
        memory: the cell, `CELL_BYTES`.
    """

    def __init__(self, memory: memoryview) -> None:
        self._cell = CellReader(memory, _COUNT)
        self._fields = self._cell.read()
        self._last = _status(self._fields)

    def read(self) -> WorkerStatus:
        """What the worker said last; what it said before, if it is just writing or died writing."""
        fields = self._cell.read()
        if fields is not self._fields:
            self._fields, self._last = fields, _status(fields)
        return self._last

    def close(self) -> None:
        """Give up the memory, before it is closed."""
        self._cell.close()


def _status(fields: bytes) -> WorkerStatus:
    state, total, succeeded, failed, ram, position, end, heartbeat, pid, started = _FIELDS.unpack(fields)
    counts = (total, succeeded, failed)
    return WorkerStatus(WorkerState(state), *counts, ram, position, end, heartbeat, pid or None, started)


def ram_bytes() -> int:
    """Memory that this process has in use, in bytes; 0 where that cannot be had."""
    try:
        with open(_STATM, "rb", buffering=0) as file:  # noqa: PTH123  # a third of the time of Path
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return 0
