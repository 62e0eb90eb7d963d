"""CSV in and out."""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from manyhands.adapters.base import BaseInputAdapter, BaseOutputAdapter, Source, Writer
from manyhands.adapters.blocks import BLOCK_BYTES, MAX_RECORD_BYTES, BlockSource, begin, read_ahead
from manyhands.adapters.cut import CSVCutter
from manyhands.adapters.file_writer import FileWriter
from manyhands.adapters.input_file import InputFile, TranscodedFile
from manyhands.adapters.output_file import OutputFile
from manyhands.errors import InputError, OutputError
from manyhands.worker.encode import CSVEncoder, Encoder
from manyhands.worker.rows import CSVDecoder


def _one_byte(character: str) -> str:
    if not character.isascii() or character in "\r\n":
        raise ValueError("must be an ASCII character that ends no line")
    return character


def _none_if_empty(character: object) -> object:
    """TOML has no None: an empty text says it there."""
    return None if character == "" else character


def _one_byte_no_quote(character: str) -> str:
    # One function, not two: of two, older pydantics keep the last.
    if character == '"':
        raise ValueError("must differ from the quote")
    return _one_byte(character)


OneCharacter = Annotated[str, Field(min_length=1, max_length=1), AfterValidator(_one_byte)]
OutputDelimiter = Annotated[str, Field(min_length=1, max_length=1), AfterValidator(_one_byte_no_quote)]
Columns = Annotated[tuple[str, ...], Field(min_length=1)]
_AtMostOne = Annotated[str, Field(max_length=1)]

# Encodings in which the bytes of delimiter, quote, CR and LF never are part of another character, and no other bytes
# mean one of them.
_ASCII_COMPATIBLE: Final = ("utf-8", "ascii", "iso8859-", "cp125", "cp437", "cp85", "koi8", "mac-roman", "euc_")
_CONFIG: Final = ConfigDict(extra="forbid", validate_default=True)


@dataclass(config=_CONFIG, frozen=True)
class CSVInputAdapter(BaseInputAdapter):
    """Records of a CSV file, by the rules of `csv.reader`.

    A blank line is no record. A record with more or fewer fields than the header is rejected, and so is one that is
    not valid text in the encoding, or that the file's end leaves inside quotes. In encodings whose bytes do not tell
    where lines end, such as UTF-16, text that is not valid ends the run.

    Args:
        path: the file; `.gz` is decompressed.
        delimiter: what separates fields.
        quotechar: what encloses fields that hold delimiters or line ends; None, or an empty text,
            for files without quoting.
        escapechar: what takes the meaning from the character behind it.
        encoding: of the text; a byte order mark is removed.
        fieldnames: the columns, for files without a header line.
        skip_rows: pass over so many records first.
        limit: read at most so many records.
    """

    path: Path = Field()  # required, though the base class has a default
    delimiter: OneCharacter = ","
    quotechar: Annotated[OneCharacter | None, BeforeValidator(_none_if_empty, json_schema_input_type=_AtMostOne)] = '"'
    escapechar: OneCharacter | None = None
    encoding: str = "utf-8"
    fieldnames: Columns | None = None
    skip_rows: Annotated[int, Field(ge=0, strict=True)] = 0
    limit: Annotated[int, Field(ge=0, strict=True)] | None = None

    @field_validator("quotechar", "escapechar")
    @classmethod
    def _differs(cls, character: str | None, info: ValidationInfo) -> str | None:
        """Each character has one meaning."""
        for name, taken in info.data.items():
            if character is not None and character == taken:
                raise ValueError(f"must differ from the {name}")
        return character

    def open(self) -> Source:
        """Open the file and read its header.

        Raises:
            InputError: it is missing or unreadable, the encoding is unknown, or the header names a column twice.
        """
        encoding = self._codec()
        file = InputFile(self.path)
        try:
            if not encoding.startswith(_ASCII_COMPATIBLE):
                return self._open_blocks(TranscodedFile(file, encoding), "utf-8")
            return self._open_blocks(file, encoding)
        except BaseException:
            file.close()
            raise

    def _codec(self) -> str:
        try:
            name = codecs.lookup(self.encoding.removesuffix("-sig").removesuffix("_sig")).name
            "".encode(name)  # refuses codecs that are not of text
        except (LookupError, ValueError) as error:
            raise InputError(f"cannot read {self.path}: unknown encoding {self.encoding!r}") from error
        return name

    def _open_blocks(self, file: InputFile, encoding: str) -> Source:
        begun = begin(file)
        line = 1
        columns = self.fieldnames
        if columns is None:
            columns, begun, line = self._header(file, begun, encoding)
        decoder = self._decoder(self._checked(columns), encoding)
        return BlockSource(file, decoder, CSVCutter(decoder), begun=begun, line=line, json_input=False)

    def _header(self, file: InputFile, begun: bytes, encoding: str) -> tuple[tuple[str, ...], bytes, int]:
        """The names in the first record, the bytes behind it, and their line."""
        decoder = self._decoder((), encoding)
        cutter = CSVCutter(decoder)
        while True:
            more = read_ahead(file, BLOCK_BYTES)
            begun += more
            end = cutter.cut(begun, final=not more)
            ends = cutter.ends(begun[:end])
            if ends or not more:
                break
            if len(begun) > MAX_RECORD_BYTES:
                raise InputError(f"cannot read {self.path}: its header does not end; is a quote never closed?")
        size = ends[0] if ends else len(begun)
        try:
            text = begun[:size].decode(encoding)
        except UnicodeDecodeError as error:
            raise InputError(f"cannot read {self.path}: its header is not valid {encoding}") from error
        names: tuple[str, ...] = tuple(next(filter(None, decoder.reader(StringIO(text, newline=""))), ()))
        return names, begun[size:], 1 + cutter.line_ends(begun[:size])

    def _decoder(self, columns: tuple[str, ...], encoding: str) -> CSVDecoder:
        return CSVDecoder(columns, self.delimiter, self.quotechar, self.escapechar, encoding)

    def _checked(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        twice = sorted(name for name, count in Counter(columns).items() if count > 1)
        if twice:
            whose = "fieldnames names" if self.fieldnames else "the header names"
            remedy = "" if self.fieldnames else "; give the columns as fieldnames"
            names = ", ".join(map(repr, twice[:5]))
            raise InputError(f"{self.path}: {whose} {names} more than once{remedy}")
        return columns


@dataclass(config=_CONFIG, frozen=True)
class CSVOutputAdapter(BaseOutputAdapter):
    """Records as CSV: a header, lines ending in LF, values in the forms of JSON, None as nothing.

    Args:
        path: the file; `.gz` is compressed. It appears when the run is complete.
        delimiter: what separates fields.
        fieldnames: the columns to write. Left out, they are the schema's fields, or with post-validation hooks (which
            may add some) the keys of the first record; then a record with any other key is rejected.
    """

    path: Path = Field()  # required, though the base class has a default
    delimiter: OutputDelimiter = ","
    fieldnames: Columns | None = None

    def open(self, columns: tuple[str, ...] | None) -> Writer:
        """Create the file aside.

        Raises:
            OutputError: it cannot be created.
        """
        return _CSVWriter(OutputFile(self.path, quotes=True), self._encoder(columns), self.delimiter)

    def open_part(self, path: Path, columns: tuple[str, ...] | None) -> Writer:
        """Create a part, which has no header.

        Raises:
            OutputError: it cannot be created, or the columns are not known.
        """
        self.check_parts(columns)
        return FileWriter(OutputFile(path, quotes=True, whole=self.path), self._encoder(columns))

    def check_parts(self, columns: tuple[str, ...] | None) -> None:
        """See that the columns are known before the data.

        Raises:
            OutputError: they are not.
        """
        if self._encoder(columns) is None:
            raise OutputError(
                f"cannot write {self.path} in parts: its columns would be the keys of the first record, which is in "
                "one part only; give the columns as fieldnames"
            )

    def _encoder(self, columns: tuple[str, ...] | None) -> CSVEncoder | None:
        columns = self.fieldnames or columns
        return CSVEncoder(columns, self.delimiter, bool(self.fieldnames)) if columns else None


class _CSVWriter(FileWriter):
    """Lines behind a header, which the first record makes where it is not known before."""

    def __init__(self, file: OutputFile, encoder: CSVEncoder | None, delimiter: str) -> None:
        super().__init__(file, encoder)
        self._delimiter = delimiter
        self._late: CSVEncoder | None = None
        if encoder is not None:
            file.write(encoder.header())

    def late_encoder(self, entries: Sequence[Any]) -> Encoder | None:
        """The encoder for the keys of the first record that is a dict."""
        records = (entry["validated_data"] for entry in entries)
        first = next((tuple(record) for record in records if isinstance(record, Mapping) and record), None)
        if self._late is None and first is not None:
            self._late = CSVEncoder(first, self._delimiter)
            self.write(self._late.header())
        return self._late or CSVEncoder((), self._delimiter)
