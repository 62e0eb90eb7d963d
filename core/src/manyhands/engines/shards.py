"""Cuts an input into shards: runs of whole blocks, the same blocks that one process would have read.

Record boundaries are found by reading the file once, from its beginning, as a run does: never by a guess in its middle.
A shard begins where a block does, so chunks, positions and lines are those of the whole.

    bytes     0 ────── t1 ────── t2 ────── end      t1, t2: equal shares
    shards    0 ───────▶│1 ────────▶│2 ─────▶       each ends with the block that its share ends in
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from manyhands.adapters.base import BaseInputAdapter, Source
from manyhands.adapters.blocks import BlockSource
from manyhands.driver.run import context_of, cutting
from manyhands.errors import UsageError
from manyhands.pipe import Pipe

_OF_PROCESS: Final = ("/dev/stdin", "/dev/fd/", "/proc/")
"""What lies there differs from process to process."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of an input.

    Attributes:
        offset: bytes of the records that are before it.
        line: 1-based line of its first byte; None: the first behind the header.
        position: of its first record.
        until: no block of it begins at this byte or behind; None: it goes to the end.
    """

    offset: int
    line: int | None
    position: int
    until: int | None


class ShardInput(BaseInputAdapter):
    """A part of an input. Its `limit` and `skip_rows` are those of the whole, whose positions its records have.

    Args:
        whole: the input.
        shard: which part.
    """

    def __init__(self, whole: BaseInputAdapter, shard: Shard) -> None:
        self._whole = whole
        self._shard = shard
        self.path: Path | None = whole.path
        self.limit: int | None = whole.limit
        self.skip_rows: int = whole.skip_rows
        self.position: int = shard.position

    def open(self) -> Source:
        """Open the input and go to the shard.

        Raises:
            InputError: it is missing or unusable.
        """
        source = open_blocks(self._whole)
        source.narrow(self._shard.offset, self._shard.line, self._shard.until)
        return source


def open_blocks(adapter: BaseInputAdapter) -> BlockSource:
    """Open an input of which parts can be read.

    Raises:
        UsageError: there are no parts of it, or it cannot be opened.
    """
    what = f"{type(adapter).__name__}{f' of {adapter.path}' if adapter.path else ''} cannot be cut into shards"
    if adapter.path is None:
        raise UsageError(f"{what}: it has no file; let an executor run the pipe, such as multiprocessing")
    if adapter.path.exists() and not adapter.path.is_file():
        raise UsageError(f"{what}: it is no regular file; let an executor run the pipe, such as multiprocessing")
    if str(adapter.path.absolute()).startswith(_OF_PROCESS):
        raise UsageError(f"{what}: in a worker process this is another file; give it by its own name")
    source = adapter.open()
    if isinstance(source, BlockSource):
        return source
    source.close()
    raise UsageError(f"{what}: only CSV and JSON lines can; let an executor run the pipe, such as multiprocessing")


class Shards(Sequence[Shard]):
    """The shards of a pipe's input, each known when the reading has come to it.

    Args:
        pipe: whose input; its executor and hooks say how large blocks are.
        count: how many; where the input is small, some are empty.

    Raises:
        UsageError: the input cannot be cut, or opened.
    """

    def __init__(self, pipe: Pipe, count: int) -> None:
        self._count = count
        self._adapter = pipe.input_adapter
        source = open_blocks(self._adapter)
        try:
            context = context_of(pipe, source, threading.Event())
            self._sizes = cutting(pipe.executor, context, encoded=pipe.output_adapter is not None)
        finally:
            source.close()
        self._found: list[Shard] = []
        self._more = self._find()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        """The shard; reads the input up to its beginning.

        Raises:
            SourceError: reading failed.
        """
        wanted = range(self._count)[index]
        if isinstance(wanted, range):
            return [self[each] for each in wanted]
        while len(self._found) <= wanted:
            self._found.append(next(self._more))
        return self._found[wanted]

    def _find(self) -> Iterator[Shard]:
        total = self._nbytes()
        ends: list[int | None] = [total * number // self._count for number in range(1, self._count)]
        begun = self._begun([end for end in ends if end is not None])
        for end in (*ends, None):
            shard = next(begun, None)
            if end is None:
                begun.close()
            yield replace(shard, until=end) if shard else Shard(total, None, 0, total)

    def _begun(self, ends: list[int]) -> Generator[Shard]:
        """Where each shard begins: with the first block at or behind the end of the one before it."""
        yield Shard(0, None, 0, None)
        source, position = open_blocks(self._adapter), 0
        try:
            for block in source.blocks(*self._sizes):
                while ends and block.offset >= ends[0]:
                    yield Shard(block.offset, block.line, position, None)
                    del ends[0]
                position += block.count
                if not ends or self._is_over(position):
                    return
        finally:
            source.close()

    def _is_over(self, position: int) -> bool:
        limit = self._adapter.limit
        return limit is not None and position >= self._adapter.skip_rows + limit

    def _nbytes(self) -> int:
        """Bytes of all records; of a compressed file only reading tells."""
        source = open_blocks(self._adapter)
        try:
            total = source.nbytes
            return sum(len(block.data) for block in source.blocks(None)) if total is None else total
        finally:
            source.close()
