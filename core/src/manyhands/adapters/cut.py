"""Finds record boundaries in bytes that nobody has decoded, exactly as `csv.reader` would.

A quote opens a field only at the start of a record or directly behind a delimiter, CR or LF outside quotes; it closes
at the first undoubled quote; every other quote is literal. Counting quotes is wrong: `a","` opens nothing.
What the fast ways cannot tell (escapes, blank lines, lone CRs) is left to `csv.reader` itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from typing import Final, Protocol

from manyhands.worker.rows import CSVDecoder, is_regular

_BLANK_JSON_LINE: Final = re.compile(rb"\n\s+")
_LINE_END: Final = re.compile(rb"\n")


class Cutter(Protocol):
    """Record boundaries of one format. Every buffer and block starts at a record."""

    def cut(self, buffer: bytes, *, final: bool) -> int:
        """Where the last complete record ends; 0 if none does."""

    def count(self, block: bytes) -> int:
        """How many records are in a block of complete records."""

    def ends(self, block: bytes) -> list[int]:
        """Where each record of a block of complete records ends; blank lines belong to the record behind them."""

    def line_ends(self, block: bytes) -> int:
        """How many lines end in a block of complete records, as the decoder counts them."""

    def measure(self, block: bytes) -> tuple[int, int]:
        """`count` and `line_ends` at once."""


@dataclass(frozen=True)
class CSVCutter:
    """Boundaries of CSV records.

    Attributes:
        decoder: the dialect.
    """

    decoder: CSVDecoder

    def cut(self, buffer: bytes, *, final: bool) -> int:
        """Where the last complete record ends; 0 if none does."""
        if final:
            return len(buffer)
        if self.decoder.escapechar is not None:
            return self._cut_by_reader(buffer)
        end = self._last_newline(buffer)
        return end or (self._cut_by_reader(buffer) if b"\r" in buffer else 0)

    def count(self, block: bytes) -> int:
        """How many records are in a block of complete records."""
        if not block:
            return 0
        outside = self._outside(block)
        if outside is None or not is_regular(outside):
            return len(self.ends(block))
        return outside.count(b"\n") + (not outside.endswith(b"\n"))

    def ends(self, block: bytes) -> list[int]:
        """Where each record of a block of complete records ends."""
        if self._outside(block) is block and is_regular(block):
            found = [match.end() for match in _LINE_END.finditer(block)]
            return found if block.endswith(b"\n") or not block else [*found, len(block)]
        return [end for _, end in self._scan(block)]

    def line_ends(self, block: bytes) -> int:
        """How many lines end in the block: LF, CRLF and lone CR each end one."""
        newlines = block.count(b"\n")
        return newlines + block.count(b"\r") - block.count(b"\r\n") if b"\r" in block else newlines

    def measure(self, block: bytes) -> tuple[int, int]:
        """`count` and `line_ends` at once: in most blocks they are the same."""
        is_plain = self.decoder.escapechar is None and (self._quote is None or self._quote not in block)
        if is_plain and b"\r" not in block and block.endswith(b"\n") and is_regular(block):
            newlines = block.count(b"\n")
            return newlines, newlines
        return self.count(block), self.line_ends(block)

    def _outside(self, block: bytes) -> bytes | None:
        """The block with every quoted field emptied; None where only the reader can tell."""
        if self.decoder.escapechar is not None:
            return None
        quote = self._quote
        if quote is None or quote not in block:
            return block
        return self._quoted.sub(quote + quote, block)

    def _last_newline(self, buffer: bytes) -> int:
        """Behind the last LF outside quotes."""
        end = len(buffer)
        if self._quote is not None and self._quote in buffer:
            for match in reversed(list(self._quoted.finditer(buffer))):
                newline = buffer.rfind(b"\n", match.end(), end)
                if newline >= 0:
                    return newline + 1
                end = match.start()
        return buffer.rfind(b"\n", 0, end) + 1

    def _cut_by_reader(self, buffer: bytes) -> int:
        """Where the last record begins: it may not be complete, all before it are."""
        starts = [start for start, _ in self._scan(buffer)]
        return starts[-1] if starts else 0

    def _scan(self, block: bytes) -> list[tuple[int, int]]:
        """Start and end of each record. Latin-1 makes a character of each byte, so that offsets agree."""
        text = StringIO(block.decode("latin-1"), newline="")
        found, before = [], 0
        for fields in self.decoder.reader(text):
            end = text.tell()
            if fields:
                found.append((before, end))
            before = end
        return found

    @cached_property
    def _quote(self) -> bytes | None:
        return self.decoder.quotechar.encode() if self.decoder.quotechar else None

    @cached_property
    def _quoted(self) -> re.Pattern[bytes]:
        quote, delimiter = re.escape(self._quote or b""), re.escape(self.decoder.delimiter.encode())
        # Begins with the quote itself, so that the engine looks for one byte; then looks back at what is before it.
        opening = rb"%b(?<![^%b\r\n]%b)" % (quote, delimiter, quote)
        return re.compile(rb"%b[^%b]*+(?:%b%b[^%b]*+)*+(?:%b|\Z)" % (opening, quote, quote, quote, quote, quote))


@dataclass(frozen=True)
class LineCutter:
    """Boundaries of JSON lines; a line of nothing but white space is no record."""

    def cut(self, buffer: bytes, *, final: bool) -> int:
        """Where the last complete record ends; 0 if none does."""
        return len(buffer) if final else buffer.rfind(b"\n") + 1

    def count(self, block: bytes) -> int:
        """How many records are in a block of complete records."""
        return block.count(b"\n") if _has_no_blank_lines(block) else len(self.ends(block))

    def ends(self, block: bytes) -> list[int]:
        """Where each record of a block of complete records ends."""
        found, end = [], 0
        for line in block.splitlines(keepends=True) if b"\r" not in block else _keep_lines(block):
            end += len(line)
            if not line.isspace():
                found.append(end)
        return found

    def line_ends(self, block: bytes) -> int:
        """How many lines end in the block: only LF ends one."""
        return block.count(b"\n")

    def measure(self, block: bytes) -> tuple[int, int]:
        """`count` and `line_ends` at once: in most blocks they are the same."""
        newlines = block.count(b"\n")
        return newlines if _has_no_blank_lines(block) else len(self.ends(block)), newlines


def _has_no_blank_lines(block: bytes) -> bool:
    return block.endswith(b"\n") and not block[:1].isspace() and _BLANK_JSON_LINE.search(block) is None


def _keep_lines(block: bytes) -> list[bytes]:
    """Lines by LF alone: `splitlines` would also split at a CR inside a line."""
    lines = [line + b"\n" for line in block.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return [line for line in lines if line]
