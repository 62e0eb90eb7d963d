"""The driver against a backend that loses, delays, reorders, refuses, fails and lies."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import Future
from math import ceil, log2
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands import BaseHook, IterableInputAdapter, JSONOutputAdapter, NullOutputAdapter, Pipe, RunOptions
from manyhands.chunks import Chunk, ChunkResult
from manyhands.driver import dispatch
from manyhands.errors import ExecutorBroken, ProtocolError
from manyhands.events import ChunkDone, ChunkFailed, ChunkSubmitted, RecordDead, RunEnded, RunStarted
from manyhands.records import Entry
from manyhands_sync import SyncFifoExecutor

from .support import LIES, Killers, Ran, ScriptedExecutor, Watch, lethal_model, rows, run_pipe, seeded

CAREFUL = settings(derandomize=True, deadline=None, max_examples=30)


class DropsAndFails(BaseHook):
    """Drops some records, and raises for some: for the whole batch until it is run record by record."""

    def execute(self, entries: list[Entry], store: Any) -> list[Entry]:
        if any(entry["position"] % 11 == 5 for entry in entries):
            raise ValueError("not this one")
        return [entry for entry in entries if entry["position"] % 7 != 3]


def scripted(data: st.DataObject, *faults: str, **options: Any) -> ScriptedExecutor:
    return ScriptedExecutor(
        seeded(data.draw(st.integers(0, 2**32), label="seed"), *faults),
        slots=data.draw(st.integers(1, 4), label="slots"),
        remote=data.draw(st.booleans(), label="remote"),
        chunksize=data.draw(st.none() | st.integers(1, 12), label="chunksize"),
        **options,
    )


def reference(records: list[Any], schema: Any) -> Ran:
    return run_pipe(records, SyncFifoExecutor(), schema=schema, post=[DropsAndFails()])


def assert_accounted(ran: Ran, count: int) -> None:
    """Every record has exactly one outcome, and the sums say the same as the outputs."""
    counts = ran.report.counts
    assert counts["in"] == count
    assert counts["ok"] + counts["rejected"] + counts["dead"] + counts["dropped"] == count
    assert counts["cancelled"] == 0
    assert (counts["ok"], counts["rejected"]) == (len(ran.ok), len(ran.with_outcome("rejected")))
    assert counts["dead"] == len(ran.with_outcome("dead"))
    met = Counter([*ran.positions, *(record["position"] for record in ran.errors)])
    assert set(met.values()) <= {1}


@pytest.mark.parametrize("where", ["hook", "validator"])
@CAREFUL
@given(st.data())
def test_killers_die_alone_and_all_others_are_as_on_sync(where: str, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 60), label="records")
    positions = st.sets(st.integers(0, 59), max_size=4)
    killers = Killers(always={k for k in data.draw(positions, label="killers") if k < count})
    progress, size = data.draw(st.booleans(), label="progress"), data.draw(st.none() | st.integers(1, 5), label="batch")
    if progress and (where == "validator" or size == 1):
        # A backend that cannot tell them apart may suspect a transient killer beside a real one, and rightly.
        killers.once = {k for k in data.draw(positions, label="transient killers") if k < count} - killers.always
    ordered = data.draw(st.booleans(), label="ordered")
    records = rows(count, bad=data.draw(positions, label="bad"))
    watch = Watch(killers if where == "hook" else None)
    ran = run_pipe(
        records,
        scripted(data, "return", progress=progress),
        schema=lethal_model(killers if where == "validator" else Killers()),
        pre=[watch],
        post=[DropsAndFails()],
        options=RunOptions(ordered=ordered),
        max_hook_chunk_size=size,
    )
    expected = reference(records, lethal_model(Killers()))
    assert_accounted(ran, count)
    assert sorted(ran.with_outcome("dead")) == sorted(ran.deaths_told) == sorted(killers.always)
    values = [entry["validated_data"] for entry in expected.ok if entry["position"] not in killers.always]
    assert (ran.values if ordered else sorted(ran.values, key=lambda value: value["k"])) == values
    failed = [error for error in expected.errors if error["position"] not in killers.always]
    assert sorted((e for e in ran.errors if e["outcome"] != "dead"), key=lambda e: e["position"]) == failed


@CAREFUL
@given(st.data())
def test_no_fault_of_the_backend_changes_what_comes_out(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 60), label="records")
    records = rows(count, bad=data.draw(st.sets(st.integers(0, 59), max_size=4), label="bad"))
    executor = scripted(data, "return", "raise", "lose")
    schema = lethal_model(Killers())
    ordered = data.draw(st.booleans(), label="ordered")
    ran = run_pipe(
        records,
        executor,
        schema=schema,
        post=[DropsAndFails()],
        options=RunOptions(ordered=ordered, crash_retries=4, error_retries=4),
    )
    expected = reference(records, schema)
    assert_accounted(ran, count)
    if ordered:
        assert ran.ok == expected.ok
        assert ran.errors == expected.errors
    assert sorted(ran.positions) == expected.positions
    assert ran.report.counts == expected.report.counts


@CAREFUL
@given(st.data())
def test_each_killer_costs_two_deaths_where_progress_is_told(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 60), label="records")
    killers = Killers(always=data.draw(st.sets(st.integers(0, count - 1), max_size=5), label="killers"))
    watch = Watch(killers)
    ran = run_pipe(rows(count), scripted(data, "return"), pre=[watch], max_hook_chunk_size=1)
    assert killers.deaths == Counter(dict.fromkeys(killers.always, 2))
    assert ran.with_outcome("dead") == sorted(killers.always)


@pytest.mark.parametrize("size", [1, 2, 7, 64])
@pytest.mark.parametrize("retries", [0, 1, 2])
def test_a_killer_nobody_saw_is_found_in_a_logarithm_of_deaths(size: int, retries: int) -> None:
    killers = Killers(always={size // 2})
    executor = ScriptedExecutor(progress=False, chunksize=size)
    ran = run_pipe(rows(size), executor, pre=[Watch(killers)], options=RunOptions(crash_retries=retries))
    assert ran.with_outcome("dead") == [size // 2]
    assert ran.report.ok == size - 1
    assert retries + 1 <= killers.deaths[size // 2] <= retries + 1 + ceil(log2(size))


def test_a_killer_is_tried_as_often_as_asked() -> None:
    killers = Killers(always={3})
    run_pipe(
        rows(6), ScriptedExecutor(), pre=[Watch(killers)], max_hook_chunk_size=1, options=RunOptions(crash_retries=3)
    )
    assert killers.deaths[3] == 4


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("progress", [True, False])
def test_a_transient_death_costs_one_execution_more_and_no_record(slots: int, progress: bool) -> None:
    killers, count = Killers(once={4}), 20
    watch = Watch(killers)
    executor = ScriptedExecutor(chunksize=10, slots=slots, progress=progress)
    ran = run_pipe(rows(count), executor, pre=[watch], max_hook_chunk_size=1)
    assert ran.positions == list(range(count))
    assert ran.report.counts["dead"] == 0
    # The dead worker took the results of records 0 to 3 with it; those behind the killer had not begun.
    assert watch.ran == Counter({index: 2 if index <= 4 else 1 for index in range(count)})


@pytest.mark.parametrize("progress", [True, False])
def test_records_of_a_hook_without_replay_never_run_twice(progress: bool) -> None:
    killers = Killers(always={14})
    watch = Watch(killers, replay=False)
    ran = run_pipe(rows(30), ScriptedExecutor(chunksize=10, progress=progress), pre=[watch], max_hook_chunk_size=1)
    assert ran.with_outcome("dead") == list(range(10, 20))
    assert set(watch.ran.values()) == {1}
    assert ran.positions == [*range(10), *range(20, 30)]
    assert_accounted(ran, 30)


def test_an_error_of_the_backend_without_replay_rejects_the_range_at_once() -> None:
    watch = Watch(replay=False)
    executor = ScriptedExecutor(lambda chunk, times: "raise" if chunk.sequence == 1 else "run", chunksize=10)
    ran = run_pipe(rows(30), executor, pre=[watch], options=RunOptions(error_retries=5))
    assert ran.with_outcome("rejected") == list(range(10, 20))
    assert len(executor.submitted) == 3


def test_a_record_on_which_the_backend_fails_is_rejected_alone_with_the_reason() -> None:
    def script(chunk: Chunk, times: int) -> str:
        return "raise" if chunk.lo <= 3 < chunk.hi and chunk.sequence == 0 else "run"

    ran = run_pipe(rows(20), ScriptedExecutor(script, chunksize=10))
    assert ran.with_outcome("rejected") == [3]
    assert ran.errors[0]["errors"] == [{"type": "RuntimeError", "message": "the backend hiccuped", "loc": []}]
    assert ran.errors[0]["raw_data"] == {"k": 3, "n": 3}


def test_a_dead_letter_names_item_cause_and_stage() -> None:
    ran = run_pipe(rows(5), ScriptedExecutor(), pre=[Watch(Killers(always={2}))], max_hook_chunk_size=1)
    reason = {"type": "WorkerLost", "message": "the worker died (SIGKILL) in stage pre", "loc": []}
    assert ran.errors == [
        {"position": 2, "outcome": "dead", "raw_data": {"k": 2, "n": 2}, "errors": [reason], "metadata": {}}
    ]
    assert RecordDead(2, "SIGKILL", "pre", 2) in ran.events


def test_chunks_that_only_waited_are_charged_to_nobody() -> None:
    executor = ScriptedExecutor(lambda chunk, times: "return" if times < 6 else "run", chunksize=3)
    watch = Watch(replay=False)
    ran = run_pipe(rows(9), executor, pre=[watch], options=RunOptions(crash_retries=0))
    assert ran.positions == list(range(9))
    assert not any(event.began for event in ran.events if isinstance(event, ChunkFailed))
    for sequence in range(3):
        attempts = [chunk.attempt for chunk in executor.submitted if chunk.sequence == sequence]
        assert attempts == list(range(len(attempts)))


def test_an_executor_that_begins_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_PATIENCE_SECONDS", 0.2)
    with pytest.raises(ExecutorBroken, match="handed back every chunk"):
        run_pipe(rows(9), ScriptedExecutor(lambda chunk, times: "return"))


@pytest.mark.parametrize("lie", sorted(LIES))
def test_a_lying_backend_fails_the_run(lie: str) -> None:
    executor = ScriptedExecutor(lambda chunk, times: lie if chunk.sequence == 1 else "run", chunksize=5, slots=1)
    with pytest.raises(ProtocolError):
        run_pipe(rows(20), executor)
    assert executor.shutdowns


def test_bytes_where_no_record_is_counted_are_a_lie() -> None:
    executor = ScriptedExecutor(lambda chunk, times: "records never counted")
    with pytest.raises(ProtocolError, match="other records"):
        Pipe(IterableInputAdapter(rows(3)), NullOutputAdapter(), executor=executor).run()


def test_a_future_given_twice_is_refused() -> None:
    class Twice(ScriptedExecutor):
        given: Future[ChunkResult] | None = None

        def submit(self, chunk: Chunk) -> Future[ChunkResult]:
            self.given = self.given or super().submit(chunk)
            return self.given

        def shutdown(self, *, cancel: bool = False) -> None:
            opened.set()
            super().shutdown(cancel=cancel)

    opened = threading.Event()
    with pytest.raises(ProtocolError, match="new Future for each chunk"):
        run_pipe(rows(5), Twice(gate=lambda chunk: opened.wait(), chunksize=1))


def test_a_broken_executor_fails_the_run_with_its_cause(tmp_path: Path) -> None:
    executor = ScriptedExecutor(lambda chunk, times: "break" if chunk.sequence == 3 else "run", chunksize=5)
    pipe = Pipe(IterableInputAdapter(rows(50)), JSONOutputAdapter(tmp_path / "out.jsonl"), executor=executor)
    with pytest.raises(ExecutorBroken, match="no worker can start"):
        pipe.run()
    assert not (tmp_path / "out.jsonl").exists()
    counts = pipe.report.counts
    assert counts["in"] == counts["ok"] + counts["cancelled"]


def test_events_tell_each_range_once_submitted_and_once_ended() -> None:
    ran = run_pipe(rows(30), ScriptedExecutor(seeded(7, "return", "raise", "lose"), chunksize=4))
    assert ran.events[0] == RunStarted("scripted")
    assert ran.events[-1] == RunEnded("completed", ran.report.counts)
    given = Counter((e.sequence, e.lo, e.hi) for e in ran.events if isinstance(e, ChunkSubmitted))
    ended = Counter((e.sequence, e.lo, e.hi) for e in ran.events if isinstance(e, ChunkDone | ChunkFailed))
    assert given == ended
    done = [event for event in ran.events if isinstance(event, ChunkDone)]
    assert sum(event.ok for event in done) == ran.report.ok
