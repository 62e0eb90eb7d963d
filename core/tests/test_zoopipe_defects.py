"""Promises that a pipeline of this kind has been seen to break, each kept here from end to end."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from manyhands import (
    BaseHook,
    CSVInputAdapter,
    HookPriority,
    HookStore,
    IterableInputAdapter,
    JSONInputAdapter,
    JSONOutputAdapter,
    MemoryOutputAdapter,
    Pipe,
    get_executor,
)
from manyhands.errors import SourceError, UnpicklableError, UsageError
from manyhands.records import Entry
from manyhands.report import FlowReport, RunStatus
from manyhands.worker.context import WorkerContext
from manyhands.worker.encode import JSONEncoder

from .workers import Awaits, Does, Fails, as_packed, refusals, run, values


class Row(BaseModel):
    a: int
    b: str = "b"


class Outputs:
    """What a run left in memory."""

    def __init__(self, rows: Any, **pipe: Any) -> None:
        self.ok, self.errors = MemoryOutputAdapter(), MemoryOutputAdapter()
        source = IterableInputAdapter(rows)
        self.pipe = Pipe(source, self.ok, self.errors, pipe.pop("schema_model", Row), **pipe)

    def run(self) -> FlowReport:
        return self.pipe.run()

    @property
    def values(self) -> list[Any]:
        return [entry["validated_data"] for entry in self.ok.results]

    @property
    def rejected(self) -> list[int]:
        return [record["position"] for record in self.errors.results]


def numbers(count: int) -> list[dict[str, Any]]:
    return [{"a": n} for n in range(count)]


def test_a_post_hook_never_sees_the_invalid_record_that_would_break_it() -> None:
    def shout(given: list[Entry], store: HookStore) -> None:
        for entry in given:
            entry["validated_data"]["b"] = entry["validated_data"]["b"].upper()

    out = Outputs([*numbers(4), {"a": "x"}, *numbers(5)], post_validation_hooks=[Does(shout)])
    report = out.run()
    assert (report.ok, report.rejected, out.rejected) == (9, 1, [4])
    assert {value["b"] for value in out.values} == {"B"}


def test_an_async_hook_runs_on_every_executor() -> None:
    async def add(given: list[Entry], store: HookStore) -> None:
        await asyncio.sleep(0)
        given[0]["raw_data"]["a"] += 1

    out = Outputs(numbers(5), pre_validation_hooks=[Awaits(add)])
    assert out.run().ok == 5
    assert [value["a"] for value in out.values] == [1, 2, 3, 4, 5]


def test_a_hook_without_execute_is_refused_before_anything_runs() -> None:
    class Empty(BaseHook):
        pass

    with pytest.raises(UsageError, match="Empty does not define execute"):
        Outputs([], pre_validation_hooks=[Empty()])


@pytest.mark.parametrize("is_async", [False, True])
def test_an_endless_source_gives_results_at_once_and_is_read_only_a_little_ahead(is_async: bool) -> None:
    read: list[int] = []

    def endless() -> Iterator[dict[str, int]]:
        for n in itertools.count():
            read.append(n)
            yield {"a": n}

    async def endless_later() -> AsyncIterator[dict[str, int]]:
        for row in endless():
            yield row

    executor = get_executor("sync", chunksize=10)
    pipe = Pipe(IterableInputAdapter(endless_later if is_async else endless), schema_model=Row, executor=executor)
    stream = pipe.stream()
    taken = [entry["validated_data"]["a"] for entry in itertools.islice(stream, 500)]
    stream.close()  # type: ignore[attr-defined]
    assert taken == list(range(500))
    assert len(read) < 1000
    assert pipe.report.status is RunStatus.ABORTED


def test_an_aborted_run_stays_aborted() -> None:
    started, go_on = threading.Event(), threading.Event()

    def hold(given: list[Entry], store: HookStore) -> None:
        started.set()
        go_on.wait(10)

    out = Outputs(numbers(5), pre_validation_hooks=[Does(hold)])
    report = out.pipe.start()
    started.wait(10)
    report.abort()
    go_on.set()
    assert report.wait(10)
    assert report.status is RunStatus.ABORTED
    report.continue_()
    report.stop()
    report.abort()
    assert (report.status, out.pipe.report.status) == (RunStatus.ABORTED, RunStatus.ABORTED)
    counts = report.counts
    assert counts["in"] == sum(counts.values()) - counts["in"]


def test_setup_and_teardown_run_once_however_many_chunks_there_are() -> None:
    log: list[str] = []

    class Logs(BaseHook):
        def setup(self, store: HookStore) -> None:
            log.append("setup")

        def execute(self, entries: list[Entry], store: HookStore) -> None:
            log.append("execute")

        def teardown(self, store: HookStore) -> None:
            log.append("teardown")

    Outputs(numbers(10), pre_validation_hooks=[Logs()], executor=get_executor("sync", chunksize=1)).run()
    assert log == ["setup", *["execute"] * 10, "teardown"]


def test_batch_validation_makes_no_success_of_what_a_hook_failed() -> None:
    executor = get_executor("sync", use_batch_validation=True)
    out = Outputs(numbers(10), pre_validation_hooks=[Fails(*range(10))], executor=executor)
    report = out.run()
    assert (report.ok, report.rejected, out.ok.results) == (0, 10, [])


def test_no_later_hook_runs_on_a_failed_entry() -> None:
    later = Fails()
    out = Outputs(numbers(3), pre_validation_hooks=[Fails(1), later], post_validation_hooks=[later])
    assert out.run().rejected == 1
    assert set(later.seen) == {0, 2}


TYPED = {
    "day": datetime(2024, 1, 2, 3, 4, 5, 6, timezone.utc),  # noqa: UP017  # as the codec gives it back
    "money": Decimal("1.10"),
    "big": 1 << 70,
    "id": UUID(int=5),
    b"key": {1, 2},
    "tuple": (1, "a"),
}


def test_records_of_any_type_reach_the_hooks_of_a_worker_as_they_were() -> None:
    for compressed in (False, True):
        result = run(as_packed([TYPED, {"a": 1}], compressed=compressed), pre_hooks=[Does(lambda given, store: None)])
        assert values(result) == [TYPED, {"a": 1}]
        assert [type(value) for value in values(result)[0].values()] == [type(value) for value in TYPED.values()]


def test_datetimes_are_written_in_iso_8601(tmp_path: Path) -> None:
    class Seen(BaseModel):
        at: datetime

    path = tmp_path / "out.jsonl"
    Pipe(IterableInputAdapter([{"at": "2024-01-01T00:00:00"}]), JSONOutputAdapter(path), schema_model=Seen).run()
    assert path.read_text() == '{"at":"2024-01-01T00:00:00"}\n'


def test_the_id_of_a_record_is_the_same_in_every_run() -> None:
    ids = []
    for _ in range(2):
        out = Outputs(numbers(3))
        out.run()
        ids.append([entry["id"] for entry in out.ok.results])
    assert ids == [[0, 1, 2], [0, 1, 2]]


def test_a_hook_may_drop_everything() -> None:
    out = Outputs(numbers(10), pre_validation_hooks=[Does(lambda given, store: [])])
    assert out.run().counts == {"in": 10, "ok": 0, "rejected": 0, "dead": 0, "dropped": 10, "cancelled": 0}
    assert out.ok.results == []


def test_a_hook_may_return_none() -> None:
    out = Outputs(numbers(3), post_validation_hooks=[Does(lambda given, store: None)])
    assert out.run().ok == 3


def test_lambdas_and_local_hooks_travel_and_what_cannot_is_named_beforehand() -> None:
    context = WorkerContext(pre_hooks=[Does(lambda given, store: [])])
    assert len(WorkerContext.loads(context.dumps()).pre_hooks) == 1
    with pytest.raises(UnpicklableError, match=r"Does \(pre-validation hook\) cannot be sent"):
        WorkerContext(pre_hooks=[Does(threading.Lock())]).dumps()  # type: ignore[arg-type]


@pytest.mark.parametrize("chunksize", [None, 1, 2])
def test_what_came_before_the_source_failed_is_processed_and_the_run_fails(chunksize: int | None) -> None:
    def breaks() -> Iterator[dict[str, int]]:
        yield from numbers(2)
        raise OSError("connection lost")

    out = Outputs(breaks, executor=get_executor("sync", chunksize=chunksize))
    with pytest.raises(SourceError, match="behind record 2: OSError: connection lost"):
        out.run()
    assert [value["a"] for value in out.values] == [0, 1]
    assert (out.pipe.report.status, out.pipe.report.ok) == (RunStatus.FAILED, 2)


def test_a_failed_run_publishes_no_half_of_an_output(tmp_path: Path) -> None:
    def breaks() -> Iterator[dict[str, int]]:
        yield from numbers(2)
        raise OSError("connection lost")

    path = tmp_path / "out.jsonl"
    with pytest.raises(SourceError):
        Pipe(IterableInputAdapter(breaks), JSONOutputAdapter(path), schema_model=Row).run()
    assert not path.exists()


def write_csv(path: Path, *lines: str) -> CSVInputAdapter:
    path.write_bytes(("\n".join(["a,b", *lines]) + "\n").encode("latin-1"))
    return CSVInputAdapter(path)


def test_the_good_neighbours_of_a_bad_row_are_validated(tmp_path: Path) -> None:
    lines = [f"{n},b" for n in range(999)]
    lines.insert(500, "x,b")
    ok, errors = tmp_path / "ok.jsonl", tmp_path / "errors.jsonl"
    pipe = Pipe(write_csv(tmp_path / "in.csv", *lines), JSONOutputAdapter(ok), JSONOutputAdapter(errors), Row)
    report = pipe.run()
    assert (report.ok, report.rejected) == (999, 1)
    assert [json.loads(line)["a"] for line in ok.read_text().splitlines()] == list(range(999))
    (record,) = map(json.loads, errors.read_text().splitlines())
    assert (record["position"], record["line"], record["raw_data"]) == (500, 502, {"a": "x", "b": "b"})


def test_a_hook_that_raises_loses_no_output_and_shows_in_the_report(tmp_path: Path) -> None:
    ok = tmp_path / "ok.jsonl"
    source = JSONInputAdapter(tmp_path / "in.jsonl")
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in numbers(1000)))
    report = Pipe(source, JSONOutputAdapter(ok), schema_model=Row, post_validation_hooks=[Fails2(791)]).run()
    assert (report.status, report.ok, report.error_count) == (RunStatus.COMPLETED, 999, 1)
    assert len(ok.read_text().splitlines()) == 999


class Fails2(Fails):
    """Fails without a look at the raw data."""

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        if any(entry["position"] in self.bad for entry in entries):
            raise RuntimeError("no")


def test_what_setup_put_into_the_store_is_there_in_execute() -> None:
    seen: list[Any] = []

    class Uses(BaseHook):
        def setup(self, store: HookStore) -> None:
            store["rate"] = 1.5

        def execute(self, entries: list[Entry], store: HookStore) -> None:
            seen.append(store["rate"])

    Outputs(numbers(2), post_validation_hooks=[Uses()], executor=get_executor("sync", chunksize=1)).run()
    assert seen == [1.5, 1.5]


def test_priorities_are_kept() -> None:
    order: list[str] = []

    def says(name: str, priority: int) -> Does:
        return Does(lambda given, store: order.append(name), priority)

    hooks = [says("last", HookPriority.LOW), says("first", HookPriority.VERY_HIGH), says("middle", HookPriority.NORMAL)]
    Outputs(numbers(1), pre_validation_hooks=hooks).run()
    assert order == ["first", "middle", "last"]


def test_a_pipe_as_a_context_manager_runs_once() -> None:
    out = Outputs(numbers(3))
    with out.pipe as pipe:
        assert pipe.report.status is RunStatus.PENDING
        assert pipe.run().ok == 3
    assert len(out.ok.results) == 3


def test_ragged_rows_bad_bytes_and_an_open_quote_cost_their_own_records(tmp_path: Path) -> None:
    errors = MemoryOutputAdapter()
    ok = MemoryOutputAdapter()
    source = write_csv(tmp_path / "in.csv", "1,b", "2", "3,b,c", "4,\xff", "5,b", '6,"open')
    report = Pipe(source, ok, errors, Row).run()
    assert [entry["validated_data"]["a"] for entry in ok.results] == [1, 5]
    found = [(each["line"], each["errors"][0]["type"]) for each in errors.results]
    assert found == [(3, "csv_columns"), (4, "csv_columns"), (5, "csv_encoding"), (7, "csv_unclosed")]
    assert report.counts["in"] == 6


def test_the_cost_of_bad_rows_is_no_matter_of_how_many_they_are() -> None:
    def seconds(rows: list[dict[str, Any]], *, batch: bool) -> float:
        begun = time.thread_time()
        run(rows, schema_model=Row, encoder=JSONEncoder(), use_batch_validation=batch)
        return time.thread_time() - begun

    half = [{"a": n if n % 2 else "x"} for n in range(16_000)]
    for batch in (False, True):
        small = min(seconds(half[:1000], batch=batch) for _ in range(3))
        large = min(seconds(half, batch=batch) for _ in range(3))
        assert large < 64 * small  # quadratic would be 256 times as long, linear is 16


def test_a_record_that_was_rejected_has_its_reasons_in_the_documented_form() -> None:
    result = run([{"a": "x"}, {"a": 1}], schema_model=Row, post_hooks=[Fails(1)])
    assert refusals(result)[1] == [("HookError", "Fails: no 1")]
    assert isinstance(result.errors, list)
    assert set(result.errors[0]["errors"][0]) == {"type", "message", "loc"}
