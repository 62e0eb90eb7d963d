"""Arguments, results and what workers say, as bytes."""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import NamedTuple

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.errors import CallError
from manyhands.worker import pickles
from manyhands_zoosync import TaskResult, payload
from manyhands_zoosync.layout import Layout
from manyhands_zoosync.results import Kind, RecordReader, dump_record, dump_results, load_results
from manyhands_zoosync.ring import RingReader, RingWriter
from manyhands_zoosync.segment import Segment


class Point(NamedTuple):
    x: int
    y: int


class Colour(Enum):
    RED = 1


class Stubborn:
    def __reduce__(self):
        raise RuntimeError("never")


PLAIN = [None, True, 0, -(2**63), 2**64 - 1, 1.5, float("inf"), "zwölf\udc80", b"x", [1, [2]], {"a": {1: [None]}}]
OTHERS = [
    2**64,
    -(2**63) - 1,
    2**63 + 5 - 2**70,
    (1, 2),
    Point(1, 2),
    {1, 2},
    {(1, 2): 3},
    OrderedDict(a=1),
    Decimal("1.10"),
    datetime(2024, 1, 2, tzinfo=UTC),
    1j,
    [1, (2, 3)],
]


@pytest.mark.parametrize("value", PLAIN + OTHERS, ids=repr)
def test_values_arrive_as_they_were(value):
    form, data = payload.dump(value)
    found = payload.load(form, data)
    assert found == value
    assert type(found) is type(value)
    assert (form == 0) is (value in PLAIN)


def test_what_belongs_to_msgpack_means_nothing_else():
    for value in (msgpack.ExtType(5, b"\x93\1\0\0"), msgpack.Timestamp(1, 2)):
        assert payload.load(*payload.dump(value)) == value


def test_one_that_failed_leaves_nothing_in_the_next():
    with pytest.raises(RuntimeError):
        payload.dump([1, 2, Stubborn()])
    assert payload.load(*payload.dump([3])) == [3]


def test_results_and_failures_arrive_each_by_its_id():
    failures = [(1, *pickles.dump_error(ValueError("bad")))]
    data = dump_results(40, 7, b"".join(n.to_bytes(4, "little") for n in (5, 6, 2**32 - 1)), [1, None, "c"], failures)
    (record,) = RecordReader().feed(data)
    assert (record.kind, record.first, record.done) == (Kind.RESULTS, 40, 7)
    results, failed = load_results(record)
    assert failed == 1
    assert results[0] == TaskResult(5, 1, None)
    assert results[2] == TaskResult(2**32 - 1, "c", None)
    assert type(results[0]) is TaskResult
    assert results[1].tsk_id == 6
    assert isinstance(results[1].error, ValueError)
    assert "ValueError: bad" in str(results[1].error.__cause__)


def test_a_result_that_cannot_travel_fails_alone():
    (record,) = RecordReader().feed(dump_results(0, 3, bytes(12), [1, Stubborn(), (2,)], []))
    results, failed = load_results(record)
    assert failed == 1
    assert [result.value for result in results] == [1, None, (2,)]
    assert isinstance(results[1].error, CallError)
    assert str(results[1].error) == "the result, of type Stubborn, cannot be sent back: RuntimeError: never"


def test_results_that_cannot_be_read_here_are_failures():
    data = dump_record(Kind.RESULTS, ids=bytes(8), form=1, values=b"no pickle")
    results, failed = load_results(*RecordReader().feed(data))
    assert failed == 2
    assert all("cannot be unpickled here" in str(result.error) for result in results)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=90), max_size=12), st.integers(1, 70), st.randoms(use_true_random=False))
def test_records_go_through_a_ring_of_any_size_in_whatever_pieces(bodies, size, random):
    layout = Layout(1, 1, size, 0)
    segment = Segment.create(layout.size)
    try:
        writer, reader, records = RingWriter(segment, layout, 0), RingReader(segment, layout, 0), RecordReader()
        found = []
        sent = memoryview(b"".join(dump_record(Kind.RESULTS, first=n, values=body) for n, body in enumerate(bodies)))
        while sent or reader.exchange():
            if random.random() < 0.5:
                sent = sent[writer.write(sent[: random.randint(1, 100)]) :]
                writer.exchange()
            else:
                reader.exchange()
                found += records.feed(reader.read())
        assert [(record.first, record.values) for record in found] == list(enumerate(bodies))
    finally:
        segment.close()


def test_what_was_not_published_is_not_there():
    layout = Layout(1, 1, 100, 0)
    segment = Segment.create(layout.size)
    writer, reader = RingWriter(segment, layout, 0), RingReader(segment, layout, 0)
    assert writer.write(memoryview(b"x" * 150)) == 100
    assert not reader.exchange()
    writer.exchange()
    assert reader.exchange()
    assert reader.read() == b"x" * 100
    assert writer.write(memoryview(b"y")) == 0
    reader.exchange()
    writer.exchange()
    assert writer.write(memoryview(b"y")) == 1
    reader.reset()
    assert not reader.exchange()
    segment.close()
