"""Reads a sample of somebody's data, by the adapters that will read it in the job."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from manyhands.adapters.base import BaseInputAdapter, Block, Source
from manyhands.adapters.blocks import BLOCK_BYTES
from manyhands.adapters.csv import CSVInputAdapter
from manyhands.adapters.input_file import InputFile
from manyhands.adapters.json import JSONInputAdapter
from manyhands.errors import DecodeError, InputError, SourceError
from manyhands.scaffold.delimiter import Begun, delimiter_of
from manyhands.worker.plan import load_json
from manyhands.worker.rows import BadRow, CSVDecoder

MOST_RECORDS: Final = 500_000
"""So many are read at most: more would hardly give another model, and these take some seconds."""

_PIECE: Final = 1000
_ADAPTERS: Final = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_ALL_RIGHT: Final = "a job can only be made from records that are all right"
_ON_A_LINE: Final = (
    "each record must be on a line of its own; records of many lines are read from a .json file that has them between "
    "[ and ], with commas between them"
)
_CONVERT: Final = "convert the file to UTF-8, for example from Latin-1 by iconv -f latin1 -t utf-8"
_CONVERT_TABLE: Final = f"{_CONVERT}, or write a job by hand that names its encoding in [input]"


@dataclass(slots=True)
class Sample:
    """A file of records.

    Attributes:
        path: the file.
        ending: of its name, without that of compressed files.
        adapter: the name of the adapter that reads it.
        options: of the adapter, as in a job.
        columns: of a table; none where the records name their keys themselves.
        count: how many records have been read.
        cut: there are more.
    """

    path: Path
    ending: str
    adapter: str
    options: dict[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    count: int = 0
    cut: bool = False

    def pieces(self) -> Iterator[list[Any]]:
        """The records, some at a time: of a table dicts of texts, else what JSON has.

        Raises:
            InputError: one of them cannot be read, or there are none.
        """
        with _opened(_adapter(self)) as source:
            for piece in _blocks(source) if source.decoder else _elements(source):
                room = MOST_RECORDS - self.count
                self.cut = len(piece) > room
                if room:
                    yield [self._checked(record, line) for record, line in piece[:room]]
                if self.cut:
                    break
        if not self.count:
            raise InputError(f"{self.path} holds no records" + (", only a header" if self.columns else ""))

    @property
    def is_one_object(self) -> bool:
        """All that was read is one object in a file that commonly has an array."""
        return self.ending == ".json" and self.adapter == "jsonl" and self.count == 1

    def _checked(self, record: Any, line: int | None) -> Any:
        try:
            value = load_json(record) if isinstance(record, bytes) else record
        except DecodeError as error:
            raise self._wrong(line, str(error), self._remedy(record)) from error
        if isinstance(value, BadRow):
            remedy = _CONVERT_TABLE if value.error["type"] == "csv_encoding" else _ALL_RIGHT
            raise self._wrong(line, value.error["message"], remedy)
        if not isinstance(value, dict):
            raise self._wrong(line, f"a record must be an object, not {type(value).__name__}")
        self.count += 1
        return value

    def _remedy(self, record: bytes) -> str:
        """For a record that is no JSON."""
        if not _is_utf8(record):
            return _CONVERT
        return _ON_A_LINE if self.adapter == "jsonl" and not self.count else _ALL_RIGHT

    def _wrong(self, line: int | None, what: str, remedy: str = _ALL_RIGHT) -> InputError:
        where = f", line {line}" if line else ""
        return InputError(f"{self.path}{where}: {what}; {remedy}")


def open_sample(path: Path) -> Sample:
    """See what kind of file it is.

    Raises:
        InputError: it is missing, empty, no text, or of no known kind.
    """
    begun = _begin(path)
    ending = (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()
    if ending not in _ADAPTERS:
        raise InputError(
            f"cannot tell what {path} is: the name of a sample ends in {', '.join(_ADAPTERS)}, or .gz behind"
        )
    plain = begun.removeprefix(codecs.BOM_UTF8).strip()
    if not plain:
        raise InputError(f"{path} is empty")
    if b"\0" in begun:
        raise InputError(
            f"{path} is no text in UTF-8: there is a NUL in it; if it is text in UTF-16, convert it, for example by "
            "iconv -f utf-16 -t utf-8"
        )
    if _ADAPTERS[ending] == "csv":
        return _table(path, ending, begun)
    lines = _ADAPTERS[ending] == "jsonl" or plain.startswith(b"{")
    return Sample(path, ending, "jsonl" if lines else "json", {} if lines else {"format": "array"})


def _begin(path: Path) -> bytes:
    if path.exists() and not path.is_file() and not path.is_dir():  # what is read once is gone when the job runs
        raise InputError(f"cannot read {path}: it is no regular file")
    file = InputFile(path)
    try:
        return file.read(BLOCK_BYTES)
    except SourceError as error:
        raise InputError(str(error)) from error
    finally:
        file.close()


def _table(path: Path, ending: str, begun: bytes) -> Sample:
    beginning = Begun(begun.decode("utf-8-sig", "surrogateescape"), cut=len(begun) == BLOCK_BYTES)
    delimiter = delimiter_of(beginning, tabs=ending == ".tsv")
    _check_header(path, beginning.header(delimiter))
    with _opened(CSVInputAdapter(path, delimiter)) as source:
        columns = source.decoder.columns if isinstance(source.decoder, CSVDecoder) else ()
    return Sample(path, ending, "csv", {} if delimiter == "," else {"delimiter": delimiter}, columns)


def _check_header(path: Path, names: Sequence[str]) -> None:
    """The adapter checks it, too, but what it advises is for jobs."""
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"cannot read {path}: its header is not valid utf-8; {_CONVERT_TABLE}") from error
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise InputError(
            f"{path}: the header names {', '.join(map(repr, twice[:5]))} more than once; give each column another "
            "name in the first line"
        )


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _adapter(sample: Sample) -> BaseInputAdapter:
    if sample.adapter == "csv":
        return CSVInputAdapter(sample.path, sample.options.get("delimiter", ","))
    return JSONInputAdapter(sample.path, "lines" if sample.adapter == "jsonl" else "array")


@contextmanager
def _opened(adapter: BaseInputAdapter) -> Iterator[Source]:
    source = adapter.open()
    try:
        yield source
    except SourceError as error:
        raise InputError(str(error)) from error
    finally:
        source.close()


def _blocks(source: Source) -> Iterator[list[tuple[Any, int | None]]]:
    """The records of each block with their lines."""
    decoder: Any = source.decoder
    for block in source.blocks(None):
        yield list(zip(decoder.rows(block.data), _lines(decoder, block), strict=True))


def _lines(decoder: Any, block: Block) -> list[int]:
    return [(block.line or 1) + before for before in decoder.lines(block.data)]


def _elements(source: Source) -> Iterator[list[tuple[Any, int | None]]]:
    """The records of an array, which has no lines."""
    records: Any = source.records()
    for first in records:
        yield [(record, None) for record in (first, *islice(records, _PIECE - 1))]
