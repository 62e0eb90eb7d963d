"""What travels between the driver and a worker."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

MAX_RECORDS: Final = 1 << 24
"""Records in a chunk at most: the index of each fits into the word in which a worker says where it is."""


class ChunkKind(StrEnum):
    """How a chunk's payload is to be read."""

    RAW = "raw"
    """Undecoded bytes of the input, cut at a record boundary."""
    PACKED = "packed"
    """Records as msgpack with extension types."""
    LIST = "list"
    """The records themselves; only inside one process."""
    CALLS = "calls"
    """A function and the arguments of its calls: a function map."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of consecutive records: the unit that an executor runs.

    Attributes:
        sequence: 0-based number of the chunk in the run.
        start: position of the payload's first record in the input.
        count: how many records the payload holds.
        kind: how to read the payload.
        payload: the records.
        line: 1-based line of the payload's first record, if the input has lines.
        compressed: the payload is lz4-compressed.
        lo, hi: the records of the payload to run, as a half-open range of indexes. A chunk is narrowed by its
            bounds, never by cutting its bytes.
        attempt: how often this range was submitted before.
    """

    sequence: int
    start: int
    count: int
    kind: ChunkKind
    payload: Any
    line: int | None = None
    compressed: bool = False
    lo: int = 0
    hi: int = -1
    attempt: int = 0

    def __post_init__(self) -> None:
        if self.hi < 0:
            object.__setattr__(self, "hi", self.count)

    @property
    def size(self) -> int:
        """Records to run."""
        return self.hi - self.lo

    @property
    def nbytes(self) -> int:
        """Bytes of the payload; for records inside one process a guess by the first of them."""
        if isinstance(self.payload, bytes):
            return len(self.payload)
        return weigh(self.payload[0]) * self.count if self.kind is ChunkKind.LIST and self.count else 0

    def narrowed(self, lo: int, hi: int) -> Chunk:
        """The same payload, bounded to records `lo` to `hi`."""
        return replace(self, lo=lo, hi=hi, attempt=self.attempt + 1)


@dataclass(slots=True)
class ChunkResult:
    """What became of a chunk's records: `hi - lo == ok + rejected + dropped`.

    Attributes:
        sequence, lo, hi: the range this result is of, as in the chunk.
        ok, rejected, dropped: how many records ended so.
        output: the ok records in input order: encoded bytes where the output has an encoder, else entries. Of calls
            the values, pickled if they were pickled.
        errors: one error record for each rejected one, in input order; encoded likewise. Of calls see
            `manyhands.worker.calls`.
        stages: seconds spent in each stage.
        worker: who ran it, for events and the report; never part of an output.
    """

    sequence: int
    lo: int
    hi: int
    ok: int = 0
    rejected: int = 0
    dropped: int = 0
    output: bytes | list[Any] = b""
    errors: bytes | list[Any] = b""
    stages: dict[str, float] = field(default_factory=dict)
    worker: str = ""

    @property
    def dead(self) -> int:
        """Records without a result: only in what the driver makes of a range that was given up."""
        return self.hi - self.lo - self.ok - self.rejected - self.dropped

    @property
    def nbytes(self) -> int:
        """Bytes of the encoded parts."""
        output, errors = self.output, self.errors
        return (len(output) if type(output) is bytes else 0) + (len(errors) if type(errors) is bytes else 0)


def weigh(record: Any) -> int:
    """About how many bytes a record takes, told by the texts and numbers in it: cheap, and the same everywhere."""
    if isinstance(record, dict):
        return _ITEM_BYTES + sum(map(weigh, record.values()))
    if isinstance(record, str | bytes | bytearray):
        return _ITEM_BYTES + len(record)
    if isinstance(record, list | tuple):
        return _ITEM_BYTES + sum(map(weigh, record[:_LOOKED_AT])) * max(len(record) // _LOOKED_AT, 1)
    return _ITEM_BYTES


_ITEM_BYTES: Final = 50
_LOOKED_AT: Final = 100
