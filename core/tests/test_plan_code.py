"""Functions of the person's inside a schema: they may fail in any way, remember, and change what they are given."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, PlainSerializer, RootModel, field_validator, model_validator

from manyhands.worker.compile import compile_plan
from manyhands.worker.encode import JSONEncoder
from manyhands.worker.failures import describe, detail
from manyhands.worker.plan import Rejected
from manyhands.worker.rows import BadRow

from .workers import as_list, as_packed, refusals, run, values

CALLS: Counter[int] = Counter()


@pytest.fixture(autouse=True)
def _forget() -> None:
    CALLS.clear()


def recurse(value: int) -> int:
    return recurse(value) + 1


def raising(error: BaseException) -> Callable[[int], int]:
    def check(value: int) -> int:
        if value == 2:
            raise error
        return value

    return check


def schema_with(check: Callable[[int], int], *, instance: bool) -> type[BaseModel]:
    """A model with the check on its field, or on itself."""
    if not instance:

        class Field(BaseModel):
            a: Annotated[int, AfterValidator(check)]

        return Field

    class Whole(BaseModel):
        a: int

        @model_validator(mode="after")
        def checked(self) -> Whole:
            check(self.a)
            return self

    return Whole


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("instance", [False, True])
@pytest.mark.parametrize(
    "error",
    [KeyError("k"), RuntimeError("r"), MemoryError(), SystemExit(3), StopIteration("s"), RecursionError()],
    ids=lambda error: type(error).__name__,
)
def test_whatever_a_validator_raises_rejects_its_record_alone(
    error: BaseException, instance: bool, batch: bool
) -> None:
    rows = [{"a": 1}, {"a": 2}, {"a": 3}, {"a": 2}]
    schema = schema_with(raising(error), instance=instance)
    result = run(rows, schema_model=schema, use_batch_validation=batch)
    assert values(result) == [{"a": 1}, {"a": 3}]
    assert {position: [type_ for type_, _ in found] for position, found in refusals(result).items()} == {
        1: [type(error).__name__],
        3: [type(error).__name__],
    }


def test_endless_recursion_rejects_its_record_alone() -> None:
    schema = schema_with(lambda value: recurse(value) if value == 2 else value, instance=False)
    result = run([{"a": 1}, {"a": 2}, {"a": 3}], schema_model=schema)
    assert values(result) == [{"a": 1}, {"a": 3}]
    assert refusals(result)[1][0][0] == "RecursionError"


@pytest.mark.parametrize("batch", [False, True])
def test_an_interrupt_ends_the_chunk(batch: bool) -> None:
    schema = schema_with(raising(KeyboardInterrupt()), instance=False)
    with pytest.raises(KeyboardInterrupt):
        run([{"a": 1}, {"a": 2}], schema_model=schema, use_batch_validation=batch)


class Counted(BaseModel):
    a: int
    b: int = 0

    @field_validator("a")
    @classmethod
    def count(cls, value: int) -> int:
        CALLS[value] += 1
        return value


class CountedWhole(Counted):
    @model_validator(mode="after")
    def whole(self) -> CountedWhole:
        return self


@pytest.mark.parametrize("schema", [Counted, CountedWhole])
def test_a_validator_sees_each_record_once(schema: type[BaseModel]) -> None:
    run([{"a": 1}, {"a": 2, "b": "bad"}, {"a": 3}], schema_model=schema)
    assert CALLS == {1: 1, 2: 1, 3: 1}


@pytest.mark.parametrize("schema", [Counted, CountedWhole])
def test_batch_validation_sees_each_record_once_if_all_are_good(schema: type[BaseModel]) -> None:
    run([{"a": 1}, {"a": 2}, {"a": 3}], schema_model=schema, use_batch_validation=True)
    assert CALLS == {1: 1, 2: 1, 3: 1}


@pytest.mark.parametrize("schema", [Counted, CountedWhole])
def test_batch_validation_sees_each_record_twice_if_one_is_bad(schema: type[BaseModel]) -> None:
    run([{"a": 1}, {"a": 2, "b": "bad"}, {"a": 3}], schema_model=schema, use_batch_validation=True)
    assert CALLS == {1: 2, 2: 2, 3: 2}


class Unique(BaseModel):
    a: int
    b: int = 0

    @field_validator("a")
    @classmethod
    def unique(cls, value: int) -> int:
        CALLS[value] += 1
        if CALLS[value] > 1:
            raise ValueError("seen before")
        return value


def test_a_validator_that_remembers_finds_no_record_twice() -> None:
    result = run([{"a": 1, "b": "bad"}, {"a": 2}, {"a": 2}], schema_model=Unique)
    assert [type_ for type_, _ in refusals(result)[0]] == ["int_parsing"]
    assert refusals(result)[2] == [("value_error", "Value error, seen before")]


class Renaming(BaseModel):
    a: int

    @model_validator(mode="before")
    @classmethod
    def rename(cls, data: dict[str, Any]) -> dict[str, Any]:
        data["a"] = data.pop("b")
        return data


class Emptying(BaseModel):
    a: list[int]
    b: int

    @field_validator("a", mode="before")
    @classmethod
    def take(cls, value: list[int]) -> list[int]:
        return [value.pop()]


@pytest.mark.parametrize("encoder", [None, JSONEncoder()])
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("packing", [as_list, as_packed])
def test_a_validator_may_change_what_it_is_given(packing: Any, batch: bool, encoder: Any) -> None:
    job = {"use_batch_validation": batch, "encoder": encoder}
    result = run(packing([{"b": 1}, {"b": "x"}, {"b": 3}]), schema_model=Renaming, **job)
    assert (result.ok, refusals(result)) == (2, {1: [("int_parsing", INT_PARSING)]})
    result = run(packing([{"a": [1], "b": 1}, {"a": [1], "b": "x"}]), schema_model=Emptying, **job)
    assert (result.ok, refusals(result)) == (1, {1: [("int_parsing", INT_PARSING)]})


INT_PARSING = "Input should be a valid integer, unable to parse string as an integer"


@pytest.mark.parametrize("batch", [False, True])
def test_the_persons_own_records_stay_as_they_are(batch: bool) -> None:
    rows = [{"b": 1}, {"b": "x"}]
    result = run(as_list(rows), schema_model=Renaming, use_batch_validation=batch, encoder=JSONEncoder())
    assert rows == [{"b": 1}, {"b": "x"}]
    assert isinstance(result.errors, list)
    assert result.errors[0]["raw_data"] == {"b": "x"}


class Anything(RootModel[Any]):
    pass


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("schema", [Anything, Counted, None])
def test_no_schema_gets_to_see_an_unreadable_record(schema: Any, batch: bool) -> None:
    rejected: Rejected = {}
    bad = BadRow("raw", detail("csv_columns", "too few"))
    assert len(compile_plan(schema, batch=batch).validate_batch([bad, {"a": 1}, bad, b'{"a": 2}'], rejected)) == 2
    assert {index: describe(error) for index, error in rejected.items()} == {
        0: [detail("csv_columns", "too few")],
        2: [detail("csv_columns", "too few")],
    }


@pytest.mark.parametrize("encoder", [None, JSONEncoder()])
def test_a_serializer_that_fails_rejects_its_record_alone(encoder: Any) -> None:
    def write(value: int) -> int:
        if value == 2:
            raise RuntimeError("unwritable")
        return value

    class Model(BaseModel):
        a: Annotated[int, PlainSerializer(write)]

    result = run([{"a": 1}, {"a": 2}, {"a": 3}], schema_model=Model, encoder=encoder)
    assert (result.ok, result.rejected) == (2, 1)
    (reason,) = refusals(result)[1]
    assert reason[0] == "EncodeError"
    assert "unwritable" in reason[1]


class Witness(dict[str, Any]):
    """A row that can be watched."""


def test_a_refused_record_keeps_nothing_of_its_chunk_in_a_reference_cycle() -> None:
    rejected: Rejected = {}
    row = Witness(a="x")
    watch = weakref.ref(row)
    rows: list[Any] = [row]
    gc.disable()
    try:
        compile_plan(CountedWhole).validate_rows(rows, rejected)
        assert rejected
        rejected.clear()
        rows.clear()
        del row
        assert watch() is None
    finally:
        gc.enable()
