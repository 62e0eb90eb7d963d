"""Reads a file as raw blocks cut at record boundaries."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from manyhands.adapters.base import Block
from manyhands.adapters.cut import Cutter
from manyhands.adapters.input_file import InputFile
from manyhands.errors import InputError, ProtocolError, SourceError
from manyhands.worker.rows import Decoder

BLOCK_BYTES: Final = 256 * 1024
MAX_RECORD_BYTES: Final = 16 * 1024 * 1024
"""A longer record ends the run: without a bound, one unclosed quote would draw the whole rest into memory."""


def begin(file: InputFile) -> bytes:
    """The first bytes of a file, without a byte order mark.

    Raises:
        InputError: reading failed, or what should be compressed is not.
    """
    return read_ahead(file, max(BLOCK_BYTES, len(codecs.BOM_UTF8))).removeprefix(codecs.BOM_UTF8)


def read_ahead(file: InputFile, size: int) -> bytes:
    """Bytes that are needed to open the file.

    Raises:
        InputError: as for `begin`.
    """
    try:
        return file.read(size)
    except SourceError as error:
        raise InputError(f"cannot read {file.path}: {error.__cause__}") from error


class BlockSource:
    """An opened file of records.

    Args:
        file: the file, past its header.
        decoder: how workers read a block.
        cutter: where records end.
        begun: bytes already read from the file, past its header.
        line: 1-based line of the first of them.
        json_input: the records are JSON.
    """

    def __init__(
        self, file: InputFile, decoder: Decoder, cutter: Cutter, *, begun: bytes, line: int, json_input: bool
    ) -> None:
        self.decoder: Decoder | None = decoder
        self.json_input = json_input
        self._file = file
        self._cutter = cutter
        self._begun = begun
        self._line = line
        self._offset = 0
        self._from = 0
        self._until: int | None = None
        self._nbytes: int | None = None

    def blocks(self, chunksize: int | None, nbytes: int | None = None) -> Iterator[Block]:
        """Raw blocks of exactly `chunksize` records, or of about `nbytes`, by default 256 KiB.

        Raises:
            SourceError: reading failed, or a record is longer than `MAX_RECORD_BYTES`.
        """
        pieces: Iterable[bytes] = self._pieces(nbytes or BLOCK_BYTES)
        if chunksize is not None:
            pieces = self._exactly(pieces, chunksize)
        for data in pieces:
            if self._until is not None and self._offset >= self._until:
                return
            count, line_ends = self._cutter.measure(data)
            if count:
                yield Block(data, count, self._line, self._offset)
            self._line += line_ends
            self._offset += len(data)

    def narrow(self, offset: int, line: int | None, until: int | None) -> None:
        """Be a part of the input: no block before one that begins at `offset`, none that begins at `until` or behind.

        Args:
            offset: where a block of the whole begins, with the same sizes given to `blocks`.
            line: of its first byte; None where it is the first.
            until: bytes; None: to the end.

        Raises:
            SourceError: reading failed.
        """
        self._nbytes = self.nbytes
        ahead = offset - len(self._begun)
        self._begun = self._file.skip(ahead) if ahead > 0 else self._begun[offset:]
        self._offset, self._from, self._until = offset, offset, until
        self._line = self._line if line is None else line

    @property
    def nbytes(self) -> int | None:
        """Bytes of all records; None where only reading them tells."""
        left = self._file.left()
        return None if left is None else left + len(self._begun)

    def records(self) -> Iterable[object]:
        """None: workers decode the blocks."""
        raise ProtocolError("a block source has no records")

    def consumed(self) -> float | None:
        """The fraction that was read of the file, or of the part that this is."""
        end = self._nbytes if self._until is None else self._until
        if end is None:
            return self._file.consumed() if not self._from else None
        return min((self._offset - self._from) / (end - self._from), 1.0) if end > self._from else 1.0

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._file.close()

    def _pieces(self, nbytes: int) -> Iterator[bytes]:
        """Bytes of whole records; where one piece ends depends on nothing but where it begins."""
        held, size, ended = self._begun, nbytes, False
        while held or not ended:
            while len(held) < size and not ended:
                data = self._file.read(size - len(held))
                held, ended = held + data, not data
            window = held[:size]
            end = self._cutter.cut(window, final=ended and len(held) <= size)
            if end:
                yield window[:end]
                held, size = held[end:], nbytes
            elif len(window) > MAX_RECORD_BYTES:
                raise SourceError(self._endless(len(window)))
            else:
                size *= 2  # or the search for the end of a long record would be quadratic

    def _exactly(self, pieces: Iterable[bytes], chunksize: int) -> Iterator[bytes]:
        held: list[bytes] = []
        records = 0
        for piece in pieces:
            held.append(piece)
            records += self._cutter.count(piece)
            if records >= chunksize:
                data = b"".join(held)
                ends = self._cutter.ends(data)
                cuts = [0, *ends[chunksize - 1 :: chunksize]]
                yield from (data[a:b] for a, b in pairwise(cuts))
                held, records = [data[cuts[-1] :]], records % chunksize
        yield b"".join(held)

    def _endless(self, size: int) -> str:
        where = f"{self._file.path}, line {self._line} or behind"
        return f"{where}: a record of more than {size >> 20} MiB; is a quote never closed?"
