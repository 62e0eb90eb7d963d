"""JSON in and out: one object a line, or one array."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from manyhands.adapters.base import BaseInputAdapter, BaseOutputAdapter, RecordSource, Source, Writer
from manyhands.adapters.blocks import BLOCK_BYTES, MAX_RECORD_BYTES, BlockSource, begin
from manyhands.adapters.cut import LineCutter
from manyhands.adapters.file_writer import FileWriter
from manyhands.adapters.input_file import InputFile
from manyhands.adapters.output_file import OutputFile
from manyhands.errors import SourceError
from manyhands.worker.encode import JSONEncoder
from manyhands.worker.rows import JSONLinesDecoder

Format = Literal["lines", "array"]

_CONFIG: Final = ConfigDict(extra="forbid", validate_default=True)
_LINES: Final = (".jsonl", ".ndjson")
_SPACE: Final = " \t\r\n"
_NUMBER_TAIL: Final = "e+5"
"""A number at the end of what was read may go on; with this much behind it that is no part of it, it has ended."""


@dataclass(config=_CONFIG, frozen=True)
class JSONInputAdapter(BaseInputAdapter):
    """Records of a JSON file in UTF-8.

    With lines, one that is no JSON is rejected and its neighbours go on; a line of white space is no record. In an
    array nothing behind a syntax error can be read, so that one ends the run; text that is not UTF-8 is rejected with
    its record.

    Args:
        path: the file; `.gz` is decompressed.
        format: `lines` or `array`; left out, the ending tells: `.jsonl` and `.ndjson` are lines.
        skip_rows: pass over so many records first.
        limit: read at most so many records.
    """

    path: Path = Field()  # required, though the base class has a default
    format: Format | None = None
    skip_rows: Annotated[int, Field(ge=0, strict=True)] = 0
    limit: Annotated[int, Field(ge=0, strict=True)] | None = None

    def open(self) -> Source:
        """Open the file.

        Raises:
            InputError: it is missing or unreadable.
        """
        file = InputFile(self.path)
        if _format(self.path, self.format) == "array":
            return _ArraySource(file)
        try:
            begun = begin(file)
        except BaseException:
            file.close()
            raise
        return BlockSource(file, JSONLinesDecoder(), LineCutter(), begun=begun, line=1, json_input=True)


@dataclass(config=_CONFIG, frozen=True)
class JSONOutputAdapter(BaseOutputAdapter):
    """Records as JSON in UTF-8 without spaces: nan and inf are null, dates ISO 8601, sets sorted.

    Args:
        path: the file; `.gz` is compressed. It appears when the run is complete.
        format: `lines` or `array`; left out, the ending tells: `.jsonl` and `.ndjson` are lines.
    """

    path: Path = Field()  # required, though the base class has a default
    format: Format | None = None

    def open(self, columns: tuple[str, ...] | None) -> Writer:  # noqa: ARG002  # JSON names each value
        """Create the file aside.

        Raises:
            OutputError: it cannot be created.
        """
        file = OutputFile(self.path)
        return _ArrayWriter(file) if self._is_array else FileWriter(file, JSONEncoder())

    def open_part(self, path: Path, columns: tuple[str, ...] | None) -> Writer:  # noqa: ARG002  # as above
        """Create a part.

        Raises:
            OutputError: it cannot be created.
        """
        file = OutputFile(path, whole=self.path)
        return _ElementsWriter(file) if self._is_array else FileWriter(file, JSONEncoder())

    def check_parts(self, columns: tuple[str, ...] | None) -> None:
        """It always can."""

    @property
    def _is_array(self) -> bool:
        return _format(self.path, self.format) == "array"


class _ArraySource(RecordSource):
    def __init__(self, file: InputFile) -> None:
        super().__init__(_elements(file), json_input=True)
        self._file = file

    def consumed(self) -> float | None:
        return self._file.consumed()

    def close(self) -> None:
        self._file.close()


class _ElementsWriter(FileWriter):
    """Pieces of records without commas at their ends."""

    def __init__(self, file: OutputFile, before: bytes = b"") -> None:
        super().__init__(file, JSONEncoder(separator=b",\n", terminator=b""))
        self._before = before

    def write(self, records: Any) -> None:
        if records:
            self._file.write(self._before + records)
            self._before = b",\n"


class _ArrayWriter(_ElementsWriter):
    """The same between brackets."""

    def __init__(self, file: OutputFile) -> None:
        super().__init__(file, b"[\n")

    def append(self, part: Path) -> None:
        if part.stat().st_size:
            self._file.write(self._before)
            self._before = b",\n"
            super().append(part)

    def follow(self, part: Path) -> None:
        """Nothing: whether a comma comes first is known when the part is complete."""

    def finish(self) -> None:
        self._file.write(b"[]\n" if self._before == b"[\n" else b"\n]\n")
        super().finish()


def _format(path: Path, given: Format | None) -> Format:
    name = path.with_suffix("") if path.suffix == ".gz" else path
    return given or ("lines" if name.suffix in _LINES else "array")


def _elements(file: InputFile) -> Iterator[bytes]:
    """The elements of the array as JSON texts, of a file of any length."""
    text = _Text(file)
    text.expect("[", 'an array must begin with "["; for one object a line use format = "lines"')
    if text.peek() != "]":
        yield text.value()
        while text.peek() == ",":
            text.expect(",")
            yield text.value()
    text.expect("]", 'expected "," or "]"')
    text.expect("", 'nothing may stand behind the "]" of the array')


class _Text:
    """The file's text, as much of it as one value needs."""

    def __init__(self, file: InputFile) -> None:
        self._file = file
        # A byte that is no text goes through to the record's own validation.
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode
        # Where a value ends is all that matters here: no number is made, which the interpreter limits in length.
        self._scan = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode
        self._text = ""
        self._at = 0
        self._passed = 0
        self._ended = False

    def peek(self) -> str:
        """The next character that is no space; nothing at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def expect(self, character: str, otherwise: str = "") -> None:
        """Pass over this character; an empty one is the end.

        Raises:
            SourceError: another one stands there.
        """
        if self.peek() != character:
            raise self._wrong(otherwise, self._at)
        self._at += len(character)

    def value(self) -> bytes:
        """The text of the next value.

        Raises:
            SourceError: it is no JSON, or longer than `MAX_RECORD_BYTES`.
        """
        self.peek()
        while True:
            try:
                _, end = self._scan(self._text, self._at)
            except (json.JSONDecodeError, RecursionError) as error:
                if self._ended or len(self._text) - self._at > MAX_RECORD_BYTES:
                    what, at = getattr(error, "msg", "nested too deeply"), getattr(error, "pos", self._at)
                    raise self._wrong(what, at) from error
            else:
                if end + len(_NUMBER_TAIL) <= len(self._text) or self._ended:
                    found, self._at = self._text[self._at : end], end
                    return found.encode("utf-8", "surrogateescape")
            self._more()

    def _more(self) -> bool:
        """Read on, twice as much as is at hand; False at the end."""
        rest = self._text[self._at :]
        data = self._file.read(max(BLOCK_BYTES, len(rest)))
        self._ended = not data
        self._passed += self._at
        self._text, self._at = rest + self._decode(data, self._ended), 0
        return not self._ended

    def _wrong(self, what: str, at: int) -> SourceError:
        return SourceError(f"{self._file.path}, character {self._passed + at}: {what}")
