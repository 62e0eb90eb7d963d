"""Results by iteration."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from manyhands import (
    BaseExecutor,
    BaseHook,
    EntryStatus,
    IterableInputAdapter,
    JSONOutputAdapter,
    MemoryOutputAdapter,
    Pipe,
    RunOptions,
)
from manyhands.driver import sink
from manyhands.driver.run import Run
from manyhands.errors import SourceError, TeardownError
from manyhands.records import Entry
from manyhands.report import RunStatus
from manyhands_sync import SyncFifoExecutor

from .support import Killers, ScriptedExecutor, Watch, rows, run_pipe, seeded, wait_until


class Row(BaseModel):
    k: int
    n: int


class Drops(BaseHook):
    def execute(self, entries: list[Entry], store: Any) -> list[Entry]:
        return [entry for entry in entries if entry["position"] % 10]


@pytest.fixture(params=["sync", "threads", "processes"])
def executor(request: pytest.FixtureRequest) -> BaseExecutor:
    if request.param == "sync":
        return SyncFifoExecutor(chunksize=7)
    return ScriptedExecutor(seeded(5, "return"), chunksize=7, slots=3, remote=request.param == "processes")


def pipe_of(records: Any, executor: BaseExecutor, *outputs: Any, **options: Any) -> Pipe:
    return Pipe(IterableInputAdapter(records), *outputs, executor=executor, **options)


def counted(read: list[int]) -> Iterator[dict[str, int]]:
    for index in count():
        read.append(index)
        yield {"k": index, "n": index}


def test_every_entry_that_was_not_dropped_is_yielded_in_order(executor: BaseExecutor) -> None:
    records = rows(60, bad={4, 33})
    pipe = pipe_of(
        records, executor, schema_model=Row, post_validation_hooks=[Drops()], id_generator=lambda at: f"#{at}"
    )
    entries = list(pipe.stream())
    dropped = {0, 10, 20, 30, 40, 50}
    assert [entry["position"] for entry in entries] == [at for at in range(60) if at not in dropped]
    assert [entry["id"] for entry in entries] == [f"#{entry['position']}" for entry in entries]
    assert pipe.report.counts == {"in": 60, "ok": 52, "rejected": 2, "dead": 0, "dropped": 6, "cancelled": 0}


def test_failed_entries_say_why_and_show_the_untouched_record(executor: BaseExecutor) -> None:
    failed = [entry for entry in pipe_of(rows(9, bad={4}), executor, schema_model=Row).stream() if entry["errors"]]
    assert [(entry["position"], entry["status"]) for entry in failed] == [(4, EntryStatus.FAILED)]
    assert failed[0]["raw_data"] == {"k": 4, "n": "bad"}
    assert failed[0]["validated_data"] is None
    assert failed[0]["errors"][0]["loc"] == ["n"]
    assert set(failed[0]) == set(Entry.__annotations__)


def test_dead_records_are_yielded_as_failed() -> None:
    watch = Watch(Killers(always={3}))
    entries = list(pipe_of(rows(6), ScriptedExecutor(), pre_validation_hooks=[watch], max_hook_chunk_size=1).stream())
    assert [entry["status"] is EntryStatus.FAILED for entry in entries] == [at == 3 for at in range(6)]
    assert entries[3]["errors"][0]["type"] == "WorkerLost"


def test_outputs_are_written_as_by_a_run(executor: BaseExecutor, tmp_path: Path) -> None:
    written = {}
    for how in ("stream", "run"):
        paths = [tmp_path / f"{how}.{what}.jsonl" for what in ("ok", "errors")]
        outputs = [JSONOutputAdapter(path) for path in paths]
        pipe = pipe_of(rows(60, bad={4, 33}), executor, *outputs, Row, post_validation_hooks=[Drops()])
        yielded = list(pipe.stream()) if how == "stream" else pipe.run()
        assert yielded
        written[how] = [path.read_bytes() for path in paths]
    assert written["stream"] == written["run"]
    assert all(written["run"])


class Anything(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    value: Any


def test_a_record_without_a_written_form_is_rejected_as_by_a_run(tmp_path: Path) -> None:
    counts, errors = [], []
    for streamed in (True, False):
        wrong = MemoryOutputAdapter()
        output = JSONOutputAdapter(tmp_path / f"{streamed}.jsonl")
        pipe = pipe_of([{"value": 1}, {"value": object()}, {"value": 3}], SyncFifoExecutor(), output, wrong, Anything)
        if streamed:
            assert [entry["status"] for entry in pipe.stream()] == ["validated", "failed", "validated"]
        else:
            pipe.run()
        counts.append(pipe.report.counts)
        errors.append([(each["position"], each["outcome"], each["errors"][0]["type"]) for each in wrong.results])
    assert counts[0] == counts[1] == {"in": 3, "ok": 2, "rejected": 1, "dead": 0, "dropped": 0, "cancelled": 0}
    assert errors[0] == errors[1] == [(1, "rejected", "EncodeError")]
    assert (tmp_path / "True.jsonl").read_bytes() == (tmp_path / "False.jsonl").read_bytes()


def test_an_endless_source_is_read_only_a_bounded_distance_ahead(executor: BaseExecutor) -> None:
    # Besides the window and the feeder's chunks: the chunk being handed out, and what is handed out and not taken.
    read, slots, size = list[int](), executor.slots(), 7
    most = (2 * slots + 2 + 64 // size + 1) * size + sink._STREAM_AHEAD
    entries = pipe_of(counted(read), executor).stream()
    for taken in range(1, 600):
        assert next(entries)["position"] == taken - 1
        assert len(read) <= taken + most
    entries.close()


def test_nothing_is_read_before_the_first_entry_is_asked_for(executor: BaseExecutor) -> None:
    read = list[int]()
    entries = pipe_of(counted(read), executor).stream()
    assert read == []
    entries.close()
    assert read == []


def test_leaving_early_aborts_the_run_and_closes_the_source(executor: BaseExecutor, tmp_path: Path) -> None:
    closed = threading.Event()

    def source() -> Iterator[dict[str, int]]:
        try:
            yield from counted([])
        finally:
            closed.set()

    pipe = pipe_of(source(), executor, JSONOutputAdapter(tmp_path / "out.jsonl"))
    for entry in pipe.stream():
        if entry["position"] == 20:
            break
    wait_until(lambda: pipe.report.is_finished)  # the generator is closed as soon as nothing refers to it
    assert pipe.report.status is RunStatus.ABORTED
    assert closed.is_set()
    assert not (tmp_path / "out.jsonl").exists()


def test_an_error_thrown_into_the_iteration_ends_the_run(executor: BaseExecutor) -> None:
    pipe = pipe_of(counted([]), executor)
    entries: Any = pipe.stream()
    next(entries)
    with pytest.raises(LookupError):
        entries.throw(LookupError("mine"))
    assert pipe.report.status is RunStatus.ABORTED


def test_an_interrupt_while_waiting_for_an_entry_ends_the_run() -> None:
    class Interrupts(BaseHook):
        def execute(self, entries: list[Entry], store: Any) -> None:
            if entries[0]["position"] == 10:
                signal.raise_signal(signal.SIGINT)

    pipe = pipe_of(counted([]), SyncFifoExecutor(chunksize=5), pre_validation_hooks=[Interrupts()])
    # It may arrive between two entries as well, when only the end of the iteration tells the run.
    with pytest.raises(KeyboardInterrupt), closing(pipe.stream()) as entries:
        for _ in entries:
            pass
    assert pipe.report.status is RunStatus.ABORTED


@pytest.mark.parametrize("began", [True, False])
@pytest.mark.parametrize(
    "run", [Pipe.run, lambda pipe: list(pipe.stream()), lambda pipe: asyncio.run(pipe.run_async())]
)
def test_an_interrupt_while_the_run_is_started_ends_it(
    monkeypatch: pytest.MonkeyPatch, run: Callable[[Pipe], object], began: bool
) -> None:
    def interrupted(self: Run) -> None:
        if began:
            start(self)
        raise KeyboardInterrupt

    start = Run.start
    monkeypatch.setattr(Run, "start", interrupted)
    executor = SyncFifoExecutor(chunksize=5)
    pipe = pipe_of(counted([]), executor)
    with pytest.raises(KeyboardInterrupt):
        run(pipe)
    assert pipe.report.status is RunStatus.ABORTED
    monkeypatch.undo()
    assert pipe_of(rows(3), executor).run().ok == 3  # nothing holds the executor


def test_all_entries_before_an_error_of_the_source_are_yielded(executor: BaseExecutor) -> None:
    def source() -> Iterator[dict[str, int]]:
        yield from rows(300)
        raise OSError("gone")

    seen = list[int]()
    with pytest.raises(SourceError, match="behind record 300"):
        seen.extend(entry["position"] for entry in pipe_of(source(), executor).stream())
    assert seen == list(range(300))


def test_a_failing_teardown_is_raised_behind_the_last_entry() -> None:
    class Fails(Watch):
        def teardown(self, store: Any) -> None:
            raise ValueError("cannot flush")

    entries = pipe_of(rows(5), SyncFifoExecutor(), pre_validation_hooks=[Fails()]).stream()
    assert [next(entries)["position"] for _ in range(5)] == list(range(5))
    with pytest.raises(TeardownError, match="cannot flush"):
        next(entries)


@pytest.mark.parametrize("end", [Pipe.shutdown, lambda pipe: pipe.report.abort()], ids=["shutdown", "abort"])
@pytest.mark.parametrize("stopped", [True, False])
def test_the_reader_itself_may_end_the_run(end: Callable[[Pipe], None], stopped: bool, tmp_path: Path) -> None:
    pipe = pipe_of(counted([]), SyncFifoExecutor(chunksize=500), JSONOutputAdapter(tmp_path / "out.jsonl"))
    seen = []
    for entry in pipe.stream():
        seen.append(entry["position"])
        if entry["position"] == 3:
            if stopped:
                pipe.report.stop()
            end(pipe)
    assert seen == list(range(len(seen)))
    if stopped and end is Pipe.shutdown:
        assert pipe.report.status is RunStatus.STOPPED
        assert len(seen) == pipe.report.ok
        assert len((tmp_path / "out.jsonl").read_text().splitlines()) == pipe.report.ok
    else:
        assert pipe.report.status is RunStatus.ABORTED
        assert not (tmp_path / "out.jsonl").exists()


def test_an_unordered_stream_yields_each_entry_once() -> None:
    executor = ScriptedExecutor(seeded(3, "return"), chunksize=4, slots=4)
    entries = pipe_of(rows(200), executor, options=RunOptions(ordered=False)).stream()
    assert sorted(entry["position"] for entry in entries) == list(range(200))


def test_a_stream_equals_the_output_of_a_run(executor: BaseExecutor) -> None:
    ran = run_pipe(rows(40), executor, schema=Row)
    assert list(pipe_of(rows(40), executor, schema_model=Row).stream()) == ran.ok
