"""The one pipeline of every backend: chunks of every kind, whole and narrowed, with hooks and without."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import date, timedelta
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, BeforeValidator, ConfigDict, field_serializer

from manyhands.chunks import Chunk
from manyhands.errors import ProtocolError
from manyhands.records import Entry
from manyhands.worker.batch import RecordsCancelled
from manyhands.worker.context import WorkerContext
from manyhands.worker.encode import CSVEncoder, JSONEncoder
from manyhands.worker.pipeline import process_chunk_on_worker
from manyhands.worker.rows import CSVDecoder, JSONLinesDecoder

from . import shapes
from .workers import Awaits, Does, Fails, as_list, as_packed, as_raw, positions, refusals, run, values, working

JSON = JSONEncoder()


class Number(BaseModel):
    a: int
    b: str = "b"


def nothing(given: list[Entry], store: Any) -> None:
    """Leave everything as it is."""


async def nothing_later(given: list[Entry], store: Any) -> None:
    """Leave everything as it is, later."""


def read(text: Any) -> list[Any]:
    assert isinstance(text, bytes)
    return [json.loads(line) for line in text.splitlines()]


# Every kind of chunk, and its bounds

CELLS = st.sampled_from(["1", "2", "x", "", "-7"])
ROWS = st.lists(
    st.fixed_dictionaries({"a": CELLS, "b": st.sampled_from(["b", "", 'q"', "two\nlines", "é,"])}), max_size=9
)


def as_csv(rows: list[dict[str, str]], *, compressed: bool = False) -> Chunk:
    text = b"".join(CSVEncoder(("a", "b")).line(row) for row in rows)
    return as_raw(text, len(rows), line=2, compressed=compressed)


def as_lines(rows: list[dict[str, str]], *, compressed: bool = False) -> Chunk:
    return as_raw(b"".join(json.dumps(row).encode() + b"\n" for row in rows), len(rows), line=1, compressed=compressed)


def packed_small(rows: list[Any]) -> Chunk:
    return as_packed(rows, compressed=True)


KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "list": (as_list, {}),
    "packed": (as_packed, {}),
    "packed, compressed": (packed_small, {}),
    "csv": (as_csv, {"decoder": CSVDecoder(("a", "b"))}),
    "csv, compressed": (lambda rows: as_csv(rows, compressed=True), {"decoder": CSVDecoder(("a", "b"))}),
    "lines": (as_lines, {"decoder": JSONLinesDecoder(), "json_input": True}),
    "lines, compressed": (
        lambda rows: as_lines(rows, compressed=True), {"decoder": JSONLinesDecoder(), "json_input": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@given(
    rows=ROWS, bounds=st.tuples(st.integers(0, 9), st.integers(0, 9)), drops=st.sets(st.integers(0, 9)), data=st.data()
)
@settings(derandomize=True, deadline=None, max_examples=40)
def test_a_range_gives_the_records_of_the_range_whatever_the_kind(
    kind: str, rows: list[dict[str, str]], bounds: tuple[int, int], drops: set[int], data: st.DataObject
) -> None:
    pack, job = KINDS[kind]
    lo, hi = sorted(min(bound, len(rows)) for bound in bounds)
    chunk = replace(pack(rows), start=100, lo=lo, hi=hi)
    hooked = data.draw(st.booleans(), "with a hook that drops")
    hooks = [Does(lambda given, store: [e for e in given if e["position"] - 100 not in drops])] if hooked else []
    result = run(chunk, schema_model=Number, pre_hooks=hooks, encoder=JSON, **job)
    gone = drops if hooked else set()
    live = [index for index in range(lo, hi) if index not in gone]
    good = [index for index in live if rows[index]["a"] not in ("x", "")]
    assert read(result.output) == [{"a": int(rows[index]["a"]), "b": rows[index]["b"]} for index in good]
    assert isinstance(result.errors, list)
    assert [(each["position"] - 100, each["raw_data"]) for each in result.errors] == [
        (index, rows[index]) for index in live if index not in good
    ]
    assert (result.ok, result.rejected, result.dropped) == (len(good), len(live) - len(good), hi - lo - len(live))
    assert (result.sequence, result.lo, result.hi, result.dead) == (chunk.sequence, lo, hi, 0)
    assert lo == hi or set(result.stages) >= {"unpack", "validate", "pack"}


def test_error_records_name_the_line_where_their_record_starts() -> None:
    rows = [{"a": "x", "b": "one\ntwo\n"}, {"a": "1", "b": "b"}, {"a": "x", "b": "b"}, {"a": "x", "b": "b"}]
    chunk = as_csv(rows)
    for job in ({}, {"post_hooks": [Does(nothing)]}):
        for narrowed in (chunk, chunk.narrowed(2, 4)):
            result = run(narrowed, schema_model=Number, decoder=CSVDecoder(("a", "b")), encoder=JSON, **job)
            assert isinstance(result.errors, list)
            lines = {0: 2, 2: 6, 3: 7}
            assert {each["position"]: each["line"] for each in result.errors} == {
                position: line for position, line in lines.items() if position >= narrowed.lo
            }


def test_error_records_show_the_input_as_it_was() -> None:
    def spoil(given: list[Entry], store: Any) -> None:
        for entry in given:
            entry["raw_data"].clear()
            entry["raw_data"] = "spoilt"

    for pack, job in KINDS.values():
        result = run(pack([{"a": "x", "b": "b"}]), schema_model=Number, pre_hooks=[Does(spoil)], encoder=JSON, **job)
        assert isinstance(result.errors, list)
        assert result.errors[0]["raw_data"] == {"a": "x", "b": "b"}


def test_errors_are_encoded_where_there_is_an_encoder() -> None:
    result = run([{"a": "x"}, {"a": 1}], schema_model=Number, encoder=JSON, error_encoder=JSON)
    assert [(each["position"], each["raw_data"]) for each in read(result.errors)] == [(0, {"a": "x"})]
    assert result.nbytes == len(result.output) + len(result.errors)


def test_a_chunk_that_decodes_to_another_count_is_a_broken_contract() -> None:
    for chunk, job in (
        (as_raw(b"1,b\n2,b\n", 3), {"decoder": CSVDecoder(("a", "b"))}),
        (replace(as_packed([{"a": 1}]), count=2, hi=2), {}),
        (as_raw(b"1,b\n", 1), {}),
    ):
        with pytest.raises(ProtocolError):
            run(chunk, schema_model=Number, encoder=JSON, **job)


# Hooks that do nothing change nothing

STRICT_TEXTS = [
    b'{"a": 1, "b": "2020-01-01", "c": "red"}', b'{"a": "1", "c": "red"}', b'{"a": 1, "b": "x", "c": "red"}', b"{",
    b"[1]", b"nul", b'{"a": 1, "c": 2, "x": "\xff"}', b'{"a": 1.0, "c": "green"}', b'{"a": 1e400, "c": "red"}', b'"a"',
]  # fmt: skip
CONFIGURED_TEXTS = [
    b'{"a": 1.5, "b": "YWJj"}', b'{"a": "PT1S", "c": NaN, "d": [3, 1, 2]}', b'{"a": 1, "b": "?"}',
    b'{"a": 1, "c": 1e400}', b'{"a": "P1D", "d": [0.1, 1E3, -0.0]}',
]  # fmt: skip
UNION_TEXTS = [
    b'{"a": 1}', b'{"a": "1"}', b'{"a": 1, "b": "2020-01-01"}', b'{"a": 1, "c": [1]}', b'{"a": 1, "c": ["x"]}',
    b'{"a": 12345678901234567890123}', b'{"a": "\\ud83d\\ude00", "a": 2}',
]  # fmt: skip
NO_OPS: dict[str, dict[str, Any]] = {
    "pre": {"pre_hooks": [Does(nothing)]},
    "async pre": {"pre_hooks": [Awaits(nothing_later)]},
    "post": {"post_hooks": [Does(nothing)]},
    "both": {"pre_hooks": [Does(nothing)], "post_hooks": [Awaits(nothing_later)]},
    "a failing replay": {"pre_hooks": [Does(lambda given, store: 1 / 0 if len(given) > 1 else None)]},
}


@pytest.mark.parametrize("job", NO_OPS.values(), ids=NO_OPS)
@pytest.mark.parametrize(
    ("schema", "texts"),
    [
        (shapes.Strict, STRICT_TEXTS),
        (None, STRICT_TEXTS),
        (shapes.Configured, CONFIGURED_TEXTS),
        (shapes.Union, UNION_TEXTS),
        (shapes.Anything, UNION_TEXTS),
        (shapes.Typed, UNION_TEXTS),
        (shapes.ExtraAllowed, UNION_TEXTS),
    ],
)
def test_a_hook_that_does_nothing_changes_no_byte_of_json_jobs(schema: Any, texts: list[bytes], job: Any) -> None:
    chunk = as_raw(b"\n".join(texts), len(texts), line=1)
    common = {"schema_model": schema, "decoder": JSONLinesDecoder(), "json_input": True, "encoder": JSON}
    bare, hooked = (run(chunk, error_encoder=JSON, **common, **more) for more in ({}, job))
    assert (hooked.output, hooked.errors) == (bare.output, bare.errors)
    assert bare.ok
    assert bare.rejected or schema not in (shapes.Strict, shapes.Configured)


@pytest.mark.parametrize("job", NO_OPS.values(), ids=NO_OPS)
@pytest.mark.parametrize(
    "schema",
    [*shapes.DICT_PLANS, shapes.Configured, shapes.Sets, shapes.WholeWritten, shapes.Excluded, shapes.Box[int]],
)
@pytest.mark.parametrize("encoder", [JSON, CSVEncoder(("a", "b", "c", "d", "sum"))], ids=["json", "csv"])
def test_a_hook_that_does_nothing_changes_no_byte_of_records(schema: Any, encoder: Any, job: Any) -> None:
    rows = [
        {"a": 2, "A": 2, "b": "2", "c": "1.5", "d": True},
        {"a": "red", "b": "x", "c": 1},
        {"a": "2020-01-01", "b": "2020-01-01T00:00:00Z", "c": "10:00", "d": 5},
        {"a": 4, "b": "abcdefgh"},
        {"a": ["2", "1"], "b": ["x", "a"], "c": {"k": ["z", "y"]}},
        {"a": 3.5, "b": b"\xff", "d": [2.5, 1.0]},
    ]
    bare, hooked = (run(rows, schema_model=schema, encoder=encoder, error_encoder=JSON, **more) for more in ({}, job))
    assert (hooked.output, hooked.errors) == (bare.output, bare.errors)
    assert bare.ok + bare.rejected == len(rows)


def test_serializers_for_json_alone_act_unless_post_hooks_take_the_value_as_python() -> None:
    class Model(BaseModel):
        a: int

        @field_serializer("a", when_used="json")
        def text(self, value: int) -> str:
            return f"<{value}>"

    rows = [{"a": 1}]
    assert read(run(rows, schema_model=Model, encoder=JSON).output) == [{"a": "<1>"}]
    assert read(run(rows, schema_model=Model, encoder=JSON, pre_hooks=[Does(nothing)]).output) == [{"a": "<1>"}]
    assert read(run(rows, schema_model=Model, encoder=JSON, post_hooks=[Does(nothing)]).output) == [{"a": 1}]


def test_a_pre_hook_may_mix_python_values_into_json_records() -> None:
    class Model(BaseModel):
        model_config = ConfigDict(strict=True)
        a: date
        b: date
        c: Any = None

    def mix(given: list[Entry], store: Any) -> None:
        given[0]["raw_data"]["b"] = date(2020, 1, 2)
        given[0]["raw_data"]["c"] = "\ud800"

    def replace_all(given: list[Entry], store: Any) -> None:
        given[0]["raw_data"].update(a=date(2020, 1, 1), b=date(2020, 1, 2), c=timedelta(1))

    chunk = as_raw(b'{"a": "2020-01-01", "b": "?"}', 1)
    job: dict[str, Any] = {"schema_model": Model, "decoder": JSONLinesDecoder(), "json_input": True}
    assert values(run(chunk, pre_hooks=[Does(replace_all)], **job)) == [
        {"a": date(2020, 1, 1), "b": date(2020, 1, 2), "c": timedelta(1)}
    ]
    mix_only_dates = Does(lambda given, store: given[0]["raw_data"].update(b=date(2020, 1, 2)))
    assert values(run(chunk, pre_hooks=[mix_only_dates], **job)) == [
        {"a": date(2020, 1, 1), "b": date(2020, 1, 2), "c": None}
    ]
    assert run(chunk, pre_hooks=[Does(mix)], **job).rejected == 1


# What cannot be written, copied or ended


class Unwritable:
    def __repr__(self) -> str:
        return "<Unwritable>"


@pytest.mark.parametrize("encoder", [JSON, CSVEncoder(("a", "b"))], ids=["json", "csv"])
@pytest.mark.parametrize("schema", [None, shapes.Anything])
@pytest.mark.parametrize("job", [{}, {"pre_hooks": [Does(nothing)]}, {"post_hooks": [Does(nothing)]}])
def test_a_value_that_cannot_be_written_rejects_its_record_alone(encoder: Any, schema: Any, job: Any) -> None:
    rows = [{"a": 1}, {"a": Unwritable()}, {"a": 3}, {"a": "\ud800"}, {"a": 5}]
    encoder = CSVEncoder(("a", "b", "c")) if isinstance(encoder, CSVEncoder) else encoder
    result = run(rows, schema_model=schema, encoder=encoder, **job)
    assert (result.ok, list(refusals(result))) == (3, [1, 3])
    assert {type_ for found in refusals(result).values() for type_, _ in found} == {"EncodeError"}


def test_an_instance_with_its_keys_in_another_order_has_a_line_of_its_own() -> None:
    other = Number(a=1)
    del other.a
    other.a = 2
    result = run([{"a": "0"}, other, {"a": "3"}], schema_model=Number, encoder=JSON)
    assert [json.loads(line)["a"] for line in result.output.splitlines()] == [0, 2, 3]


def test_values_that_cannot_be_written_together_are_written_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(values: list[Any]) -> bytes:
        raise ValueError(values)

    job: dict[str, Any] = {"schema_model": Number, "encoder": JSON, "decoder": CSVDecoder(("a",))}
    chunk = as_raw(b"1\n?\n3\n", 3)
    whole = run(chunk, **job)
    monkeypatch.setattr(JSONEncoder, "together", lambda self, plan: fail)
    parts = run(chunk, **job)
    assert (parts.ok, parts.rejected, parts.output) == (2, 1, b'{"a":1,"b":"b"}\n{"a":3,"b":"b"}\n')
    assert (whole.ok, whole.rejected, whole.output) == (2, 1, parts.output)


def test_a_post_hook_that_leaves_something_unwritable_costs_its_record_alone() -> None:
    def spoil(given: list[Entry], store: Any) -> None:
        for entry in given:
            if entry["position"] == 1:
                entry["validated_data"]["a"] = Unwritable()

    result = run([{"a": 1}, {"a": 2}, {"a": 3}], schema_model=Number, encoder=JSON, post_hooks=[Does(spoil)])
    assert ([each["a"] for each in read(result.output)], list(refusals(result))) == ([1, 3], [1])


def endless() -> dict[str, Any]:
    row: dict[str, Any] = {"a": 1}
    row["b"] = [row]
    return row


@pytest.mark.parametrize(
    "job", [{}, {"post_hooks": [Does(nothing)]}, {"encoder": JSON}, {"post_hooks": [Fails(0)], "encoder": JSON}]
)
def test_a_record_that_holds_itself_harms_no_neighbour(job: Any) -> None:
    rows = [{"a": 0}, endless(), {"a": 2}]
    result = run(rows, error_encoder=JSON, **job)
    assert (result.ok + result.rejected, result.rejected) == (
        3,
        2 if Fails in map(type, job.get("post_hooks", ())) else 1,
    )
    assert read(result.errors)[-1]["position"] == 1


# Cancelling


def slow_schema(cancelled: threading.Event, after: int, seen: list[int]) -> type[BaseModel]:
    def check(value: int) -> int:
        seen.append(value)
        if len(seen) == after:
            cancelled.set()
        return value

    class Model(BaseModel):
        a: Annotated[int, BeforeValidator(check)]

    return Model


@pytest.mark.parametrize("job", [{"encoder": JSON}, {}, {"post_hooks": [Does(nothing)]}])
def test_validation_ends_soon_after_the_run_is_cancelled(job: Any) -> None:
    cancelled, seen = threading.Event(), list[int]()
    schema = slow_schema(cancelled, 20, seen)
    with pytest.raises(RecordsCancelled):
        run([{"a": n} for n in range(1000)], schema_model=schema, cancelled=cancelled, **job)
    assert len(seen) <= 28


@pytest.mark.parametrize("concurrency", [1, 4])
def test_no_async_hook_starts_a_record_once_the_run_is_cancelled(concurrency: int) -> None:
    cancelled, seen = threading.Event(), list[int]()

    async def watch(given: list[Entry], store: Any) -> None:
        seen.append(given[0]["position"])
        if len(seen) == 3:
            cancelled.set()

    with pytest.raises(RecordsCancelled):
        run([{"a": n} for n in range(100)], pre_hooks=[Awaits(watch)], cancelled=cancelled, concurrency=concurrency)
    assert len(seen) == 3


def test_no_hook_starts_once_the_run_is_cancelled() -> None:
    cancelled, after = threading.Event(), Fails()
    with pytest.raises(RecordsCancelled):
        run([{"a": 1}], pre_hooks=[Does(lambda given, store: cancelled.set()), after], cancelled=cancelled)
    assert after.seen == []


def test_a_worker_that_was_not_set_up_says_so() -> None:
    with pytest.raises(ProtocolError, match=r"WorkerContext.setup\(\) must be called"):
        process_chunk_on_worker(as_list([{"a": 1}]), WorkerContext())


def test_a_worker_runs_chunk_after_chunk() -> None:
    with working(WorkerContext(schema_model=Number)) as context:
        for sequence in range(3):
            result = process_chunk_on_worker(as_list([{"a": sequence}], sequence, sequence * 10), context)
            assert (positions(result), values(result)) == ([sequence * 10], [{"a": sequence, "b": "b"}])
