"""All chunks that were read and are not yet written: the window, the order, and the sums."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from manyhands.chunks import Chunk, ChunkResult
from manyhands.errors import ProtocolError


@dataclass(slots=True)
class Attempt:
    """A range of a chunk on its way through the executor.

    Attributes:
        chunk: the range.
        crashes: how often its worker died on it.
        errors: how often it failed otherwise.
        timeouts: how often it took too long.
        due: monotonic time before which it must not be submitted.
        returned: it was submitted and came back before it began.
    """

    chunk: Chunk
    crashes: int = 0
    errors: int = 0
    timeouts: int = 0
    due: float = 0.0
    returned: bool = False

    @property
    def failures(self) -> int:
        """How often it failed, in whatever way."""
        return self.crashes + self.errors + self.timeouts

    def again(self, **charged: int) -> Attempt:
        """The same range once more, with this new count of its failures."""
        return self.part((self.chunk.lo, self.chunk.hi), **charged)

    def part(self, span: tuple[int, int], **charged: int) -> Attempt:
        """A part of the range, that inherits what is charged to the whole."""
        return replace(self, chunk=self.chunk.narrowed(*span), due=0.0, returned=False, **charged)


@dataclass(slots=True)
class OpenChunk:
    """A chunk of which something is missing.

    Attributes:
        chunk: as it was read.
        parts: results by the index of their first record.
        missing: records without a result.
        nbytes: of the chunk.
    """

    chunk: Chunk
    parts: dict[int, ChunkResult] = field(default_factory=dict)
    missing: int = 0
    nbytes: int = 0

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
        self._order: deque[int] = deque()
        self.nbytes: int = 0

    def __len__(self) -> int:
        return len(self._open) + len(self._complete)

    def open(self, chunk: Chunk) -> None:
        """A chunk was read."""
        nbytes = chunk.nbytes
        self._open[chunk.sequence] = OpenChunk(chunk, missing=chunk.size, nbytes=nbytes)
        if self._ordered:
            self._order.append(chunk.sequence)
        self.nbytes += nbytes

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
        ok, rejected, dropped = result.ok, result.rejected, result.dropped
        if ok + rejected + dropped != asked.size or ok < 0 or rejected < 0 or dropped < 0:
            sums = f"{ok} ok, {rejected} rejected, {dropped} dropped"
            raise ProtocolError(f"{_range(asked)}: {asked.size} records were given, {sums} came back")
        _check_count(result.output, ok, asked)
        _check_count(result.errors, rejected, asked)
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

    def clear(self) -> None:
        """Forget all of them."""
        self._open.clear()
        self._complete.clear()
        self._order.clear()
        self.nbytes = 0

    def pop_complete(self) -> Iterator[OpenChunk]:
        """The chunks that may be written now."""
        if self._ordered:
            while self._order and (entry := self._complete.pop(self._order[0], None)) is not None:
                self._order.popleft()
                yield self._release(entry)
        else:
            while self._complete:
                yield self._release(self._complete.pop(next(iter(self._complete))))

    def _release(self, entry: OpenChunk) -> OpenChunk:
        self.nbytes -= entry.nbytes + sum(part.nbytes for part in entry.parts.values())
        return entry


def _check_count(part: bytes | list[Any], count: int, asked: Chunk) -> None:
    if (len(part) != count) if isinstance(part, list) else (part and not count):
        raise ProtocolError(f"{_range(asked)}: the result holds other records than the {count} it counts")


def _range(part: Chunk | ChunkResult) -> str:
    return f"chunk {part.sequence} records {part.lo} to {part.hi}"
