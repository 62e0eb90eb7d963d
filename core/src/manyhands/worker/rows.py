"""From a chunk's payload to rows: what the schema or the hooks get to see.

A row is a dict, the bytes of one JSON value, or a `BadRow`. Each call decodes afresh, so that a replay after a hook's
failure starts from untouched data.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from itertools import chain, islice, repeat
from typing import Any, Final, Protocol

from manyhands.records import ErrorDetail
from manyhands.worker.failures import detail

# A field may be as long as a record is allowed to be; the input adapter enforces that limit.
csv.field_size_limit(min(sys.maxsize, 2**31 - 1))

_BLANK_LINE: Final = re.compile(rb"\n\r?\n")


@dataclass(frozen=True, slots=True)
class BadRow:
    """A record whose text could not be read.

    Attributes:
        raw: the text, or the fields, as far as they can be told.
        error: why.
    """

    raw: Any
    error: ErrorDetail


class Decoder(Protocol):
    """How a worker reads a raw block; picklable."""

    def rows(self, block: bytes) -> list[Any]:
        """All records of the block."""

    def slices(self, block: bytes, count: int, size: int) -> Iterator[list[Any]]:
        """The same, a few at a time.

        Args:
            block: the block.
            count: how many records it was cut to hold.
            size: how many come at a time.
        """

    def lines(self, block: bytes) -> list[int]:
        """For each record of the block, how many line ends of the block stand before it."""


@dataclass(frozen=True)
class CSVDecoder:
    """Rows of CSV text, by the rules of `csv.reader`; blank lines are no records.

    Attributes:
        columns: the header's names, all different.
        encoding: ASCII-compatible, so that delimiters can be found in the bytes.
    """

    columns: tuple[str, ...]
    delimiter: str = ","
    quotechar: str | None = '"'
    escapechar: str | None = None
    encoding: str = "utf-8"

    def rows(self, block: bytes) -> list[Any]:
        """All records of the block: dicts of str by column."""
        try:
            *fields, last = self._fields(block)
            if last == [self._sentinel]:
                return self._to_dicts(fields)
        except ValueError:  # a byte that is no text, or a row of another width
            pass
        return list(self._careful_rows(block))

    def slices(self, block: bytes, count: int, size: int) -> Iterator[list[Any]]:
        """All records of the block, `size` at a time."""
        done = 0
        try:
            fields = self._fields(block)
            while rows := self._to_dicts(islice(fields, min(size, count - done))):
                if done + len(rows) == count and next(fields, None) != [self._sentinel]:
                    break  # a quote is open at the end: what came last is no row
                done += len(rows)
                yield rows
        except ValueError:  # as above; what was handed out is right all the same
            pass
        if done < count:
            rest = list(self._careful_rows(block))
            yield from (rest[first : first + size] for first in range(done, len(rest), size))

    def lines(self, block: bytes) -> list[int]:
        """For each record of the block, how many line ends of the block stand before it."""
        if self._is_plain(block) and is_regular(block):
            return list(range(len(block.splitlines())))
        reader = self.reader(StringIO(block.decode(self.encoding, "replace"), newline=""))
        found, before = [], 0
        for fields in reader:
            if fields:
                found.append(before)
            before = reader.line_num
        return found

    def _is_plain(self, block: bytes) -> bool:
        """Nothing in it takes the meaning from a line end."""
        return self.escapechar is None and (self.quotechar is None or self.quotechar.encode() not in block)

    def _fields(self, block: bytes) -> Iterator[list[str]]:
        """The fields of each record, and a last row that stands for the end.

        Raises:
            UnicodeDecodeError: it is not text.
        """
        text = block.decode(self.encoding)
        lines = self._lines_of(text, block) if block and self._is_plain(block) else None
        if lines is None:
            fields: Iterator[list[str]] = self.reader(self._with_sentinel(text))
            return fields
        return chain(map(str.split, lines, repeat(self.delimiter)), [[self._sentinel]])

    def _lines_of(self, text: str, block: bytes) -> list[str] | None:
        """The lines of a block where each is a record; None: there are others."""
        if b"\r" not in block:
            lines = text.removesuffix("\n").split("\n")
            return None if "" in lines else lines
        if block.count(b"\r") != block.count(b"\n") or not is_regular(block):
            return None
        return text.removesuffix("\r\n").split("\r\n")

    def reader(self, lines: Iterable[str]) -> Any:
        """A `csv.reader` over the lines in this dialect."""
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quotechar,
            escapechar=self.escapechar,
            quoting=csv.QUOTE_MINIMAL if self.quotechar else csv.QUOTE_NONE,
        )

    @cached_property
    def _to_dicts(self) -> Callable[[Iterable[list[str]]], list[dict[str, str]]]:
        """A dict display generated for this header: 0.27 µs a row, `dict(zip())` takes 0.37."""
        names = [f"c{index}" for index in range(len(self.columns))]
        pairs = ", ".join(f"{column!r}: {name}" for column, name in zip(self.columns, names, strict=True))
        made: Callable[[Iterable[list[str]]], list[dict[str, str]]] = eval(  # noqa: S307  # only repr()s of names
            f"lambda rows: [{{{pairs}}} for {', '.join(names)}, in rows]"
        )
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}

    @cached_property
    def _sentinel(self) -> str:
        """A line that comes back as one field: no character of it means anything to the reader."""
        taken = (self.delimiter, self.quotechar, self.escapechar)
        return next(character for character in "\x00\x01\x02\x03" if character not in taken)

    def _with_sentinel(self, text: str) -> Iterable[str]:
        """The text and one line more: it comes back as a row of its own unless a quote is open at the end."""
        closed = text if text.endswith(("\n", "\r")) else text + "\n"
        return chain(StringIO(closed, newline=""), [self._sentinel])

    def _careful_rows(self, block: bytes) -> Iterator[Any]:
        text = block.decode(self.encoding, "surrogateescape")
        *rows, last = self.reader(self._with_sentinel(text))
        for fields in filter(None, rows):
            yield self._row(fields)
        if last != [self._sentinel]:
            yield self._unclosed(last, text)

    def _row(self, fields: list[str]) -> dict[str, str] | BadRow:
        if not all(map(_is_text, fields)):
            return BadRow(self._raw(fields), detail("csv_encoding", f"not valid {self.encoding}"))
        if len(fields) != len(self.columns):
            message = f"the header has {len(self.columns)} columns, this record {len(fields)}"
            return BadRow(self._raw(fields), detail("csv_columns", message))
        return dict(zip(self.columns, fields, strict=True))

    def _unclosed(self, fields: list[str], text: str) -> BadRow:
        *head, last = fields
        cut = last.removesuffix(self._sentinel)
        if not text.endswith(("\n", "\r")):
            cut = cut.removesuffix("\n")
        where = "inside a quoted field" + (" or behind an escape" if self.escapechar else "")
        return BadRow(self._raw([*head, cut]), detail("csv_unclosed", f"the input ends {where}"))

    def _raw(self, fields: list[str]) -> Any:
        """By column where that loses nothing, else the list of fields."""
        texts = [escaped(field) for field in fields]
        return dict(zip(self.columns, texts, strict=True)) if len(texts) == len(self.columns) else texts


@dataclass(frozen=True)
class JSONLinesDecoder:
    """One JSON value a line, undecoded; blank lines are no records."""

    def rows(self, block: bytes) -> list[Any]:
        """All records of the block: the bytes of each line."""
        return [line for line in block.split(b"\n") if line and not line.isspace()]

    def lines(self, block: bytes) -> list[int]:
        """For each record of the block, how many line ends of the block stand before it."""
        return [index for index, line in enumerate(block.split(b"\n")) if line and not line.isspace()]

    def slices(self, block: bytes, count: int, size: int) -> Iterator[list[Any]]:  # noqa: ARG002  # they say it themselves
        """All records of the block, `size` at a time."""
        rows = self.rows(block)
        return (rows[first : first + size] for first in range(0, len(rows), size))


def is_regular(block: bytes) -> bool:
    """Each LF ends one record: no blank lines, no CR but in CRLF."""
    if b"\r" in block and block.count(b"\r") != block.count(b"\r\n"):
        return False
    return not block.startswith((b"\n", b"\r\n")) and _BLANK_LINE.search(block) is None


def escaped(text: str | bytes) -> str:
    r"""Text that any encoder accepts: bytes that are no text are written as `\xff`, lone surrogates as `\ud800`."""
    if isinstance(text, bytes):
        return text.decode("utf-8", "backslashreplace")
    if _is_text(text):
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # surrogates that do not stand for bytes
        return text.encode("utf-8", "backslashreplace").decode()


def snapshot(value: Any) -> Any:
    """A copy of the containers in the value, so that hooks cannot change the original; other objects are shared."""
    if type(value) is dict:
        return {key: snapshot(item) for key, item in value.items()}
    if type(value) in (list, set, tuple, bytearray):
        return type(value)(map(snapshot, value))
    return _snapshot_of_subclass(value) if isinstance(value, dict | list | set) else value


def _snapshot_of_subclass(value: Any) -> Any:
    """With whatever else it has, like the factory of a `defaultdict`."""
    copied = copy(value)
    if isinstance(copied, dict):
        dict.update(copied, {key: snapshot(item) for key, item in value.items()})  # a Counter's own would add
    elif not isinstance(copied, set):  # what is in a set does not change
        copied[:] = map(snapshot, value)
    return copied


def _is_text(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
