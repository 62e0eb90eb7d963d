"""What rows are to hooks and error records: copies, readable text, stable words."""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from manyhands import BaseHook, IterableInputAdapter, JSONOutputAdapter, MemoryOutputAdapter, Pipe
from manyhands.adapters.memory import NullOutputAdapter
from manyhands.errors import EncodeError, InputError, OptionsError
from manyhands.worker.failures import describe, stable
from manyhands.worker.rows import JSONLinesDecoder, snapshot


class Spoil(BaseHook):
    """Changes whatever containers it can reach, then fails."""

    def execute(self, entries: list[Any], store: Any) -> None:
        for entry in entries:
            entry["raw_data"]["new"] = 1
            entry["raw_data"]["list"].append(2)
        raise RuntimeError("spoilt")


RECORDS: list[Any] = [
    {"list": [1]},
    OrderedDict(list=[1]),
    defaultdict(list, list=[1]),
    Counter({"list": [1]}),  # type: ignore[dict-item]  # a dict subclass whose update() adds
    {"list": type("L", (list,), {})([1])},
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_hooks_cannot_change_the_records_that_were_given(record: Any) -> None:
    errors = MemoryOutputAdapter()
    pipe = Pipe(IterableInputAdapter([record, record]), None, errors, pre_validation_hooks=[Spoil()])
    report = pipe.run()
    assert report.counts["rejected"] == 2
    assert record == {"list": [1]}
    assert [error["raw_data"] for error in errors.results] == [{"list": [1]}, {"list": [1]}]


def test_a_snapshot_shares_no_container_and_keeps_every_type() -> None:
    value = {"a": [{1}, (bytearray(b"x"), OrderedDict(z=[1]))], "d": defaultdict(int, {"k": 1})}
    copied = snapshot(value)
    assert copied == value
    copied["a"][0].add(2)
    copied["a"][1][0].append(0)
    copied["a"][1][1]["z"].append(2)
    copied["d"]["new"] += 1
    assert value == {"a": [{1}, (bytearray(b"x"), OrderedDict(z=[1]))], "d": {"k": 1}}
    assert type(copied["a"][1][1]) is OrderedDict


def test_json_lines_keep_their_bytes() -> None:
    block = b' {"a":1}\r\n\n\t\n\xff\n\x0b{}'
    assert JSONLinesDecoder().rows(block) == [b' {"a":1}\r', b"\xff", b"\x0b{}"]
    assert JSONLinesDecoder().lines(block) == [0, 3, 4]


def test_messages_hold_no_addresses() -> None:
    assert stable(f"got {object()!r} and 0xAB12cd") == "got <object object at 0x…> and 0x…"
    assert stable("plain 0 x 12") == "plain 0 x 12"


class Item(BaseModel):
    a: int
    b: list[int]


def test_each_finding_of_a_validation_error_is_a_detail_without_inputs_or_links() -> None:
    with pytest.raises(ValidationError) as caught:
        Item.model_validate({"a": "x", "b": [1, "y"]})
    assert describe(caught.value) == [
        {"type": "int_parsing", "message": message("a"), "loc": ["a"]},
        {"type": "int_parsing", "message": message("b"), "loc": ["b", 1]},
    ]


def message(_: str) -> str:
    return "Input should be a valid integer, unable to parse string as an integer"


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (EncodeError("why", loc=("x", 1)), "EncodeError", "why"),
        (PydanticSerializationError("why"), "EncodeError", "no JSON form: why"),
        (ZeroDivisionError("why"), "ZeroDivisionError", "why"),
        (KeyError(), "KeyError", "KeyError"),
        (SystemExit(3), "SystemExit", "3"),
    ],
)
def test_an_exception_is_one_detail(error: BaseException, kind: str, words: str) -> None:
    loc = ["x", 1] if isinstance(error, EncodeError) else []
    assert describe(error) == [{"type": kind, "message": words, "loc": loc}]


def test_a_memory_output_starts_anew_with_each_run() -> None:
    output = MemoryOutputAdapter()
    pipe = Pipe(IterableInputAdapter([{"a": 1}, {"a": 2}]), output)
    for _ in range(2):
        pipe.run()
        assert [entry["validated_data"] for entry in output.results] == [{"a": 1}, {"a": 2}]


def test_a_null_output_counts_like_a_file(tmp_path: Any) -> None:
    records = [{"a": 1}, {"a": object()}, {"a": 2}]
    outputs = (NullOutputAdapter(), JSONOutputAdapter(tmp_path / "out.jsonl"))
    counts = [Pipe(IterableInputAdapter(records), output).run().counts for output in outputs]
    assert counts[0] == counts[1]
    assert (counts[0]["ok"], counts[0]["rejected"]) == (2, 1)


@pytest.mark.parametrize("options", [{"limit": -1}, {"skip_rows": -1}])
def test_iterables_refuse_wrong_options(options: Any) -> None:
    with pytest.raises(OptionsError, match="must not be negative"):
        IterableInputAdapter([], **options)
    with pytest.raises(OptionsError, match="5 is no iterable"):
        IterableInputAdapter(5)  # type: ignore[arg-type]  # that is the point


def test_a_function_that_gives_no_iterable_is_told() -> None:
    with pytest.raises(InputError, match="returned int, no iterable"):
        IterableInputAdapter(lambda: 5).open()  # type: ignore[arg-type,return-value]  # that is the point


def test_an_iterator_is_not_read_by_a_second_run() -> None:
    pipe = Pipe(IterableInputAdapter(iter([{"a": 1}])))
    assert pipe.run().counts["ok"] == 1
    with pytest.raises(InputError, match="was read by an earlier run"):
        pipe.run()
    again = Pipe(IterableInputAdapter(lambda: iter([{"a": 1}])))
    assert [again.run().counts["ok"], again.run().counts["ok"]] == [1, 1]
