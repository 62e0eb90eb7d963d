"""All chunks that were read and are not yet written: the window, the order, and the sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from manyhands.chunks import Chunk, ChunkResult
from manyhands.errors import ProtocolError


@dataclass(slots=True)
class Attempt:
    """A range of a chunk on its way through the executor.

    Attributes:
        chunk: the range.
        crashes: how often its worker died on it.
        errors: how often it failed otherwise.
        due: monotonic time before which it must not be submitted.
        returned: it was submitted and came back before it began.
    """

    chunk: Chunk
    crashes: int = 0
    errors: int = 0
    due: float = 0.0
    returned: bool = False


@dataclass(slots=True)
class OpenChunk:
    """A chunk of which something is missing.

    Attributes:
        chunk: as it was read.
        parts: results by the index of their first record.
        missing: records without a result.
    """

    chunk: Chunk
    parts: dict[int, ChunkResult] = field(default_factory=dict)
    missing: int = 0

    def in_order(self) -> list[ChunkResult]:
        """The results by record."""
        return [self.parts[lo] for lo in sorted(self.parts)]


class Ledger:
    """Chunks that were read and are not yet written.

    Args:
        ordered: give them out in the order they were read; else as they are complete.
    """

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._open: dict[int, OpenChunk] = {}
        self._complete: dict[int, OpenChunk] = {}
        self._next = 0
        self.nbytes: int = 0

    def __len__(self) -> int:
        return len(self._open) + len(self._complete)

    def open(self, chunk: Chunk) -> None:
        """A chunk was read."""
        self._open[chunk.sequence] = OpenChunk(chunk, missing=chunk.size)
        self.nbytes += chunk.nbytes

    def settle(self, result: ChunkResult, asked: Chunk) -> None:
        """A range came back.

        Args:
            result: what the executor says.
            asked: what it was asked.

        Raises:
            ProtocolError: it is the result of something else, or its sums do not match the records.
        """
        if not isinstance(result, ChunkResult):
            raise ProtocolError(f"the executor answered {_range(asked)} with {result!r}, which is no ChunkResult")
        if (result.sequence, result.lo, result.hi) != (asked.sequence, asked.lo, asked.hi):
            raise ProtocolError(f"the executor answered {_range(result)} when it was asked for {_range(asked)}")
        counts = (result.ok, result.rejected, result.dropped)
        if sum(counts) != asked.size or min(counts) < 0:
            sums = f"{result.ok} ok, {result.rejected} rejected, {result.dropped} dropped"
            raise ProtocolError(f"{_range(asked)}: {asked.size} records were given, {sums} came back")
        for part, count in ((result.output, result.ok), (result.errors, result.rejected)):
            if (len(part) != count) if isinstance(part, list) else (part and not count):
                raise ProtocolError(f"{_range(asked)}: the result holds other records than the {count} it counts")
        self._add(result)

    def bury(self, result: ChunkResult) -> None:
        """A record was given up; `result` holds its error record and counts nothing."""
        self._add(result)

    def _add(self, result: ChunkResult) -> None:
        entry = self._open[result.sequence]
        if result.lo in entry.parts:
            raise ProtocolError(f"{_range(result)} was answered twice")
        entry.parts[result.lo] = result
        entry.missing -= result.hi - result.lo
        self.nbytes += result.nbytes
        if entry.missing == 0:
            self._complete[result.sequence] = self._open.pop(result.sequence)

    def pop_complete(self) -> Iterator[OpenChunk]:
        """The chunks that may be written now."""
        if self._ordered:
            while (entry := self._complete.pop(self._next, None)) is not None:
                self._next += 1
                yield self._release(entry)
        else:
            while self._complete:
                yield self._release(self._complete.pop(next(iter(self._complete))))

    def _release(self, entry: OpenChunk) -> OpenChunk:
        self.nbytes -= entry.chunk.nbytes + sum(part.nbytes for part in entry.parts.values())
        return entry


def _range(part: Chunk | ChunkResult) -> str:
    return f"chunk {part.sequence} records {part.lo} to {part.hi}"
