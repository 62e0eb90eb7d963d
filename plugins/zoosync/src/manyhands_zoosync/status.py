"""What a worker is doing, in a cell of shared memory that anybody may read at any time without a lock.

A cell is two lines of 64 bytes, 16 words:

    word 0         sequence: odd while the worker writes, and two more after each time
    words 1 to 10  the fields of `WorkerStatus`, in order
    word 11        check sum of the sequence and the fields

Each cell has one writer. It makes the sequence odd, writes the rest, and makes it even. A reader copies the cell and
then looks at the sequence again: if it is even and still the same, the copy is of one writing. That is exact where
stores are seen in their order, as on x86; the two stores of the sequence are single ones, see `Segment.words`. ARM may
show the new sequence before the last of the fields. There the check sum tells, with an error in 2**32 of the rare
copies that are mixed.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final
from zlib import crc32

CELL_BYTES: Final = 128
"""Room that a cell needs in shared memory, on a multiple of 64."""

_FIELDS: Final = Struct("=10Q")
_CHECK: Final = Struct("=Q")
_CHECKED: Final = Struct("=10QQ")
_TRIES: Final = 100
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
        pid: its process id.
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
    pid: int = 0
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
        self._memory = memory
        self._words = memory.cast("Q")
        self._sequence = self._words[0] & ~1
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
        self._write(fields)

    def _write(self, fields: bytes) -> None:
        self._sequence = sequence = self._sequence + 2
        words = self._words
        words[0] = sequence - 1
        self._memory[8 : 8 + _FIELDS.size] = fields
        words[11] = crc32(fields, sequence & 0xFFFFFFFF)
        words[0] = sequence

    def close(self) -> None:
        """Give up the memory, before it is closed."""
        self._words.release()


class StatusReader:
    """The side of everybody else: any number of them may read a cell.

    Args:
        memory: the cell, `CELL_BYTES`.
    """

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self._words = memory.cast("Q")
        self._last = WorkerStatus()
        self._seen = 0

    def read(self) -> WorkerStatus:
        """What the worker said last; what it said before, if it is just writing or died writing."""
        words = self._words
        for _ in range(_TRIES):
            sequence = words[0]
            if sequence == self._seen:
                break
            copy = bytes(self._memory[8 : 8 + _CHECKED.size])
            if sequence == words[0] and not sequence & 1 and _is_whole(copy, sequence):
                state, *numbers = _FIELDS.unpack_from(copy)
                self._seen, self._last = sequence, WorkerStatus(WorkerState(state), *numbers)
                break
        return self._last

    def close(self) -> None:
        """Give up the memory, before it is closed."""
        self._words.release()


def _is_whole(copy: bytes, sequence: int) -> bool:
    (check,) = _CHECK.unpack_from(copy, _FIELDS.size)
    return bool(check == crc32(copy[: _FIELDS.size], sequence & 0xFFFFFFFF))


def ram_bytes() -> int:
    """Memory that this process has in use, in bytes; 0 where that cannot be had."""
    try:
        with open(_STATM, "rb", buffering=0) as file:  # noqa: PTH123  # a third of the time of Path
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return 0
