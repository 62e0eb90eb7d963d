"""JSON arrays read as `json.load` reads them, in pieces of any size; JSON lines and arrays written."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from manyhands.adapters import json as json_adapter
from manyhands.adapters.json import JSONInputAdapter, JSONOutputAdapter
from manyhands.errors import InputError, SourceError
from manyhands.worker.rows import JSONLinesDecoder

BLOCK_SIZES = st.sampled_from([1, 2, 3, 4, 5, 7, 16, 1 << 18])
EXAMPLES = settings(
    derandomize=True, deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def elements(path: Path, data: bytes, block_bytes: int = 1 << 18, **options: Any) -> list[bytes]:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    source = JSONInputAdapter(path, **options).open()
    assert source.json_input
    assert source.decoder is None
    try:
        with patch.object(json_adapter, "BLOCK_BYTES", block_bytes):
            records = source.records()
            assert isinstance(records, Iterable)
            return list(records)
    finally:
        source.close()


numbers = st.one_of(
    st.integers(), st.floats(allow_nan=False), st.sampled_from([1e22, -1.5e-7, 0, -0.0, 10**40, 1.0, 123456789.125])
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(), st.just('é😀\u2028"\\')),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=4)),
    max_leaves=8,
)


@EXAMPLES
@given(
    array=st.lists(values, max_size=8),
    block_bytes=BLOCK_SIZES,
    indent=st.sampled_from([None, 0, 2]),
    escape=st.booleans(),
    around=st.sampled_from(["", " ", "\r\n\t", "  \n"]),
    bom=st.booleans(),
)
def test_an_array_is_what_json_load_reads(
    tmp_path: Path, *, array: list[Any], block_bytes: int, indent: int | None, escape: bool, around: str, bom: bool
) -> None:
    text = around + json.dumps(array, indent=indent, ensure_ascii=escape) + around
    data = text.encode("utf-8-sig" if bom else "utf-8")
    found = elements(tmp_path / "a.json", data, block_bytes)
    assert json.loads(b"[" + b",".join(found) + b"]") == json.loads(text) == array
    assert len(found) == len(array)
    assert [json.loads(one) for one in found] == array


NUMBERS = ["1", "-1", "0", "1.5", "12.25", "1e5", "1E+5", "1.5e-10", "-0.0", "123456789012345678901234567890", "0e0"]


@pytest.mark.parametrize("block_bytes", range(1, 14))
@pytest.mark.parametrize("number", NUMBERS)
def test_a_number_is_whole_wherever_a_read_ends(tmp_path: Path, number: str, block_bytes: int) -> None:
    for text in (f"[{number}]", f"[{number},{number} , {number}]", f"[ {number}\n]", f'[{number},{{"a":{number}}}]'):
        found = elements(tmp_path / "a.json", text.encode(), block_bytes)
        assert found[0] == number.encode()
        assert b",".join(found) == text[1:-1].replace(" ", "").strip().encode()


@pytest.mark.parametrize("block_bytes", range(1, 12))
def test_names_of_constants_and_characters_are_whole_wherever_a_read_ends(tmp_path: Path, block_bytes: int) -> None:
    text = '[true,null,false,NaN,-Infinity,Infinity,"é😀","\\ud83d\\ude00","\\\\",{}]'
    found = elements(tmp_path / "a.json", text.encode(), block_bytes)
    assert b",".join(found).decode() == text[1:-1]


BROKEN = [
    "", " ", '{"a":1}\n{"a":2}\n', "[", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "[1,,2]", "[1}", '["a', '[{"a":1]',
    "[tru]", "[nul", "[1.]", "[01]", "[1e]", "[-]", "['a']", "[1]]", "[1],", "[1] x", "[1][2]", "[1]{}", "[] []",
    '["\n"]',
    "]", "[+1]", "[.5]", "[1_0]", "[\u00a01]", "\ufeff\ufeff[]",
]  # fmt: skip


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 5, 1 << 18])
@pytest.mark.parametrize("text", BROKEN)
def test_what_json_load_refuses_ends_the_reading(tmp_path: Path, text: str, block_bytes: int) -> None:
    with pytest.raises(json.JSONDecodeError):
        json.loads(text.removeprefix("\ufeff"))
    with pytest.raises(SourceError, match=r"a\.json, character \d+: "):
        elements(tmp_path / "a.json", text.encode(), block_bytes)


@pytest.mark.parametrize("text", ["{}", "1", '"[]"', "null"])
def test_json_that_is_no_array_ends_the_reading(tmp_path: Path, text: str) -> None:
    with pytest.raises(SourceError, match=r'character 0: an array must begin with "\["'):
        elements(tmp_path / "a.json", text.encode())


syntax = st.text(st.sampled_from('[]{},:"1.e-+ \ntrue0\\u'), max_size=12)


@EXAMPLES
@given(text=st.one_of(syntax, syntax.map("[{}]".format)), block_bytes=BLOCK_SIZES)
def test_any_text_is_read_as_json_load_does_or_refused_as_it_does(tmp_path: Path, text: str, block_bytes: int) -> None:
    try:
        expected = json.loads(text)
    except json.JSONDecodeError:
        expected = None
    if isinstance(expected, list):
        assert [json.loads(one) for one in elements(tmp_path / "a.json", text.encode(), block_bytes)] == expected
    else:
        with pytest.raises(SourceError):
            elements(tmp_path / "a.json", text.encode(), block_bytes)


def test_all_elements_before_an_error_are_read_and_the_error_says_where_and_why(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[1, {"a": 2},\n é]', encoding="utf-8-sig")
    for block_bytes in (1, 3, 1000):
        with patch.object(json_adapter, "BLOCK_BYTES", block_bytes):
            source = JSONInputAdapter(path).open()
            records = iter(source.records())  # type: ignore[arg-type]  # a plain iterable here
            assert [next(records), next(records)] == [b"1", b'{"a": 2}']
            with pytest.raises(SourceError, match=r"a\.json, character 15: Expecting value$"):
                next(records)
            source.close()


def test_lines_given_as_an_array_are_told_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r'character 0: .*one object a line use format = "lines"'):
        elements(tmp_path / "a.json", b'{"a":1}\n')


@pytest.mark.parametrize("block_bytes", [1, 2, 5, 1 << 18])
def test_bytes_that_are_no_text_stay_with_their_element(tmp_path: Path, block_bytes: int) -> None:
    found = elements(tmp_path / "a.json", b'[{"a":"\xff\xc3"},"\xc3\xa9"]', block_bytes)
    assert found == [b'{"a":"\xff\xc3"}', b'"\xc3\xa9"']


def test_numbers_of_any_length_are_read(tmp_path: Path) -> None:
    digits = b"9" * 10_000
    assert elements(tmp_path / "a.json", b"[%b,[%b.5],1]" % (digits, digits)) == [digits, b"[%b.5]" % digits, b"1"]


def test_an_element_longer_than_the_limit_ends_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_adapter, "MAX_RECORD_BYTES", 1000)
    with pytest.raises(SourceError, match="character 3: "):
        elements(tmp_path / "a.json", b'[1,"' + b"x" * 5000, 64)


def test_nesting_beyond_any_reader_ends_the_reading(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nested too deeply"):
        elements(tmp_path / "a.json", b"[" * 100_000)


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a.txt", "a", "a.jsonl"])
def test_arrays_by_ending_or_option(tmp_path: Path, name: str) -> None:
    options = {"format": "array"} if name == "a.jsonl" else {}
    assert elements(tmp_path / name, b"[1,2]", **options) == [b"1", b"2"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz", "a.json"])
def test_lines_by_ending_or_option(tmp_path: Path, name: str) -> None:
    data = b'\xef\xbb\xbf{"a":1}\r\n\n  \n[2]'
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    source = JSONInputAdapter(tmp_path / name, format="lines" if name == "a.json" else None).open()
    (block,) = source.blocks(None)
    source.close()
    assert source.decoder == JSONLinesDecoder()
    assert (block.count, block.line) == (2, 1)
    assert source.decoder.rows(block.data) == [b'{"a":1}\r', b"[2]"]
    assert source.decoder.lines(block.data) == [0, 3]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_an_empty_file_of_lines_has_no_blocks(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith(".gz") else b"")
    source = JSONInputAdapter(tmp_path / name).open()
    assert [*source.blocks(None), *source.blocks(3)] == []
    source.close()


def test_a_file_of_lines_that_is_not_compressed_as_its_name_says_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(b'{"a":1}\n')
    with pytest.raises(InputError, match=r"cannot read .*a\.jsonl\.gz: Not a gzipped file"):
        JSONInputAdapter(tmp_path / "a.jsonl.gz").open()


@pytest.mark.parametrize(
    "options", [{"format": "xml"}, {"limit": -1}, {"skip_rows": -1}, {"delimiter": ","}, {"limit": "x"}]
)
def test_wrong_options_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JSONInputAdapter(tmp_path / "a.jsonl", **options)


def write(path: Path, pieces: list[list[bytes]], **options: Any) -> bytes:
    writer = JSONOutputAdapter(path, **options).open(None)
    assert writer.encoder is not None
    for parts in pieces:
        writer.write(writer.encoder.join(parts))
    writer.finish()
    writer.publish()
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


PIECES = [[b"1"], [], [b'{"a":2}', b"3"], [b"4"], []]


@pytest.mark.parametrize("name", ["a.json", "a.json.gz", "a", "a.jsonl"])
def test_an_array_is_written_however_the_records_come(tmp_path: Path, name: str) -> None:
    options = {"format": "array"} if name == "a.jsonl" else {}
    assert write(tmp_path / name, PIECES, **options) == b'[\n1,\n{"a":2},\n3,\n4\n]\n'


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson.gz"])
def test_lines_are_written_however_the_records_come(tmp_path: Path, name: str) -> None:
    assert write(tmp_path / name, PIECES) == b'1\n{"a":2}\n3\n4\n'


@pytest.mark.parametrize(("name", "empty"), [("a.json", []), ("a.jsonl", None)])
@pytest.mark.parametrize("pieces", [[], [[]], [[], []]])
def test_no_records_are_an_empty_array_or_an_empty_file(
    tmp_path: Path, name: str, empty: Any, pieces: list[list[bytes]]
) -> None:
    data = write(tmp_path / name, pieces)
    assert data == b"" if empty is None else json.loads(data) == empty
