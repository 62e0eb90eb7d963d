"""The plan of a schema answers as the schema itself does, row by row and byte by byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from copy import deepcopy
from enum import Enum
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, create_model
from pydantic_core import from_json, to_json

from manyhands.errors import UsageError
from manyhands.worker.compile import compile_plan
from manyhands.worker.encode import JSONEncoder
from manyhands.worker.failures import describe
from manyhands.worker.plan import Plan, Rejected, same
from manyhands.worker.schema import check_schema, field_names

from . import shapes

ALL = (*shapes.DICT_PLANS, *shapes.INSTANCE_PLANS)
# The fields of a shape that are sets: only their order may differ from the model's own bytes.
SETS: dict[Any, tuple[str, ...]] = {
    shapes.WrittenSets: ("b",),
    shapes.MoreData: ("d",),
    shapes.CheckedData: ("c",),
    shapes.Typed: ("b",),
    shapes.Sets: ("a", "b"),
    shapes.Configured: ("d",),
    shapes.PlainCheck: ("a",),
    shapes.SetOfModels: ("a",),
}

NUMBERS = [0, 1, 2, -1, 7, 10**25, True, None, 1.5, 2.0, float("nan"), float("inf")]
TEXTS = [
    "", "0", "1", "2", " x ", "x", "red", "LOW", "true", "2020-02-30", "2020-02-29", "2020-02-29T10:00:00Z", "10:00",
    "PT5S", "1.10", "é€", "YWJj", "12.345", "12345678-1234-5678-1234-567812345678", "\ud800",
]  # fmt: skip
SCALARS = st.sampled_from([*NUMBERS, *TEXTS])
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.dictionaries(st.sampled_from(["a", "b", "kind", "k"]), SCALARS, max_size=2),
    st.just({"kind": "cat", "a": 1}),
    st.just([{"a": 1}, {"a": 1, "b": "2"}]),
    st.just({"k": ["x", "y", "z"]}),
)
DICTS = st.dictionaries(st.sampled_from(["a", "b", "c", "d", "A", "B", "x", "extra"]), VALUES, max_size=5)
LIKELY = st.fixed_dictionaries({"a": VALUES}, optional=dict.fromkeys("bcdA", VALUES))
ROWS = st.one_of(LIKELY, LIKELY, DICTS, VALUES)


def outcome_of(call: Any, row: Any) -> Any:
    """What a validator makes of a row: its JSON bytes, or what it finds wrong."""
    try:
        value, encode = call(row)
    except Exception as error:  # noqa: BLE001  # whatever it is, the plan must raise the same
        return [(each["type"], each["loc"], each["message"]) for each in describe(error)]
    try:
        return encode(value)
    except Exception:  # noqa: BLE001  # the words differ, what is refused must not
        return "unwritable"


def expected(schema: Any, row: Any) -> Any:
    adapter = TypeAdapter(schema)
    check = adapter.validate_json if isinstance(row, bytes) else adapter.validate_python
    found = outcome_of(lambda given: (check(given), adapter.dump_json), deepcopy(row))
    return with_sorted_sets(found, SETS[schema]) if schema in SETS and isinstance(found, bytes) else found


def with_sorted_sets(text: bytes, names: tuple[str, ...]) -> bytes:
    record = from_json(text)
    for name in names:
        if isinstance(record.get(name), list):
            record[name] = sorted(record[name], key=to_json)
    for name, value in record.get("c", {}).items() if isinstance(record.get("c"), dict) else ():
        record["c"][name] = sorted(value, key=to_json) if isinstance(value, list) else value
    return to_json(record, inf_nan_mode="constants")


def answers(plan: Plan, rows: list[Any], *, batch: bool = False) -> list[Any]:
    """What the plan makes of all rows, in their order."""
    rejected: Rejected = {}
    values = iter((plan.validate_batch if batch else plan.validate_rows)(rows, rejected))
    found: list[Any] = []
    for index in range(len(rows)):
        if index in rejected:
            found.append([(each["type"], each["loc"], each["message"]) for each in describe(rejected[index])])
        else:
            value = next(values)
            found.append(outcome_of(lambda _, value=value: (value, plan.encode), None))
    assert next(values, None) is None
    return found


def as_texts(rows: list[Any]) -> list[bytes]:
    return [json.dumps(row, ensure_ascii=True).encode() for row in rows] + [b"{", b"", b"[1", b"nul", b'{"a":"\xff"}']


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: schema.__name__)
@given(rows=st.lists(ROWS, min_size=1, max_size=8))
@settings(derandomize=True, deadline=None, max_examples=30)
def test_rows_come_out_as_from_the_schema_itself(schema: Any, rows: list[Any]) -> None:
    wanted = [expected(schema, row) for row in rows]
    assert answers(compile_plan(schema), deepcopy(rows)) == wanted
    assert answers(compile_plan(schema, batch=True), deepcopy(rows), batch=True) == wanted


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: schema.__name__)
@given(rows=st.lists(ROWS, min_size=1, max_size=8))
@settings(derandomize=True, deadline=None, max_examples=20)
def test_json_texts_come_out_as_from_the_schema_itself(schema: Any, rows: list[Any]) -> None:
    texts = as_texts(rows)
    assert answers(compile_plan(schema), texts) == [expected(schema, text) for text in texts]


class Flat(BaseModel):
    """No value of it is an object."""

    a: str
    b: Literal["x", "},{"] | None = None
    c: float = 0.5


class Pair(Enum):
    """Of which one is no scalar."""

    ONE = 1
    BOTH = (1, 2)


class Makes(Enum):
    """It has members that nobody has listed."""

    ONE = 1

    @classmethod
    def _missing_(cls, value: object) -> Makes:
        made = object.__new__(cls)
        made._name_, made._value_ = "LATE", [{"a": 1}, {"a": value}]
        return made


class OfMakes(BaseModel):
    """A member may be an object."""

    a: Makes


class Plain(Enum):
    """All are scalars."""

    ONE = 1
    TWO = "two"


class OfPlain(BaseModel):
    """Nothing in it is an object."""

    a: Plain


class OfPairs(BaseModel):
    """A member of an enumeration may be anything."""

    a: Pair


class OfLists(BaseModel):
    """The key of the first field may stand anywhere in it."""

    a: list[str]


class Empty(BaseModel):
    """There is no key."""


class MadeUp(BaseModel):
    """A default is not validated."""

    a: int
    b: str = Field(default_factory=lambda: [{"a": 1}, {"a": 2}])  # type: ignore[assignment]  # that is the point


class Given(BaseModel):
    """As before."""

    a: int
    b: str = [{"a": 1}, {"a": 2}]  # type: ignore[assignment]  # that is the point


OF_COMMAS: Any = create_model("OfCommas", **{",": (str, ...), ":x": (str, "1")})
OF_COLONS: Any = create_model("OfColons", **{":": (str, ...), "x},{": (str, "1")})


NASTY = st.lists(st.sampled_from(["},{", '"', "\\", "a", ":", ",", '},{"a":', "\n", "é", "}"]), max_size=6).map("".join)


@pytest.mark.parametrize("separator", [b"\n", b",\n"])
@given(texts=st.lists(NASTY, min_size=1, max_size=5))
@settings(derandomize=True, deadline=None)
def test_values_that_are_written_together_are_what_they_are_one_by_one(separator: bytes, texts: list[str]) -> None:
    plan, encoder = compile_plan(Flat), JSONEncoder(separator=separator)
    values = [plan.validate({"a": text, "b": "},{"}) for text in texts]
    together = encoder.together(plan)
    assert together is not None
    assert together(values) == separator.join(map(plan.encode, values))


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: schema.__name__)
@given(rows=st.lists(ROWS, min_size=1, max_size=4))
@settings(derandomize=True, deadline=None, max_examples=30)
def test_of_any_shape_values_are_written_together_as_one_by_one_or_not_at_all(schema: Any, rows: list[Any]) -> None:
    plan, encoder = compile_plan(schema), JSONEncoder()
    values, together = plan.validate_rows(deepcopy(rows), {}), encoder.together(plan)
    if together is not None and values:
        try:
            one_by_one = b"\n".join(map(plan.encode, values))
        except Exception as error:  # noqa: BLE001  # whatever it is, it must be told of one record
            with pytest.raises(type(error)):
                together(values)
        else:
            assert together(values) == one_by_one


@pytest.mark.parametrize(
    "schema", [OfPairs, OfMakes, OfLists, Empty, MadeUp, Given, OF_COMMAS, OF_COLONS, shapes.Sets, None]
)
def test_what_may_hold_objects_is_written_one_by_one(schema: Any) -> None:
    assert JSONEncoder().together(compile_plan(schema)) is None


@pytest.mark.parametrize("schema", [Flat, OfPlain])
def test_what_holds_none_is_written_together(schema: Any) -> None:
    assert JSONEncoder().together(compile_plan(schema)) is not None


@pytest.mark.parametrize("schema", shapes.DICT_PLANS, ids=lambda schema: schema.__name__)
def test_a_model_that_needs_no_instance_is_validated_into_a_dict(schema: Any) -> None:
    assert compile_plan(schema).to_dict is same


@pytest.mark.parametrize("schema", shapes.INSTANCE_PLANS, ids=lambda schema: schema.__name__)
def test_a_model_that_needs_an_instance_gets_one(schema: Any) -> None:
    assert compile_plan(schema).to_dict is not same


def test_an_instance_of_the_model_is_a_row_as_good_as_a_dict() -> None:
    rows = [shapes.Bare(a=1, b="b", c=1, d=True), {"a": "2", "b": "b", "c": 1, "d": "no"}]
    assert answers(compile_plan(shapes.Bare), rows) == [
        b'{"a":1,"b":"b","c":1.0,"d":true}',
        b'{"a":2,"b":"b","c":1.0,"d":false}',
    ]


def test_texts_and_objects_may_stand_in_one_chunk() -> None:
    rows = [{"a": "1"}, b'{"a": 2}', {"a": "x"}, b"{"]
    assert answers(compile_plan(shapes.Base), rows) == [expected(shapes.Base, row) for row in rows]


def test_the_dict_of_a_value_is_the_models_own_dump() -> None:
    row: dict[str, Any] = {"a": {"a": 1, "b": 60}, "b": [{"a": 2}], "c": {"k": {"a": 3}}}
    plan = compile_plan(shapes.Nested)
    assert plan.to_dict(plan.validate(row)) == shapes.Nested.model_validate(row).model_dump()


def test_without_a_schema_objects_pass_and_nothing_else() -> None:
    rows = [{"a": 1}, [1], "x", b'{"a": 1}', b"[1]", b"{"]
    found = answers(compile_plan(None), rows)
    assert found[0] == found[3] == b'{"a":1}'
    assert [refused[0][0] for refused in (found[1], found[2], found[4])] == ["not_an_object"] * 3
    assert found[5][0][0] == "json_invalid"


@pytest.mark.parametrize(
    ("schema", "names"),
    [
        (None, None),
        (shapes.Aliased, ("a", "b", "c")),
        (shapes.Written, ("a", "b", "c", "double")),
        (shapes.Excluded, ("a", "c")),
        (shapes.WrittenByAlias, ("A", "bb")),
        (shapes.ExtraAllowed, None),
        (shapes.WholeWritten, None),
        (shapes.Root, None),
        (shapes.Sub, ("a", "b")),
        (shapes.PlainData, ("a", "c")),
        (shapes.MoreData, ("a", "c", "d")),
        (shapes.CheckedData, ("a", "d", "c")),
        (shapes.Typed, ("a", "b")),
    ],
)
def test_field_names_are_the_keys_of_what_is_written(schema: Any, names: tuple[str, ...] | None) -> None:
    assert field_names(schema) == names


@pytest.mark.parametrize("schema", [shapes.Aliased, shapes.Written, shapes.Excluded, shapes.WrittenByAlias])
def test_field_names_agree_with_the_dict_that_the_encoder_gets(schema: Any) -> None:
    plan = compile_plan(schema)
    row = {
        "a": 1,
        "A": 1,
        "b": "2020-01-01" if schema is shapes.Written else 1 if schema is shapes.WrittenByAlias else "b",
    }
    assert field_names(schema) == tuple(plan.to_dict(plan.validate(row)))


@pytest.mark.parametrize("thing", [int, dict, list[int], shapes.Bare(a=1, b="", c=1, d=True), "Bare", object()])
def test_what_is_no_schema_is_refused(thing: Any) -> None:
    with pytest.raises(UsageError, match="is no schema"):
        check_schema(thing)


@pytest.mark.parametrize("schema", ALL, ids=lambda schema: schema.__name__)
def test_every_shape_is_a_schema(schema: Any) -> None:
    check_schema(schema)


def test_a_schema_that_pydantic_cannot_build_is_refused_by_name() -> None:
    class Dangling(BaseModel):
        a: Nowhere  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(UsageError, match=r"Dangling.*Nowhere"):
        compile_plan(Dangling)


HASHING = """
from typing import Annotated, Any
from pydantic import AfterValidator, BaseModel, ConfigDict
from manyhands.worker.compile import compile_plan

class Tag(BaseModel):
    model_config = ConfigDict(frozen=True)
    name: str

class OfModels(BaseModel):
    tags: set[Tag]

class OfFunction(BaseModel):
    words: Annotated[str, AfterValidator(lambda text: set(text.split()))]

for model, row in ((OfModels, {"tags": [{"name": c} for c in "abcdef"]}), (OfFunction, {"words": "a b c d e f"})):
    plan = compile_plan(model)
    print(plan.encode(plan.validate(row)))
"""


def test_no_plan_depends_on_the_hash_seed() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", HASHING], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1
    assert b'["a","b","c","d","e","f"]' in said.pop()
