"""CSV files as `csv.DictReader` reads them, with each bad record told apart from its neighbours; CSV written."""

from __future__ import annotations

import codecs
import csv
import gzip
import pickle
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from manyhands import BaseHook, Entry, HookStore, IterableInputAdapter, MemoryOutputAdapter, Pipe, get_executor
from manyhands.adapters import blocks
from manyhands.adapters import csv as csv_adapter
from manyhands.adapters.base import Block, Source
from manyhands.adapters.csv import CSVInputAdapter, CSVOutputAdapter
from manyhands.errors import InputError, OutputError
from manyhands.records import new_entry
from manyhands.worker.rows import BadRow, CSVDecoder

EXAMPLES = settings(
    derandomize=True, deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def rows(path: Path, data: bytes | str | None = None, **options: Any) -> list[Any]:
    if data is not None:
        path.write_bytes(data.encode() if isinstance(data, str) else data)
    source = CSVInputAdapter(path, **options).open()
    try:
        return [row for block in source.blocks(None) for row in decode(source, block)]
    finally:
        source.close()


def decode(source: Source, block: Block) -> list[Any]:
    assert source.decoder is not None
    found = source.decoder.rows(block.data)
    assert len(found) == block.count
    return found


def lines(path: Path, **options: Any) -> Iterator[int]:
    source = CSVInputAdapter(path, **options).open()
    for block in source.blocks(2):
        assert source.decoder is not None
        assert block.line is not None
        yield from (block.line + before for before in source.decoder.lines(block.data))
    source.close()


cells = st.text(st.sampled_from('ab",;\r\n é😀\t'), max_size=6)


@EXAMPLES
@given(
    header=st.lists(cells, min_size=1, max_size=4, unique=True),
    body=st.lists(st.lists(cells, min_size=4, max_size=4), max_size=6),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    terminator=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
    block_bytes=st.sampled_from([1, 3, 10, 1 << 18]),
)
def test_a_file_reads_as_dict_reader_reads_it(
    tmp_path: Path,
    *,
    header: list[str],
    body: list[list[str]],
    quoting: Any,
    terminator: str,
    bom: bool,
    block_bytes: int,
) -> None:
    text = StringIO(newline="")
    # With QUOTE_MINIMAL the writer leaves a CR unquoted unless it is in the terminator.
    writer = csv.writer(text, quoting=quoting, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(cells[: len(header)] for cells in body)
    raw = text.getvalue() if terminator == "\r\n" else text.getvalue().replace("\r\n", "\n")
    (tmp_path / "a.csv").write_bytes(raw.encode("utf-8-sig" if bom else "utf-8"))
    expected = list(csv.DictReader(StringIO(raw, newline="")))
    with patch.object(blocks, "BLOCK_BYTES", block_bytes), patch.object(csv_adapter, "BLOCK_BYTES", block_bytes):
        assert rows(tmp_path / "a.csv") == expected


@pytest.mark.parametrize("data", ["", "\n\r\n\r", "\ufeff", "a,b", "a,b\n", "\n\na,b\r\n\n", '"a\nb"'])
def test_a_file_without_records_has_none(tmp_path: Path, data: str) -> None:
    assert rows(tmp_path / "a.csv", data) == []


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_blank_lines_are_no_records_and_lines_are_counted(tmp_path: Path, end: str) -> None:
    text = end.join(["", 'a,"b', 'c"', "", "1,2", "", "", '"3', '",4', "5,6", ""])
    assert rows(tmp_path / "a.csv", text) == [
        {"a": "1", f"b{end}c": "2"},
        {"a": f"3{end}", f"b{end}c": "4"},
        {"a": "5", f"b{end}c": "6"},
    ]
    assert list(lines(tmp_path / "a.csv")) == [5, 8, 10]


@pytest.mark.parametrize("header", ["a,b,a", "a,,", '"x\ny","x\ny"'])
def test_a_header_that_names_a_column_twice_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(InputError, match=r"a\.csv: the header names .* more than once; give the columns as fieldnames"):
        rows(tmp_path / "a.csv", f"{header}\n1,2,3\n")


def test_one_column_may_have_an_empty_name(tmp_path: Path) -> None:
    assert rows(tmp_path / "a.csv", "a,\n1,2\n") == [{"a": "1", "": "2"}]


@pytest.mark.parametrize("name", ["a'b", 'a"b', "a\\b", "a\nb", "{a}", "class", "\x00", "é", "__import__('os')"])
def test_any_name_can_be_a_column(tmp_path: Path, name: str) -> None:
    text = StringIO(newline="")
    csv.writer(text).writerows([[name, "z"], ["1", "2"]])
    assert rows(tmp_path / "a.csv", text.getvalue()) == [{name: "1", "z": "2"}]


def test_names_can_be_given_for_a_file_without_a_header(tmp_path: Path) -> None:
    assert rows(tmp_path / "a.csv", "\ufeff1,2\n", fieldnames=["x", "y"]) == [{"x": "1", "y": "2"}]
    assert list(lines(tmp_path / "a.csv", fieldnames=["x", "y"])) == [1]


def test_a_header_longer_than_a_block_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_adapter, "BLOCK_BYTES", 50)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 50)
    names = [f"column {n}\nof many" for n in range(100)]
    text = StringIO(newline="")
    csv.writer(text).writerows([names, map(str, range(100))])
    assert rows(tmp_path / "a.csv", text.getvalue()) == [dict(zip(names, map(str, range(100)), strict=True))]


def test_a_header_that_never_ends_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (blocks, csv_adapter):
        monkeypatch.setattr(module, "BLOCK_BYTES", 50)
    monkeypatch.setattr(csv_adapter, "MAX_RECORD_BYTES", 1000)
    with pytest.raises(InputError, match="its header does not end; is a quote never closed"):
        rows(tmp_path / "a.csv", '"a,b\n' + "1,2\n" * 1000)


def test_a_header_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its header is not valid utf-8"):
        rows(tmp_path / "a.csv", b"a,\xff\n1,2\n")


def test_thousands_of_columns_are_read(tmp_path: Path) -> None:
    names = [f"c{n}" for n in range(5000)]
    row = dict.fromkeys(names, "1")
    assert rows(tmp_path / "a.csv", f"{','.join(names)}\n" + f"{','.join(row.values())}\n" * 3) == [row] * 3


GOOD = "1,2\n"
BAD = [
    (b"1\n", "csv_columns", ["1"]),
    (b"1,2,3\n", "csv_columns", ["1", "2", "3"]),
    (b"x,\xff\xe9y\n", "csv_encoding", {"a": "x", "b": "\\xff\\xe9y"}),
    (b'\xc3,"\n"\n', "csv_encoding", {"a": "\\xc3", "b": "\n"}),
    (b"\xff\n", "csv_encoding", ["\\xff"]),
    (b" \n", "csv_columns", [" "]),
    (b'""\n', "csv_columns", [""]),
]


@pytest.mark.parametrize(("bad", "kind", "raw"), BAD)
@pytest.mark.parametrize("block_bytes", [1, 8, 1 << 18])
def test_a_bad_record_is_told_with_its_raw_data_and_its_neighbours_are_read(
    tmp_path: Path, bad: bytes, kind: str, raw: Any, block_bytes: int
) -> None:
    with patch.object(blocks, "BLOCK_BYTES", block_bytes):
        found = rows(tmp_path / "a.csv", b"a,b\n" + GOOD.encode() + bad + GOOD.encode() + bad)
    good = {"a": "1", "b": "2"}
    assert [row if isinstance(row, dict) else (row.raw, row.error["type"]) for row in found] == [
        good, (raw, kind), good, (raw, kind)
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\r"])
def test_a_quote_open_at_the_end_is_told_and_the_records_before_are_read(tmp_path: Path, end: str) -> None:
    found = rows(tmp_path / "a.csv", f'a,b\n1,2\n3,"x,\ny{end}')
    assert found[0] == {"a": "1", "b": "2"}
    assert found[1] == BadRow({"a": "3", "b": f"x,\ny{end}"}, found[1].error)
    assert found[1].error["type"] == "csv_unclosed"


def test_nul_and_other_control_characters_are_data(tmp_path: Path) -> None:
    assert rows(tmp_path / "a.csv", "a,b\n\x00,x\x00y\n\x1a,\x85\u2028\x0b\n") == [
        {"a": "\x00", "b": "x\x00y"},
        {"a": "\x1a", "b": "\x85\u2028\x0b"},
    ]


def test_fields_longer_than_the_limit_of_the_csv_module_are_read(tmp_path: Path) -> None:
    long = "x" * 400_000
    assert rows(tmp_path / "a.csv", f'a,b\n{long},1\n2,"{long}\n"\n') == [
        {"a": long, "b": "1"},
        {"a": "2", "b": f"{long}\n"},
    ]


SINGLE_BYTE = ["latin-1", "iso8859-15", "cp1252", "cp850", "koi8-r", "mac-roman", "cp437", "ascii"]


@pytest.mark.parametrize("encoding", [*SINGLE_BYTE, "utf-8", "UTF8", "utf-8-sig", "utf_8_sig", "euc_jp", "utf-16",
                                      "utf-32-le", "shift_jis", "gbk", "big5", "cp037", "mac-arabic"])  # fmt: skip
def test_encodings_are_read_as_text_wherever_blocks_end(tmp_path: Path, encoding: str) -> None:
    text = 'a|b\n1|"x|\ny"\n' + "".join(
        character * 3 + "|z\n" for character in "é日本表ソ┐ЖñÂ¢ب\u060c" if encodes(character, encoding)
    )
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    expected = list(csv.DictReader(StringIO(text, newline=""), delimiter="|"))
    for block_bytes in (3, 16, 1 << 18):
        with patch.object(blocks, "BLOCK_BYTES", block_bytes):
            assert rows(tmp_path / "a.csv", encoding=encoding, delimiter="|") == expected


def encodes(character: str, encoding: str) -> bool:
    try:
        return bool(character.encode(encoding))
    except UnicodeEncodeError:
        return False


def every_encoding() -> list[str]:
    """All encodings of text that Python brings, by their own names."""
    from encodings.aliases import aliases

    names = {codecs.lookup(name).name for name in aliases.values() if is_text_encoding(name)}
    return sorted(names - {"undefined", "mbcs", "oem"})


def is_text_encoding(name: str) -> bool:
    try:
        "".encode(name)
    except LookupError:
        return False
    return True


@pytest.mark.parametrize("encoding", every_encoding())
def test_in_every_encoding_blocks_are_cut_where_the_text_says(tmp_path: Path, encoding: str) -> None:
    """Bytes of other characters must never pass for delimiters, quotes or line ends."""
    odd = [
        c
        for c in map(chr, [*range(0xA0, 0x700), *range(0x3000, 0x3400), *range(0x4E00, 0x5200)])
        if encodes(c, encoding)
    ]
    text = "a,b\n" + "".join(f'{c},"{c}"\n' for c in odd if round_trips(c, encoding))
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    with patch.object(blocks, "BLOCK_BYTES", 5000):
        assert rows(tmp_path / "a.csv", encoding=encoding) == list(csv.DictReader(StringIO(text, newline="")))


def round_trips(character: str, encoding: str) -> bool:
    try:
        return character.encode(encoding).decode(encoding) == character
    except UnicodeDecodeError:  # characters that only mean something beside others
        return False


@pytest.mark.parametrize("encoding", every_encoding())
def test_in_no_encoding_another_byte_passes_for_a_quote_or_line_end(tmp_path: Path, encoding: str) -> None:
    data = "a,b\n".encode(encoding) + b"".join(
        bytes([byte]) * 2 + ",x\n".encode(encoding) for byte in range(0x80, 0x100) if decodes(bytes([byte]), encoding)
    )
    expected = list(csv.DictReader(StringIO(data.decode(encoding), newline="")))
    with patch.object(blocks, "BLOCK_BYTES", 30):
        found = [
            row.raw if isinstance(row, BadRow) else row for row in rows(tmp_path / "a.csv", data, encoding=encoding)
        ]
    if all(None not in row and None not in row.values() for row in expected):
        assert found == expected
    else:
        assert len(found) == len(expected)


def decodes(data: bytes, encoding: str) -> bool:
    try:
        return bool(data.decode(encoding))
    except UnicodeDecodeError:
        return False


@pytest.mark.parametrize("encoding", ["hex", "rot13", "no-such", "", "a\0b"])
def test_what_is_no_encoding_of_text_is_refused(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(InputError, match=r"cannot read .*a\.csv: unknown encoding"):
        rows(tmp_path / "a.csv", "a\n1\n", encoding=encoding)


def test_a_single_byte_encoding_has_bad_bytes_too(tmp_path: Path) -> None:
    found = rows(tmp_path / "a.csv", b"a\n\x81\n\xe9\n", encoding="cp1252")
    assert found[0].raw == {"a": "\\x81"}
    assert found[0].error == {"type": "csv_encoding", "message": "not valid cp1252", "loc": []}
    assert found[1] == {"a": "é"}


def test_gzip_is_read_and_what_only_claims_to_be_gzip_is_refused(tmp_path: Path) -> None:
    assert rows(tmp_path / "a.csv.gz", gzip.compress(b"a\n1\n")) == [{"a": "1"}]
    for data in (b"a\n1\n", gzip.compress(b"a\n1\n" * 1000)[:-30]):
        with pytest.raises(InputError, match=r"cannot read .*a\.csv\.gz: "):
            rows(tmp_path / "a.csv.gz", data)


@pytest.mark.parametrize(
    "options",
    [
        {"delimiter": ""}, {"delimiter": ",,"}, {"delimiter": "é"}, {"delimiter": "\n"}, {"delimiter": "\r"},
        {"delimiter": '"'}, {"quotechar": "\n"}, {"quotechar": ","}, {"escapechar": ","},
        {"escapechar": '"'}, {"escapechar": "\n"}, {"limit": -1}, {"skip_rows": -1}, {"fieldnames": []}, {"sep": ";"},
    ],
    ids=str,
)  # fmt: skip
def test_wrong_options_are_refused_when_they_are_given(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CSVInputAdapter(tmp_path / "a.csv", **options)


@pytest.mark.parametrize(
    "options", [{"delimiter": ""}, {"delimiter": "\n"}, {"delimiter": '"'}, {"quotechar": "'"}], ids=str
)
def test_wrong_output_options_are_refused_when_they_are_given(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CSVOutputAdapter(tmp_path / "a.csv", **options)


def test_names_given_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'x' more than once"):
        rows(tmp_path / "a.csv", "1,2\n", fieldnames=("x", "x"))


def test_a_decoder_travels_after_it_was_used() -> None:
    decoder = CSVDecoder(("a", "b"), ";", "'", None, "latin-1")
    assert decoder.rows(b"1;'2'\n") == [{"a": "1", "b": "2"}]
    again = pickle.loads(pickle.dumps(decoder))
    assert again == decoder
    assert again.rows(b"1;'2'\n") == [{"a": "1", "b": "2"}]


def test_a_file_that_cannot_be_opened_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"a,a\n")
    process = psutil.Process()
    before = process.open_files()
    with pytest.raises(InputError):
        CSVInputAdapter(tmp_path / "a.csv").open()
    assert process.open_files() == before


class Becomes(BaseHook):
    """Makes another value of the second record."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        for each in entries:
            if each["position"] == 1 and self.value is not None:
                each["validated_data"] = self.value


def entry(position: int, value: Any) -> Any:
    return {**new_entry(position, None, position), "validated_data": value}


def finish(writer: Any) -> None:
    writer.finish()
    writer.publish()


def test_known_columns_make_the_header_even_of_an_empty_output(tmp_path: Path) -> None:
    finish(CSVOutputAdapter(tmp_path / "a.csv").open(("a", "b")))
    finish(CSVOutputAdapter(tmp_path / "b.csv", fieldnames=("b",)).open(("a", "b")))
    assert (tmp_path / "a.csv").read_bytes() == b"a,b\n"
    assert (tmp_path / "b.csv").read_bytes() == b"b\n"


def test_an_output_without_columns_and_records_is_an_empty_file(tmp_path: Path) -> None:
    finish(CSVOutputAdapter(tmp_path / "a.csv").open(None))
    assert (tmp_path / "a.csv").read_bytes() == b""


def test_the_first_record_makes_the_header_where_columns_are_not_known(tmp_path: Path) -> None:
    values = [{"b": 1, "a": None}, {"a": ";"}, {}]
    adapter = CSVOutputAdapter(tmp_path / "a.csv.gz", delimiter=";")
    assert Pipe(IterableInputAdapter(values), adapter, post_validation_hooks=[Becomes(None)]).run().ok == 3
    assert gzip.decompress((tmp_path / "a.csv.gz").read_bytes()) == b'b;a\n1;\n;";"\n;\n'


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": 1, "x": 2}, "the CSV header has no column 'x'"),
        ({"a": object()}, "type object has no JSON form"),
        ({"a": "\ud800"}, "no CSV form"),
        ([1], "must be a dict, not list"),
        (7, "must be a dict, not int"),
    ],
)
@pytest.mark.parametrize("chunksize", [1, 10])
def test_a_record_that_does_not_fit_the_first_is_rejected_alone(
    tmp_path: Path, value: Any, words: str, chunksize: int
) -> None:
    errors = MemoryOutputAdapter()
    pipe = Pipe(
        IterableInputAdapter([{"a": 1}, {"a": 2}, {"a": 3}]),
        CSVOutputAdapter(tmp_path / "a.csv"),
        errors,
        executor=get_executor("sync", chunksize=chunksize),
        post_validation_hooks=[Becomes(value)],
    )
    counts = pipe.run().counts
    assert (counts["in"], counts["ok"], counts["rejected"]) == (3, 2, 1)
    assert (tmp_path / "a.csv").read_text() == "a\n1\n3\n"
    assert [record["position"] for record in errors.results] == [1]
    assert words in errors.results[0]["errors"][0]["message"]


def test_a_record_without_keys_makes_no_header(tmp_path: Path) -> None:
    output, errors = CSVOutputAdapter(tmp_path / "a.csv"), MemoryOutputAdapter()
    counts = (
        Pipe(IterableInputAdapter([{}, {"a": 1}, {}]), output, errors, executor=get_executor("sync", chunksize=1))
        .run()
        .counts
    )
    assert (counts["ok"], counts["rejected"], errors.results[0]["position"]) == (2, 1, 0)
    assert (tmp_path / "a.csv").read_text().splitlines() == ["a", "1", '""']


def test_chosen_columns_are_all_that_is_written(tmp_path: Path) -> None:
    output = CSVOutputAdapter(tmp_path / "a.csv", fieldnames=("c", "a"))
    assert Pipe(IterableInputAdapter([{"a": 1, "b": 2, "c": 3}]), output).run().ok == 1
    assert (tmp_path / "a.csv").read_text() == "c,a\n3,1\n"


def test_an_output_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        CSVOutputAdapter(tmp_path / "no" / "a.csv").open(("a",))
