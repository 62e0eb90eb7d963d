"""What workers tell the coordinator: records in their rings.

    length of the values 8 | of the failures 8 | first 8 | done 4 | count 4 | kind 1 | form 1 | ids | values | failures

They are not the messages that other workers write into pipes: there may be one for each task, and what a task costs
is mostly what its record costs.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from enum import IntEnum
from functools import partial
from itertools import repeat
from struct import Struct
from typing import Any, Final, NamedTuple

from manyhands.errors import CallError
from manyhands.worker import pickles
from manyhands_zoosync import payload

_HEAD: Final = Struct("=QQQIIBB")
_ID_BYTES: Final = 4

Failure = tuple[int, bytes, str]
"""Which of the results is an exception: its index, the exception as bytes, and its traceback as text."""


class TaskResult(NamedTuple):
    """What became of a task. A tuple because there are hundreds of thousands a second.

    Attributes:
        tsk_id: the number that `enqueue` gave it.
        value: what the function returned; None if it raised.
        error: what it raised, with the traceback over there as its cause; `WorkerLost` if it killed its workers.
    """

    tsk_id: int
    value: Any = None
    error: BaseException | None = None


_make: Final = partial(tuple.__new__, TaskResult)
"""The same by one call of C."""


class Kind(IntEnum):
    """What a record says."""

    READY = 1
    BROKEN = 2
    RESULTS = 3


RESULTS: Final = int(Kind.RESULTS)
"""Quicker to compare with: there may be a record for each task."""


class Record(NamedTuple):
    """One, as it was read.

    Attributes:
        kind: what it says.
        first: position of the first task of the batch.
        done: so many tasks of the batch are reported now, those of this record included.
        form: of the values.
        ids: of the tasks.
        values: what they returned.
        failures: which of them raised, and what. Of `BROKEN`, why.
    """

    kind: int
    first: int
    done: int
    form: int
    ids: bytes
    values: bytes
    failures: bytes


def dump_record(
    kind: Kind,
    *,
    first: int = 0,
    done: int = 0,
    form: int = 0,
    ids: bytes = b"",
    values: bytes = b"",
    failures: bytes = b"",
) -> bytes:
    """See `Record`."""
    count = len(ids) // _ID_BYTES
    return _HEAD.pack(len(values), len(failures), first, done, count, kind, form) + ids + values + failures


class RecordReader:
    """Makes records of what was read, in whatever pieces."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._held = 0
        self._wanted = _HEAD.size

    def feed(self, data: bytes) -> list[Record]:
        """The records that are complete now."""
        self._pieces.append(data)
        self._held += len(data)
        records: list[Record] = []
        if self._held >= self._wanted:
            rest = self._take_all(b"".join(self._pieces) if len(self._pieces) > 1 else data, records)
            self._pieces, self._held = ([rest] if rest else []), len(rest)
        return records

    def _take_all(self, data: bytes, records: list[Record]) -> bytes:
        """What is left behind the last complete record."""
        offset, end = 0, len(data)
        while end - offset >= _HEAD.size:
            values, failures, first, done, count, kind, form = _HEAD.unpack_from(data, offset)
            start = offset + _HEAD.size
            middle = start + _ID_BYTES * count
            tail = middle + values
            if tail + failures > end:
                self._wanted = tail + failures - offset
                return data[offset:]
            offset = tail + failures
            records.append(Record(kind, first, done, form, data[start:middle], data[middle:tail], data[tail:offset]))
        self._wanted = _HEAD.size
        return data[offset:]


def dump_results(first: int, done: int, ids: bytes, values: list[Any], failures: list[Failure]) -> bytes:
    """A record of results.

    Args:
        first: see `Record`.
        done: likewise.
        ids: likewise.
        values: what the tasks returned, None for those that failed. What cannot travel is replaced.
        failures: the others; those that cannot travel are added.
    """
    form, data = _dump_values(values, failures)
    lost = pickles.dumps(failures) if failures else b""
    return _HEAD.pack(len(data), len(lost), first, done, len(values), RESULTS, form) + ids + data + lost


def _dump_values(values: list[Any], failures: list[Failure]) -> tuple[int, bytes]:
    try:
        return payload.dump(values)
    except BaseException:  # noqa: BLE001  # the values' own code runs; one by one they say which it was
        for index, value in enumerate(values):
            _check(index, value, values, failures)
        return payload.dump(values)


def _check(index: int, value: Any, values: list[Any], failures: list[Failure]) -> None:
    try:
        payload.dump(value)
    except BaseException as error:  # noqa: BLE001  # as above
        what = f"the result, of type {type(value).__qualname__}, cannot be sent back: {pickles.named(error)}"
        values[index] = None
        failures.append((index, *pickles.dump_error(CallError(what))))


def load_results(record: Record) -> tuple[list[TaskResult], int]:
    """The results, with ids as they are in the slots, and how many of them are exceptions."""
    ids = array("I", record.ids)
    values, failures = _load_values(record.form, record.values, len(ids))
    results = list(map(_make, zip(ids, values, repeat(None))))
    if record.failures:
        failures |= {index: pickles.load_error(*rest) for index, *rest in pickles.loads(record.failures)}
    for index, error in failures.items():
        results[index] = TaskResult(ids[index], None, error)
    return results, len(failures)


def _load_values(form: int, data: bytes, count: int) -> tuple[Sequence[Any], dict[int, BaseException]]:
    try:
        values: list[Any] = payload.load(form, data)
    except BaseException as obstacle:  # noqa: BLE001  # unpickling runs code of the values' own
        error = CallError(f"the result cannot be unpickled here: {pickles.named(obstacle)}")
        error.__cause__ = obstacle
        return [None] * count, dict.fromkeys(range(count), error)
    return values, {}
