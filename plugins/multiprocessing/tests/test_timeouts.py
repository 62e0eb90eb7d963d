"""Records and chunks that take too long: they are given up in time, alone, and their worker's place is filled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from manyhands import NullOutputAdapter
from manyhands.events import ChunkDone, RecordDead
from manyhands.processes.launch import StartMethod

from .deeds import Acts, ActsAlone, ActsAsync, Awaits, Naps, Packed, Validated
from .support import Diary, Events, Ran, make_pipe, rows, run, run_in_time, wait_until

LATE = "took longer than record_timeout allows in stage"


def dead(ran: Ran) -> list[tuple[int, str, str, str]]:
    return [each for each in ran.refused if each[1] == "dead"]


@pytest.mark.parametrize(
    ("deed", "stage", "job"),
    [
        ("spin", "post", {"post": [Acts()]}),
        ("hold", "validate", {"schema": Validated}),
        ("match", "pre", {"pre": [Acts()]}),
        ("hold", "pre", {"pre": [ActsAsync()]}),
        ("sleep", "pre", {"pre": [Awaits()]}),
    ],
)
def test_a_record_that_takes_too_long_is_dead_alone_and_in_time(deed: str, stage: str, job: dict[str, Any]) -> None:
    """It would take 20 seconds or more; the others need not wait for it, nor for each other."""
    ran = run_in_time(1.6, rows(11, {5: deed}), chunksize=1, run={"record_timeout": 1}, **job)
    assert ran.counts == {"in": 11, "ok": 10, "dead": 1}
    assert ran.refused == [(5, "dead", "RecordTimeout", f"{LATE} {stage}")]
    assert ran.errors[0]["raw_data"] == {"k": 5, "do": deed}
    assert [(event.position, event.cause, event.stage) for event in ran.deaths] == [(5, "timeout", stage)]
    assert len(ran.failures) == 1
    assert ran.ended - ran.begun > 1


def test_the_place_of_a_worker_that_was_stuck_is_filled(diary: Diary, start_method: StartMethod) -> None:
    def records() -> Iterator[Any]:
        yield from rows(3, {1: "hold"})
        wait_until(lambda: any(isinstance(event, RecordDead) for event in events))
        diary.path.rename(diary.path.with_suffix(".before"))
        while len({line.pid for line in diary.starting("record")}) < 2:
            yield {"k": 3, "do": "nap"}

    events = Events()
    job: dict[str, Any] = {"schema": Validated, "chunksize": 1, "start_method": start_method}
    report = make_pipe(records, events=events, run={"record_timeout": 0.3}, **job).run()
    assert (report.dead, report.rejected, report.cancelled) == (1, 0, 0)
    assert report.ok == report.read - 1
    (stuck,) = {line.pid for line in Diary(diary.path.with_suffix(".before")).of("hold")}
    assert stuck not in {line.pid for line in diary.lines}


def test_a_batch_is_narrowed_down_by_sixteenths() -> None:
    """A hook that gets a hundred records at once does not say at which it is: three calls take too long."""
    ran = run_in_time(3 * 0.5 + 0.6, rows(100, {41: "spin"}), pre=[Acts()], chunksize=100, run={"record_timeout": 0.5})
    assert ran.counts == {"in": 100, "ok": 99, "dead": 1}
    assert ran.refused == [(41, "dead", "RecordTimeout", f"{LATE} pre")]
    assert [failed.hi - failed.lo for failed in ran.failures] == [100, 6, 1]


@pytest.mark.parametrize("batch", [5, 50])
def test_a_batch_is_what_its_hook_gets_in_one_call(batch: int) -> None:
    """Each record takes 20 ms, so the fifty take a second and five of them a tenth."""
    records = rows(50, dict.fromkeys(range(50), "nap"))
    ran = run(records, pre=[Acts()], chunksize=50, batch=batch, run={"record_timeout": 0.5})
    assert ran.counts == {"in": 50, "ok": 50}
    assert len(ran.failures) == (batch == 50)


def test_a_record_is_tried_again_where_that_is_asked_for(diary: Diary) -> None:
    limits = {"record_timeout": 0.3, "timeout_retries": 1}
    ran = run(rows(6, {2: "hold"}), schema=Validated, chunksize=1, run=limits)
    assert ran.counts == {"in": 6, "ok": 5, "dead": 1}
    assert Counter(line.what for line in diary.starting("record")) == Counter(
        {f"record {k}": 2 if k == 2 else 1 for k in range(6)}
    )
    assert [event.attempts for event in ran.deaths] == [2]


def test_a_chunk_that_is_only_long_is_run_in_parts() -> None:
    """Two seconds in one piece, a few tenths in sixteenths."""
    records = rows(100, dict.fromkeys(range(100), "nap"))
    ran = run(records, schema=Validated, chunksize=100, run={"chunk_timeout": 0.5})
    assert ran.counts == {"in": 100, "ok": 100}
    assert ran.positions == list(range(100))
    assert [(failed.lo, failed.hi) for failed in ran.failures] == [(0, 100)]


@pytest.mark.parametrize(
    ("stage", "job"),
    [
        ("validate", {"schema": Validated}),
        ("pack", {"schema": Packed, "output": NullOutputAdapter()}),
    ],
)
def test_a_record_that_holds_its_chunk_up_is_dead_alone(stage: str, job: dict[str, Any]) -> None:
    ran = run(rows(20, {13: "hold"}), chunksize=20, run={"chunk_timeout": 0.3}, **job)
    assert ran.counts == {"in": 20, "ok": 19, "dead": 1}
    message = f"took longer than chunk_timeout allows in stage {stage}"
    assert ran.refused == [(13, "dead", "RecordTimeout", message)]


def test_the_limit_is_for_each_call_and_not_for_all_hooks_together() -> None:
    ran = run([{"k": 0}], pre=[Naps(0.6), Naps(0.6)], post=[Naps(0.6)], chunksize=1, run={"record_timeout": 1.0})
    assert ran.counts == {"in": 1, "ok": 1}
    assert ran.failures == []


def test_where_a_hook_must_not_run_twice_the_whole_chunk_is_dead(diary: Diary) -> None:
    ran = run(rows(30, {17: "hold"}), pre=[ActsAlone()], chunksize=10, run={"record_timeout": 0.3})
    assert ran.counts == {"in": 30, "ok": 20, "dead": 10}
    assert dead(ran) == [(k, "dead", "RecordTimeout", f"{LATE} pre") for k in range(10, 20)]
    assert max(Counter(line.what for line in diary.starting("record")).values()) == 1


def test_waiting_for_a_worker_takes_none_of_the_time(diary: Diary) -> None:
    """Chunks that stand in line, or that a worker has in its pipe, have not begun."""
    records = rows(40, dict.fromkeys(range(40), "nap"))
    ran = run(records, schema=Validated, max_workers=1, chunksize=1, run={"record_timeout": 0.3, "chunk_timeout": 0.3})
    assert ran.counts == {"in": 40, "ok": 40}
    assert ran.failures == []
    assert sum(event.ok for event in ran.events if isinstance(event, ChunkDone)) == 40
