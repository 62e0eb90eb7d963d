"""One JSON encoder on every backend, CSV by the same forms, and error records that are written whatever they hold."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from manyhands.errors import EncodeError
from manyhands.worker.compile import compile_plan
from manyhands.worker.encode import CSVEncoder, JSONEncoder, encode_json, encode_leniently
from manyhands.worker.rows import escaped


class Color(Enum):
    RED = "red"
    MIX = (1, "b")


class Size(IntEnum):
    S = 1


class Point(NamedTuple):
    x: int
    y: float


class Tags(BaseModel):
    names: set[str]


@dataclass
class Labels:
    names: set[str] = field(default_factory=set)


class Unprintable:
    def __repr__(self) -> NoReturn:
        raise RuntimeError("no repr")

    __str__ = __repr__


def cycle() -> Any:
    value: dict[str, Any] = {}
    value["self"] = [value]
    return value


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


FORMS: list[tuple[Any, str]] = [
    (None, "null"),
    (True, "true"),
    (1 << 80, "1208925819614629174706176"),
    (1.0, "1.0"),
    (-0.0, "-0.0"),
    (math.nan, "null"),
    (math.inf, "null"),
    (-math.inf, "null"),
    ([math.nan, {"a": math.inf}], '[null,{"a":null}]'),
    ('é\u2028\x00"', '"é\u2028\\u0000\\""'),
    (b"abc\xc3\xa9", '"abcé"'),
    (Decimal("1.50"), '"1.50"'),
    (Decimal("NaN"), '"NaN"'),
    (datetime(2024, 1, 2, 3, 4, 5, 6000), '"2024-01-02T03:04:05.006000"'),  # noqa: DTZ001  # naive on purpose
    (datetime(2024, 1, 2, tzinfo=UTC), '"2024-01-02T00:00:00Z"'),
    (datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=-5))), '"2024-01-02T00:00:00-05:00"'),
    (date(1, 1, 1), '"0001-01-01"'),
    (time(1, 2, 3), '"01:02:03"'),
    (timedelta(days=1, seconds=1), '"P1DT1S"'),
    (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
    (Color.RED, '"red"'),
    (Color.MIX, '[1,"b"]'),
    (Size.S, "1"),
    (Path("a/b"), '"a/b"'),
    ((1, (2,)), "[1,[2]]"),
    (Point(1, math.nan), "[1,null]"),
    (OrderedDict(b=1, a=2), '{"b":1,"a":2}'),
    ({3, 1, 2}, "[1,2,3]"),
    (frozenset({"b", "a"}), '["a","b"]'),
    ({"x": [{"b", "a"}]}, '{"x":[["a","b"]]}'),
    ({frozenset({2, 1}), frozenset({0})}, "[[0],[1,2]]"),
    ({Color.RED, "blue"}, '["blue","red"]'),
    (deque([{"b", "a"}]), '[["a","b"]]'),
    (Tags(names={"c", "b", "a"}), '{"names":["a","b","c"]}'),
    (Labels({"c", "b", "a"}), '{"names":["a","b","c"]}'),
    ({1: 2, "1": 3}, '{"1":2,"1":3}'),
    ({date(2024, 1, 1): 1}, '{"2024-01-01":1}'),
    (3 + 4j, '"3+4j"'),
]  # fmt: skip


@pytest.mark.parametrize(("value", "text"), FORMS, ids=lambda value: type(value).__name__)
def test_values_have_one_form(value: Any, text: str) -> None:
    assert encode_json({"v": value}).decode() == f'{{"v":{text}}}'
    assert encode_leniently({"v": value}).decode() == f'{{"v":{text}}}'


NO_FORM: list[Callable[[], Any]] = [
    object, lambda: print, lambda: "\ud800", lambda: b"\xff", cycle, lambda: {frozenset({1}): 1}, Unprintable,
    lambda: {"a": ["\udc80"]},
]  # fmt: skip


@pytest.mark.parametrize("make", NO_FORM)
def test_what_has_no_form_is_an_encode_error_that_says_so(make: Callable[[], Any]) -> None:
    with pytest.raises(EncodeError, match="no JSON form"):
        encode_json({"v": make()})
    with pytest.raises(EncodeError):
        CSVEncoder(("v",)).line({"v": make()})


@pytest.mark.parametrize("make", [*NO_FORM, lambda: nested(100_000), lambda: {Unprintable(): 1}, lambda: 10**5000])
@pytest.mark.parametrize("encoder", [JSONEncoder(), CSVEncoder(("position", "raw_data"))], ids=["json", "csv"])
def test_an_error_record_is_written_whatever_it_holds(
    encoder: JSONEncoder | CSVEncoder, make: Callable[[], Any]
) -> None:
    raw = {"odd": make(), "good": "kept"}
    written = encoder.encode({"position": 7, "raw_data": raw}).decode()
    text = written if isinstance(encoder, JSONEncoder) else next(csv.reader([written]))[1]
    assert "kept" in str(json.loads(text, parse_int=str))


def test_a_csv_error_record_shows_its_values_as_they_are() -> None:
    record = {"position": 0, "line": None, "outcome": "rejected", "raw_data": "a\udcff,b", "errors": [{"loc": ()}]}
    line = CSVEncoder(("position", "line", "outcome", "raw_data", "errors", "metadata")).encode(record)
    assert line == b'0,,rejected,"a\\xff,b","[{""loc"":[]}]",\n'


anything = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters()), st.binary(), st.datetimes(),
        st.dates(), st.times(), st.timedeltas(), st.decimals(), st.uuids(), st.complex_numbers(),
        st.sampled_from([*Color, *Size, object, print, Point(1, 2.0), Tags(names={"x"}), range(3)]),
        st.builds(object), st.builds(Unprintable),
    ),
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.lists(inner).map(deque),
        st.dictionaries(st.one_of(st.text(st.characters()), st.integers(), st.binary(), st.builds(Unprintable)), inner),
        st.sets(st.one_of(st.text(st.characters()), st.binary(), st.floats(), st.tuples(st.text(st.characters())))),
    ),
    max_leaves=10,
)  # fmt: skip


@settings(derandomize=True, deadline=None, max_examples=600)
@given(anything)
def test_lenient_encoding_never_fails_and_always_gives_json(value: Any) -> None:
    assert list(json.loads(encode_leniently({"raw_data": value}))) == ["raw_data"]
    line = CSVEncoder(("raw_data", "more")).encode({"raw_data": value}).decode()
    assert len(next(csv.reader(StringIO(line, newline="")))) == 2


@settings(derandomize=True, deadline=None, max_examples=300)
@given(anything)
def test_strict_encoding_gives_json_or_an_encode_error(value: Any) -> None:
    try:
        text = encode_json({"v": value})
    except EncodeError:
        return
    # Names of NaN and infinity are no JSON.
    json.loads(text, parse_constant=pytest.fail)
    assert b"\n" not in text


def test_lenient_forms_are_readable() -> None:
    record = {
        "s": "\ud800é\udcff",
        "b": b"a\xff",
        "o": object(),
        "set": {"b", "a", "\udcff"},
        1: Color.RED,
        "n": math.nan,
    }
    assert json.loads(encode_leniently(record)) == {
        "s": "\\ud800é\\udcff",
        "b": "a\\xff",
        "o": "<object object at 0x…>",
        "set": ["\\xff", "a", "b"],
        "1": "red",
        "n": None,
    }


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.one_of(st.text(st.characters()), st.binary()))
def test_escaped_text_can_always_be_encoded_and_text_is_left_alone(text: str | bytes) -> None:
    found = escaped(text)
    found.encode()
    if isinstance(text, str) and not any(0xD800 <= ord(character) <= 0xDFFF for character in text):
        assert found == text


def test_output_does_not_depend_on_the_hash_seed() -> None:
    code = (
        "from manyhands.worker.encode import encode_json, encode_leniently, CSVEncoder;"
        "s = {'alpha', 'beta', 'gamma', 'delta', 'x\\udcff'};"
        "g = s - {'x\\udcff'};"
        "print(encode_json({'v': g}), encode_leniently({'v': s, 'm': {frozenset(s)}, 'o': object()}),"
        "CSVEncoder(('v',)).line({'v': g}), CSVEncoder(('v',)).encode({'v': s}))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(seen) == 1


def csv_line(value: Any, delimiter: str = ",") -> str:
    return CSVEncoder(("a", "b"), delimiter).line({"a": value, "b": "z"}).decode()


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, ""),
        ("", ""),
        (True, "true"),
        (False, "false"),
        (1 << 70, str(1 << 70)),
        (1.5, "1.5"),
        (1e22, "1e+22"),
        (math.nan, ""),
        (-math.inf, ""),
        (Color.RED, "red"),
        (Color.MIX, '"[1,""b""]"'),
        (Size.S, "1"),
        (date(2024, 1, 2), "2024-01-02"),
        (datetime(2024, 1, 2, tzinfo=UTC), "2024-01-02T00:00:00Z"),
        (Decimal("1.50"), "1.50"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (b"x,y", '"x,y"'),
        ({"b", "a"}, '"[""a"",""b""]"'),
        ({"k": math.nan}, '"{""k"":null}"'),
        ([1, 2], '"[1,2]"'),
        (deque([{"b", "a"}]), '"[[""a"",""b""]]"'),
        ('say "hi"', '"say ""hi"""'),
        ("a\nb", '"a\nb"'),
        ("a\rb", '"a\rb"'),
        ("a;b", "a;b"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_csv_cells(value: Any, cell: str) -> None:
    assert csv_line(value) == f"{cell},z\n"


@settings(derandomize=True, deadline=None, max_examples=500)
@given(
    st.lists(st.text(st.sampled_from("a\",;|\r\n \t\x00é\u2028'")), min_size=1, max_size=4), st.sampled_from(",;|\t '")
)
def test_a_csv_line_is_read_back_as_one_record(cells: list[str], delimiter: str) -> None:
    columns = tuple(map(str, range(len(cells))))
    line = CSVEncoder(columns, delimiter).line(dict(zip(columns, cells, strict=True)))
    assert list(csv.reader(StringIO(line.decode(), newline=""), delimiter=delimiter)) == [cells]


def test_csv_lines_end_in_lf_and_follow_the_columns() -> None:
    encoder = CSVEncoder(("b", "a"))
    assert encoder.header() == b"b,a\n"
    assert encoder.line({"a": 1}) == b",1\n"
    assert encoder.join([encoder.line({"a": 1, "b": 2}), encoder.line({})]) == b"2,1\n,\n"
    assert CSVEncoder(("only",)).line({}) == b'""\n'


def test_csv_refuses_what_has_no_column_and_names_it() -> None:
    with pytest.raises(EncodeError, match="no column 'c'") as caught:
        CSVEncoder(("a",)).line({"a": 1, "c": 2})
    assert caught.value.loc == ("c",)
    with pytest.raises(EncodeError, match="must be a dict, not list"):
        CSVEncoder(("a",)).line([1])


def test_json_pieces_join() -> None:
    assert JSONEncoder().join([b"1", b"2"]) == b"1\n2\n"
    assert JSONEncoder().join([]) == b""
    assert JSONEncoder(b",\n", b"").join([b"1", b"2"]) == b"1,\n2"


class Weekdays(Enum):
    WORK = frozenset({"tuesday", "monday", "friday"})


RECORDS: list[Any] = [
    {"a": 1, "b": math.nan}, {"a": Color.RED}, {"a": Weekdays.WORK}, {"a": {"b", "a"}}, OrderedDict(a={"b", "a"}),
    {"a": b"x", "b": timedelta(1)}, {"a": [{"b", "a"}]}, {},
]  # fmt: skip


@pytest.mark.parametrize("neighbour", RECORDS, ids=range(len(RECORDS)))
@pytest.mark.parametrize("record", RECORDS, ids=range(len(RECORDS)))
def test_the_bytes_of_a_record_do_not_depend_on_its_neighbours(record: Any, neighbour: Any) -> None:
    encode = JSONEncoder().for_records(compile_plan(None), [neighbour, record])
    assert encode(record) == encode_json(record)


class Everything(BaseModel):
    n: int
    x: float
    when: datetime
    tags: set[str]
    price: Decimal


def test_a_model_is_written_with_the_same_bytes_with_and_without_hooks() -> None:
    plan = compile_plan(Everything)
    row = {"n": "1", "x": "nan", "when": "2024-01-01T00:00:00Z", "tags": ["b", "a", "c"], "price": "1.50"}
    value = plan.validate(row)
    for encoder in (JSONEncoder(), CSVEncoder(tuple(row))):
        record = plan.to_dict(value)
        assert encoder.for_values(plan)(value) == encoder.for_records(plan, [record])(record)
    assert JSONEncoder().for_values(plan)(value) == (
        b'{"n":1,"x":null,"when":"2024-01-01T00:00:00Z","tags":["a","b","c"],"price":"1.50"}'
    )
