"""Chunks and results as bytes: what arrives is what was sent, or is refused by name."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.chunks import MAX_RECORDS, Chunk, ChunkKind, ChunkResult
from manyhands.records import Entry
from manyhands.worker.context import WorkerContext
from manyhands.worker.encode import JSONEncoder
from manyhands.worker.pipeline import process_chunk_on_worker
from manyhands.worker.transport import dump_chunk, dump_result, load_chunk, load_result

from .workers import Does, Fails, as_list, as_packed, entries, positions, refusals, working

PURE = settings(derandomize=True, deadline=None, max_examples=100)
COMPRESSIONS = [None, "lz4"]

whole = st.integers(0, 1 << 62)
chunks = st.builds(
    Chunk,
    sequence=whole,
    start=whole,
    count=st.integers(0, MAX_RECORDS),
    kind=st.sampled_from([ChunkKind.RAW, ChunkKind.PACKED, ChunkKind.CALLS]),
    payload=st.binary(max_size=100),
    line=st.none() | whole,
    compressed=st.booleans(),
    lo=st.integers(0, MAX_RECORDS),
    hi=st.integers(0, MAX_RECORDS),
    attempt=st.integers(0, 1 << 20),
)


@PURE
@given(chunks)
def test_a_chunk_arrives_as_it_was_sent(chunk: Chunk) -> None:
    assert load_chunk(*dump_chunk(chunk)) == chunk  # type: ignore[arg-type]


def test_the_payload_of_a_chunk_is_not_copied() -> None:
    chunk = Chunk(0, 0, 1, ChunkKind.RAW, b"x" * 1000)
    assert dump_chunk(chunk)[1] is chunk.payload


def test_every_attribute_of_a_result_travels() -> None:
    """A new one must not be forgotten."""
    given = ChunkResult(7, 1, 9, 4, 3, 1, b"output", b"errors", {"pre": 0.5}, "1/MainThread")
    assert all(getattr(given, field.name) for field in fields(ChunkResult))
    assert travelled(given) == given


def travelled(result: ChunkResult, chunk: Chunk | None = None, **job: Any) -> ChunkResult:
    """What arrives of a result."""
    return load_result(*dump_result(result, chunk or as_list([]), WorkerContext(**job)))


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize(("output", "errors"), [(b"out", b"err"), (b"", b""), ([], []), (b"out", []), ([], b"err")])
def test_bytes_stay_bytes_and_lists_lists(output: Any, errors: Any, compression: Any) -> None:
    given = ChunkResult(0, 0, 0, output=output, errors=errors)
    arrived = travelled(given, compression=compression)
    assert arrived == given
    assert (type(arrived.output), type(arrived.errors)) == (type(output), type(errors))


def test_what_is_compressed_is_smaller() -> None:
    result = ChunkResult(0, 0, 0, output=b"x" * 10_000)
    _, parts = dump_result(result, as_list([]), WorkerContext(compression="lz4"))
    assert sum(map(len, parts)) < 1000


def processed(rows: list[Any], **job: Any) -> tuple[ChunkResult, ChunkResult]:
    """What a worker made of rows, and what arrives of it."""
    chunk = as_packed(rows, start=100)
    with working(WorkerContext(**job)) as context:
        made, again = (process_chunk_on_worker(chunk, context) for _ in range(2))
        return made, load_result(*dump_result(again, chunk, context))


VALUES = {
    "when": datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=UTC),
    "price": Decimal("1.10"),
    "id": UUID(int=5),
    "set": {1, 2},
    "tuple": (1, (2,)),
    "bytes": b"\xff",
    "big": -(1 << 90),
    "none": None,
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_entries_arrive_with_the_types_of_their_values(compression: Any) -> None:
    def enrich(batch: list[Entry], store: Any) -> None:
        for entry in batch:
            entry["metadata"].update(VALUES)

    made, arrived = processed([VALUES, {}], post_hooks=[Does(enrich)], compression=compression)
    assert replace(arrived, stages={}) == replace(made, stages={})
    for entry in entries(arrived):
        assert {name: type(value) for name, value in entry["metadata"].items()} == {
            name: type(value) for name, value in VALUES.items()
        }


def test_error_records_arrive_as_they_are() -> None:
    made, arrived = processed([{"n": k} for k in range(5)], pre_hooks=[Fails(101, 103)])
    assert arrived.errors == made.errors
    assert refusals(arrived) == {k: [("HookError", f"Fails: no {k}")] for k in (101, 103)}
    assert [record["raw_data"] for record in arrived.errors] == [{"n": 1}, {"n": 3}]  # type: ignore[call-overload]


class Odd:
    """What nothing can pack."""

    def __repr__(self) -> str:
        return "<Odd at 0x7f00>"


def puts(where: str, *at: int) -> Does:
    """A hook that leaves something odd on entries."""

    def execute(batch: list[Entry], store: Any) -> None:
        for entry in batch:
            if entry["position"] in at:
                entry[where]["odd"] = Odd()  # type: ignore[literal-required]

    return Does(execute, priority=1)


@pytest.mark.parametrize("where", ["validated_data", "metadata"])
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_an_entry_that_cannot_travel_is_rejected_alone(where: str, compression: Any) -> None:
    _, arrived = processed([{"n": k} for k in range(5)], post_hooks=[puts(where, 101, 104)], compression=compression)
    assert (arrived.ok, arrived.rejected, arrived.dropped) == (3, 2, 0)
    assert positions(arrived) == [100, 102, 103]
    said = [("EncodeError", "a value of type Odd cannot travel to a worker")]
    assert refusals(arrived) == {101: said, 104: said}
    assert [record["raw_data"] for record in arrived.errors] == [{"n": 1}, {"n": 4}]  # type: ignore[call-overload]


def test_it_stands_among_those_that_failed_before_by_position() -> None:
    hooks = [puts("validated_data", 101, 104), Fails(100, 102)]
    _, arrived = processed([{"n": k} for k in range(5)], post_hooks=hooks)
    assert [record["position"] for record in arrived.errors] == [100, 101, 102, 104]  # type: ignore[call-overload]
    assert (arrived.ok, arrived.rejected) == (1, 4)


def test_what_a_hook_left_on_a_failed_entry_is_shown_as_text_where_it_cannot_travel() -> None:
    def mark(batch: list[Entry], store: Any) -> None:
        for entry in batch:
            entry["metadata"] = {"odd": Odd(), 3: {"deep": [Odd()]}, "fine": {1}}

    _, arrived = processed([{"n": 0}], pre_hooks=[Does(mark, priority=1), Fails(100)])
    (record,) = arrived.errors
    assert record["metadata"] == {"odd": "<Odd at 0x…>", "3": {"deep": "[<Odd at 0x…>]"}, "fine": {1}}  # type: ignore[index]


def test_an_id_that_cannot_travel_rejects_its_record() -> None:
    _, arrived = processed([{"n": 0}, {"n": 1}], id_generator=lambda position: Odd() if position == 100 else position)
    assert positions(arrived) == [101]
    assert set(refusals(arrived)) == {100}


def test_an_entry_that_is_too_deep_is_rejected_alone() -> None:
    def nest(batch: list[Entry], store: Any) -> None:
        value: Any = ()
        for _ in range(5000):
            value = [value]
        batch[1]["validated_data"]["deep"] = value

    _, arrived = processed([{"n": k} for k in range(3)], post_hooks=[Does(nest)])
    assert positions(arrived) == [100, 102]
    ((kind, _),) = refusals(arrived)[101]
    assert kind == "EncodeError"


def test_errors_may_be_entries_where_the_output_is_bytes() -> None:
    encoder = JSONEncoder()
    made, arrived = processed([{"n": k} for k in range(3)], pre_hooks=[Fails(101)], encoder=encoder)
    assert isinstance(arrived.output, bytes)
    assert (arrived.output, arrived.errors) == (made.output, made.errors)
