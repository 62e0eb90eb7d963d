"""Files cut into blocks decode to what `csv.reader` makes of the whole file, wherever the cuts fall."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manyhands.adapters import blocks
from manyhands.adapters.base import Source
from manyhands.adapters.csv import CSVInputAdapter
from manyhands.adapters.cut import CSVCutter, LineCutter
from manyhands.adapters.json import JSONInputAdapter
from manyhands.errors import SourceError
from manyhands.worker.rows import BadRow, CSVDecoder

BLOCK_SIZES = st.sampled_from([1, 2, 3, 4, 5, 7, 11, 16, 29, 64, 1 << 18])
CHUNK_SIZES = st.one_of(st.none(), st.integers(1, 5))


def properties(examples: int) -> settings:
    # The file is written anew in every example, so that sharing tmp_path between them is no matter.
    return settings(
        derandomize=True,
        deadline=None,
        max_examples=examples,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


class Record(NamedTuple):
    """One record as the test sees it."""

    content: Any
    line: int


class Dialect(NamedTuple):
    delimiter: str = ","
    quotechar: str | None = '"'
    escapechar: str | None = None

    def reader(self, text: str) -> Any:
        quoting = csv.QUOTE_MINIMAL if self.quotechar else csv.QUOTE_NONE
        return csv.reader(StringIO(text, newline=""), **self._asdict(), quoting=quoting)

    def records(self, text: str) -> list[Record]:
        """What one reader finds in the whole text."""
        reader, found, line = self.reader(text), [], 1
        for fields in reader:
            if fields:
                found.append(Record(fields, line))
            line = reader.line_num + 1
        return found

    def is_open_at_end(self, text: str) -> bool:
        """A further line does not become a record of its own."""
        whole = text if text.endswith(("\n", "\r")) else f"{text}\n"
        return [fields for fields in self.reader(f"{whole}z") if fields][-1] != ["z"]


DIALECTS = [
    Dialect(),
    Dialect(delimiter=";", quotechar="'"),
    Dialect(delimiter="|"),
    Dialect(delimiter="^", quotechar="$"),
    Dialect(delimiter=".", quotechar="]"),
    Dialect(delimiter="-", quotechar="^"),
    Dialect(delimiter="\\"),
    Dialect(delimiter="%", quotechar="("),
    Dialect(delimiter=" "),
    Dialect(delimiter="\t", quotechar=None),
    Dialect(escapechar="\\"),
    Dialect(delimiter="|", quotechar=None, escapechar="^"),
    Dialect(delimiter="a", quotechar="b"),
]


def read(source: Source, chunksize: int | None, block_bytes: int) -> Iterator[tuple[int, list[Record]]]:
    """Each block's count and what it decodes to."""
    with patch.object(blocks, "BLOCK_BYTES", block_bytes):
        for block in source.blocks(chunksize):
            assert source.decoder is not None
            assert block.line is not None
            lines = source.decoder.lines(block.data)
            rows = source.decoder.rows(block.data)
            assert len(rows) == len(lines)
            for size in (1, 2, 1000):
                assert [row for part in source.decoder.slices(block.data, block.count, size) for row in part] == rows
            yield block.count, [Record(row, block.line + n) for row, n in zip(rows, lines, strict=True)]


def fields_of(row: Any) -> list[str]:
    raw = row.raw if isinstance(row, BadRow) else row
    return list(raw.values()) if isinstance(raw, dict) else raw


def check_counts(counts: list[int], chunksize: int | None) -> None:
    assert all(counts)
    if chunksize is not None:
        assert all(count == chunksize for count in counts[:-1])
        assert all(count <= chunksize for count in counts[-1:])


def check_csv(path: Path, text: str, dialect: Dialect, chunksize: int | None, block_bytes: int) -> None:
    path.write_bytes(text.encode())
    with patch.object(blocks, "BLOCK_BYTES", block_bytes):
        source = CSVInputAdapter(path, **dialect._asdict(), fieldnames=("c",)).open()
    found = list(read(source, chunksize, block_bytes))
    source.close()
    records = [record for _, part in found for record in part]
    expected = dialect.records(text.removeprefix("\ufeff"))

    check_counts([count for count, _ in found], chunksize)
    assert [count for count, _ in found] == [len(part) for _, part in found]
    assert [record.line for record in records] == [record.line for record in expected]
    if expected and dialect.is_open_at_end(text.removeprefix("\ufeff")):
        assert records[-1].content.error["type"] == "csv_unclosed"
        # A last line that ends in an escape gets a line end from the reader that is not in the file.
        *whole, last = fields_of(records.pop().content)
        *expected_whole, expected_last = expected.pop().content
        assert (whole, last) in [(expected_whole, expected_last), (expected_whole, expected_last.removesuffix("\n"))]
    assert [fields_of(record.content) for record in records] == [record.content for record in expected]
    assert all(isinstance(r.content, BadRow) is (len(fields_of(r.content)) != 1) for r in records)


def texts(dialect: Dialect, extra: str = "") -> st.SearchStrategy[str]:
    pieces = [dialect.delimiter, dialect.quotechar, dialect.escapechar, "\r", "\n", "\n", "\r\n", "x", "é", " ", *extra]
    return st.lists(st.sampled_from([piece for piece in pieces if piece]), max_size=40).map("".join)


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
@properties(300)
@given(data=st.data(), chunksize=CHUNK_SIZES, block_bytes=BLOCK_SIZES)
def test_cut_csv_decodes_as_one_reader_over_the_whole_file(
    tmp_path: Path, dialect: Dialect, data: st.DataObject, chunksize: int | None, block_bytes: int
) -> None:
    text = data.draw(texts(dialect))
    check_csv(tmp_path / "a.csv", text, dialect, chunksize, block_bytes)


@properties(400)
@given(text=texts(Dialect(), "\x00\x0b\x0c\x1c\x85\u2028\ufeff'"), chunksize=CHUNK_SIZES, block_bytes=BLOCK_SIZES)
def test_only_cr_and_lf_end_lines_whatever_else_unicode_calls_a_line_end(
    tmp_path: Path, text: str, chunksize: int | None, block_bytes: int
) -> None:
    check_csv(tmp_path / "a.csv", text, Dialect(), chunksize, block_bytes)


@pytest.mark.parametrize("block_bytes", range(1, 20))
@pytest.mark.parametrize(
    "text",
    [
        'a","\nb"\n"c\nd"\n',  # the quotes of the first line open nothing
        'a\r"b\r\n""c",d\r\n\r\n"e"',
        '"a""\n"","\n"b"c"\n"d\n',
        '\n\n"a"\n\n\n"b"\n\n',
        "a\rb\r\rc\r",
        '"\r","\n"\r"\r\n"\n',
    ],
)
@pytest.mark.parametrize("chunksize", [None, 1, 2])
def test_every_block_size_gives_the_same_records(
    tmp_path: Path, text: str, block_bytes: int, chunksize: int | None
) -> None:
    check_csv(tmp_path / "a.csv", text, Dialect(), chunksize, block_bytes)


def json_records(data: bytes) -> list[Record]:
    lines = enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1)
    return [Record(line, number) for number, line in lines if line.strip()]


@properties(800)
@given(
    pieces=st.lists(
        st.sampled_from(
            [b'{"a":1}', b"x", b" ", b"\n", b"\n", b"\r", b"\t", b"\xff", b"\x0b", b"\x1c", b'"\xe2\x80\xa8"']
        ),
        max_size=40,
    ),
    bom=st.booleans(),
    chunksize=CHUNK_SIZES,
    block_bytes=BLOCK_SIZES,
)
def test_cut_json_lines_are_the_lines_of_the_file(
    tmp_path: Path, pieces: list[bytes], bom: bool, chunksize: int | None, block_bytes: int
) -> None:
    data = b"\xef\xbb\xbf" * bom + b"".join(pieces)
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    with patch.object(blocks, "BLOCK_BYTES", block_bytes):
        source = JSONInputAdapter(path).open()
    found = list(read(source, chunksize, block_bytes))
    source.close()

    check_counts([count for count, _ in found], chunksize)
    assert [count for count, _ in found] == [len(part) for _, part in found]
    assert [record for _, part in found for record in part] == json_records(data)


def test_blocks_are_of_about_the_block_size_and_join_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("".join(f'{n},"x{n}"\n' for n in range(100_000)))
    source = CSVInputAdapter(path, fieldnames=("a", "b")).open()
    found = list(source.blocks(None))
    source.close()

    assert b"".join(block.data for block in found) == path.read_bytes()
    assert all(blocks.BLOCK_BYTES - 20 <= len(block.data) <= blocks.BLOCK_BYTES for block in found[1:-1])


def test_a_record_longer_than_the_limit_ends_the_reading_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64)
    monkeypatch.setattr(blocks, "MAX_RECORD_BYTES", 1000)
    path = tmp_path / "a.csv"
    path.write_text("a\n" * 100 + '"' + "b\n" * 1000)
    source = CSVInputAdapter(path, fieldnames=("c",)).open()
    whole = []
    with pytest.raises(SourceError, match=r"a\.csv, line 10[01] .*is a quote never closed"):
        whole.extend(block.count for block in source.blocks(None))
    source.close()
    assert sum(whole) == 100


def test_a_record_just_within_the_limit_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64)
    monkeypatch.setattr(blocks, "MAX_RECORD_BYTES", 1000)
    check_csv(tmp_path / "a.csv", "a\n" + '"' + "b\n" * 490 + '"\nc\n', Dialect(), None, 64)


@pytest.mark.parametrize("cutter", [CSVCutter(CSVDecoder(("c",))), LineCutter()], ids=["csv", "lines"])
def test_nothing_is_cut_before_a_record_is_complete(cutter: CSVCutter | LineCutter) -> None:
    assert cutter.cut(b"abc", final=False) == 0
    assert cutter.cut(b"abc", final=True) == 3
    assert cutter.cut(b"abc\nd", final=False) == 4
    assert cutter.count(b"") == 0
    assert cutter.ends(b"") == []


def test_a_quote_that_the_next_read_may_double_closes_nothing_yet() -> None:
    cutter = CSVCutter(CSVDecoder(("c",)))
    assert cutter.cut(b'"a\n"', final=False) == 0
    assert cutter.cut(b'"a\n""\nb', final=False) == 0
    assert cutter.cut(b'"a\n"\nb', final=False) == 5


@properties(300)
@given(block=st.text('a,"\r\n \\', max_size=12).map(str.encode), escapechar=st.sampled_from([None, "\\"]))
def test_one_measure_is_both_counts(block: bytes, escapechar: str | None) -> None:
    for cutter in (CSVCutter(CSVDecoder(("c",), escapechar=escapechar)), LineCutter()):
        assert cutter.measure(block) == (cutter.count(block), cutter.line_ends(block))
