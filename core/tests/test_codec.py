"""Records travel as msgpack: every value comes back with equal type and value, or is refused by name."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter, OrderedDict, UserString, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, IntFlag, StrEnum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from manyhands.errors import EncodeError
from manyhands.worker import codec
from manyhands.worker.failures import detail
from manyhands.worker.rows import BadRow

BERLIN = ZoneInfo("Europe/Berlin")


class Color(Enum):
    RED = "red"
    BLUE = ("b", 1)
    CRIMSON = "red"  # noqa: PIE796  # an alias
    LIST = [1, 2]  # a member, not an attribute
    NAN = math.nan
    ANY = object()


class Size(IntEnum):
    S = 1
    XL = 1 << 70


class Word(StrEnum):
    A = "a"


class Rights(Flag):
    R = 1
    W = 2


class Bits(IntFlag):
    ONE = 1
    TWO = 2


class Outer:
    class Inner(Enum):
        X = 1


class Point(NamedTuple):
    x: int
    y: int


class Loud(str):
    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()


@dataclass
class Thing:
    x: int


def travel(value: Any) -> Any:
    return codec.loads(codec.dumps(value))


def shape(value: Any) -> Any:  # noqa: PLR0911  # one for each kind of value
    """The value with the type of each of its parts, and what `==` does not look at."""
    kind = type(value)
    if isinstance(value, dict):
        return kind, [(shape(key), shape(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return kind, [shape(item) for item in value]
    if isinstance(value, set | frozenset):
        return kind, sorted(repr(shape(item)) for item in value)
    if isinstance(value, datetime):
        return kind, value.replace(tzinfo=None), value.fold, value.utcoffset(), value.tzinfo
    if isinstance(value, time):
        return kind, value.replace(tzinfo=None), value.fold, value.tzinfo
    if isinstance(value, float | complex | Decimal):
        return kind, repr(value)
    return kind, value


offsets = st.timedeltas(min_value=timedelta(hours=-23), max_value=timedelta(hours=23)).map(timezone)
zones = st.one_of(st.none(), st.just(UTC), offsets, st.sampled_from([BERLIN, ZoneInfo("America/New_York")]))
atoms = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(1 << 300), 1 << 300),
    st.floats(),
    st.complex_numbers(),
    st.text(st.characters()),
    st.binary(),
    st.datetimes(timezones=zones),
    st.times(timezones=zones),
    st.dates(),
    st.timedeltas(),
    st.decimals(),
    st.uuids(),
    st.sampled_from([*Color, *Size, *Word, *Outer.Inner, *Rights, Rights.R | Rights.W, Rights(0), Bits.ONE | Bits.TWO]),
)
keys = st.one_of(
    st.integers(), st.text(), st.binary(), st.dates(), st.uuids(), st.tuples(st.text(), st.integers()),
    st.sampled_from(Color),
)  # fmt: skip
hashables = st.one_of(keys, st.frozensets(keys))
values = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(keys, inner),
        st.sets(hashables),
        st.frozensets(hashables),
    ),
    max_leaves=12,
)


@settings(derandomize=True, deadline=None, max_examples=500)
@given(values)
def test_every_value_comes_back_with_equal_type_and_value(value: Any) -> None:
    assert shape(travel(value)) == shape(value)


@pytest.mark.parametrize("exponent", [0, 7, 8, 31, 32, 62, 63, 64, 65, 127, 128, 5000, 100_000])
@pytest.mark.parametrize("sign", [1, -1])
def test_integers_of_any_length_come_back(exponent: int, sign: int) -> None:
    for near in (-1, 0, 1):
        value = sign * (1 << exponent) + near
        assert travel(value) == value
        assert travel({value: [value]}) == {value: [value]}


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize("zone", [BERLIN, None, UTC, timezone(timedelta(hours=-3, minutes=-7, seconds=1))])
def test_fold_and_zone_of_a_repeated_hour_come_back(fold: int, zone: Any) -> None:
    value = datetime(2024, 10, 27, 2, 30, 0, 1, tzinfo=zone, fold=fold)
    back = travel(value)
    assert (back, back.fold, back.tzinfo) == (value, fold, zone)
    assert back.utcoffset() == value.utcoffset()
    assert shape(travel(value.timetz())) == shape(value.timetz())


def test_a_named_zone_comes_back_as_that_zone_so_that_arithmetic_goes_on_across_a_change() -> None:
    back = travel(datetime(2024, 10, 26, 12, tzinfo=BERLIN))
    assert back.tzinfo is BERLIN
    assert (back + timedelta(days=1)).utcoffset() == timedelta(hours=1)


def test_the_zones_that_pydantic_makes_come_back_with_their_offset() -> None:
    value = TypeAdapter(datetime).validate_python("2024-01-01T00:00:00+05:30")
    back = travel(value)
    assert back == value
    assert back.utcoffset() == timedelta(hours=5, minutes=30)


@pytest.mark.parametrize(
    "value",
    [
        datetime.min, datetime.max,  # noqa: DTZ901  # naive on purpose
        date.min, date.max, time.min, time.max, timedelta.min, timedelta.max,
        timedelta(microseconds=-1), datetime(1, 1, 1, tzinfo=UTC), Decimal("-0.0"), Decimal("1E+999999"),
        Decimal("sNaN12"), Decimal("-Infinity"), UUID(int=0), -0.0, math.inf, complex(-0.0, math.nan), b"", "", (), [],
        {}, set(), frozenset(), "\x00", "\ud800", {"\udcff": "\ud800"}, ((),), {(): {}}, {None: 1, True: 2, 1.5: 3},
        frozenset({frozenset({(1, frozenset())})}), {1: {2: {3: {4: (5, {6})}}}},
    ],
    ids=repr,
)  # fmt: skip
def test_the_ends_of_every_range_come_back(value: Any) -> None:
    assert shape(travel(value)) == shape(value)
    assert shape(travel([value, value])) == shape([value, value])


@pytest.mark.parametrize("member", [*Color, *Size, Outer.Inner.X, Rights.R | Rights.W, Rights(0), Bits(3)], ids=str)
def test_an_enum_member_comes_back_as_itself_whatever_its_value(member: Enum) -> None:
    assert travel(member) is member


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (Counter("aa"), {"a": 2}),
        (Point(1, 2), (1, 2)),
        (type("L", (list,), {})([1]), [1]),
        (type("I", (int,), {})(1 << 80), 1 << 80),
        (type("J", (int,), {})(7), 7),
        (type("F", (float,), {})(1.5), 1.5),
        (type("B", (bytes,), {})(b"x"), b"x"),
        (type("D", (datetime,), {})(2024, 1, 2), datetime(2024, 1, 2)),  # noqa: DTZ001  # naive on purpose
        (Loud("quiet"), "quiet"),
        (bytearray(b"x"), b"x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_subclasses_arrive_as_their_base_with_the_same_content(value: Any, expected: Any) -> None:
    assert shape(travel(value)) == shape(expected)
    if isinstance(expected, dict):
        assert list(travel(value)) == list(expected)


def local_enum() -> Enum:
    class Local(Enum):
        A = 1

    return Local.A


def cycle() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


def tuple_cycle() -> Any:
    value: list[Any] = []
    value.append((value,))
    return value


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (object, "object"),
        (lambda: Thing(1), "Thing"),
        (lambda: Path("x"), "Path"),
        (lambda: len, "builtin_function_or_method"),
        (lambda: UserString("x"), "UserString"),
        (lambda: {"a": [{1: Thing(1)}]}, "Thing"),
        (lambda: {Thing}, "type"),
        (lambda: (i for i in ()), "generator"),
        (local_enum, "local_enum.<locals>.Local"),
        (lambda: Enum("Nowhere", "A", module="no_such_module").A, "Nowhere"),  # type: ignore[attr-defined]  # made here
        (lambda: Enum("Thing", "A", module=__name__).A, "Thing"),  # type: ignore[attr-defined]  # made here
        (cycle, "cannot be packed"),
        (tuple_cycle, "cannot"),
    ],
)  # fmt: skip
def test_what_cannot_travel_is_refused_by_name(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(EncodeError, match=words):
        codec.dumps({"field": make()})


def nested(kind: Callable[[Any], Any], depth: int) -> Any:
    value = kind([])
    for _ in range(depth):
        value = kind([value])
    return value


@pytest.mark.parametrize(("kind", "depth"), [(list, 300), (tuple, 30), (frozenset, 30)])
def test_nesting_comes_back(kind: Callable[[Any], Any], depth: int) -> None:
    assert travel(nested(kind, depth)) == nested(kind, depth)


@pytest.mark.parametrize("kind", [list, tuple, frozenset])
@pytest.mark.parametrize("depth", [33, 150, 511, 600, 5000])
def test_nesting_of_any_depth_comes_back_or_is_refused(kind: Callable[[Any], Any], depth: int) -> None:
    try:
        packed = codec.dumps(nested(kind, depth))
    except EncodeError as error:
        assert "deep" in str(error) or "recursion" in str(error)  # noqa: PT017  # refusing is one of two good ends
        return
    back = codec.loads(packed)
    for _ in range(depth):
        (back,) = back
    assert back == kind([])


def test_a_bad_row_travels_with_its_raw_data_and_reason() -> None:
    row = BadRow(["a", {"b": Decimal(1)}], detail("csv_columns", "why", ("x", 1)))
    assert travel([row]) == [row]


def test_data_cannot_name_anything_but_an_enum() -> None:
    forged = codec.dumps(Color.RED).replace(codec.dumps("Color"), codec.dumps("Thing"))
    with pytest.raises(EncodeError, match="no Enum"):
        codec.loads(forged)


def test_the_bytes_do_not_depend_on_the_process() -> None:
    code = (
        "from datetime import *; from decimal import Decimal; from zoneinfo import ZoneInfo;"
        "from manyhands.worker import codec;"
        "print(codec.dumps([Decimal('1.0'), datetime(2024, 1, 1, tzinfo=ZoneInfo('UTC')), (1, 2), 1 << 70]).hex())"
    )
    here = codec.dumps([Decimal("1.0"), datetime(2024, 1, 1, tzinfo=ZoneInfo("UTC")), (1, 2), 1 << 70]).hex()
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == here
    )


@settings(derandomize=True, deadline=None, max_examples=50)
@given(st.binary(max_size=2000))
def test_compressed_bytes_come_back(data: bytes) -> None:
    assert codec.decompress(codec.compress(data, "lz4")) == data
    assert codec.compress(data, None) == data


def test_lz4_makes_records_smaller() -> None:
    packed = codec.dumps([{"name": "the same", "n": n} for n in range(1000)])
    assert len(codec.compress(packed, "lz4")) < len(packed) / 2


def test_a_view_of_a_larger_buffer_is_read_in_place() -> None:
    packed = codec.dumps({"a": (1, Decimal(2))})
    assert codec.loads(memoryview(b"xx" + packed)[2:]) == {"a": (1, Decimal(2))}
