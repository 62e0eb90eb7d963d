"""Workers that die: who is blamed, what runs again, and how soon it is known."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import takewhile
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import psutil
import pytest

from manyhands import NullOutputAdapter
from manyhands.errors import TeardownError, WorkerInitError
from manyhands.events import ChunkDone, ChunkFailed, RecordDead
from manyhands.processes.launch import StartMethod

from . import deeds
from .deeds import Acts, ActsAlone, ActsAsync, Lives, Packed, Plain, Validated
from .support import Diary, Events, Ran, collect, in_time, is_alive, make_pipe, rows, run, run_in_time, wait_until

STARTING = {"forkserver": 0.0, "spawn": 0.25}
"""Seconds beyond what is promised that each worker takes: a fresh interpreter needs a processor for a while."""


@pytest.mark.parametrize(
    ("stage", "job", "start_method"),
    [
        ("validate", {"schema": Validated}, "forkserver"),
        ("validate", {"schema": Validated}, "spawn"),
        ("pre", {"pre": [Acts()]}, "forkserver"),
        ("post", {"post": [Acts()]}, "forkserver"),
    ],
)
def test_one_of_forty_kills_its_worker(stage: str, job: dict[str, Any], start_method: StartMethod) -> None:
    records = rows(40, {7: "kill"})
    seconds = 1.5 + (4 + 2) * STARTING[start_method]
    ran = run_in_time(seconds, records, max_workers=4, chunksize=1, start_method=start_method, **job)
    assert ran.counts == {"in": 40, "ok": 39, "dead": 1}
    assert ran.positions == [k for k in range(40) if k != 7]
    assert ran.refused == [(7, "dead", "WorkerLost", f"the worker died (SIGKILL) in stage {stage}")]
    assert ran.errors[0]["raw_data"] == {"k": 7, "do": "kill"}
    assert [(dead.position, dead.cause, dead.stage, dead.attempts) for dead in ran.deaths] == [(7, "SIGKILL", stage, 2)]
    first, last = [failed.worker for failed in ran.failures]
    assert first.isdigit()
    assert last == ran.deaths[0].worker != first


def blamed(failures: list[ChunkFailed], size: int = 1000) -> Counter[int]:
    """How often each record was alone in a range whose worker died."""
    return Counter(failed.sequence * size + failed.lo for failed in failures if failed.hi - failed.lo == 1)


def test_three_killers_in_ten_thousand_cost_six_workers() -> None:
    killers = {123: "kill", 124: "kill", 7500: "kill"}
    ran = run_in_time(1.5, rows(10_000, killers), schema=Validated, max_workers=4, chunksize=1000)
    assert ran.counts == {"in": 10_000, "ok": 9_997, "dead": 3}
    assert [position for position, outcome, *_ in ran.refused if outcome == "dead"] == list(killers)
    assert len(ran.failures) == 6
    assert blamed(ran.failures) == Counter(dict.fromkeys(killers, 1))
    assert len(ran.report.workers) <= 4 + 6


def test_three_killers_in_ten_thousand_are_found_in_batches() -> None:
    """The worker says only which batch its hook had: it is halved."""
    killers = {123: "kill", 124: "kill", 7500: "kill"}
    ran = run_in_time(4.0, rows(10_000, killers), pre=[Acts()], max_workers=4, chunksize=1000)
    assert ran.counts == {"in": 10_000, "ok": 9_997, "dead": 3}
    assert [position for position, outcome, *_ in ran.refused if outcome == "dead"] == list(killers)
    assert set(blamed(ran.failures)) == set(killers)
    assert len(ran.failures) <= 3 * (2 + 10)


def test_a_record_that_kills_once_runs_twice_and_no_other_does(diary: Diary) -> None:
    ran = run(rows(40, {7: "kill_once"}), schema=Validated, max_workers=4, chunksize=1)
    assert ran.counts == {"in": 40, "ok": 40}
    times = Counter(line.what for line in diary.starting("record"))
    assert times == Counter({f"record {k}": 2 if k == 7 else 1 for k in range(40)})


def test_where_a_hook_must_not_run_twice_the_whole_chunk_is_dead(diary: Diary) -> None:
    ran = run(rows(30, {17: "kill_once"}), pre=[ActsAlone()], max_workers=2, chunksize=10)
    assert ran.counts == {"in": 30, "ok": 20, "dead": 10}
    assert [position for position, *_ in ran.refused] == list(range(10, 20))
    assert max(Counter(line.what for line in diary.starting("record")).values()) == 1


def test_a_worker_that_is_always_killed_takes_no_other_chunk_along() -> None:
    """Short chunks wait in the pipe of the worker that dies: they go to others, and nobody charges them."""
    ran = run(rows(400, dict.fromkeys(range(0, 400, 100), "kill")), schema=Validated, max_workers=2, chunksize=5)
    assert ran.counts == {"in": 400, "ok": 396, "dead": 4}
    assert blamed(ran.failures, 5) == Counter({0: 1, 100: 1, 200: 1, 300: 1})
    assert len(ran.failures) == 8


def test_workers_that_others_kill_lose_nothing(diary: Diary) -> None:
    """As a system without memory does, at any moment."""
    chance, killed_all, events = random.Random(7), Event(), Events()
    records = rows(10_000, dict.fromkeys(range(0, 10_000, 2), "nap"))
    source = takewhile(lambda _: not killed_all.is_set(), records)
    pipe = make_pipe(source, schema=Validated, max_workers=3, chunksize=5, run={"crash_retries": 50}, events=events)
    begun = monotonic()
    report = pipe.start()
    for killed in range(1, 16):
        seen = len(diary.lines)
        wait_until(lambda: len(diary.lines) > seen + chance.randrange(10))  # noqa: B023  # called at once
        workers = [pid for pid in {line.pid for line in diary.lines} if is_alive(pid)]
        os.kill(chance.choice(workers), signal.SIGKILL)
        wait_until(lambda: len({line.pid for line in diary.lines}) >= killed + 2)  # noqa: B023  # likewise
    killed_all.set()
    assert report.wait(20)
    ran = collect(pipe, report, events, begun)
    assert ran.counts == {"in": report.read, "ok": report.read}
    assert ran.positions == list(range(report.read))


def test_a_chunk_that_was_sent_and_not_begun_is_charged_to_nobody(diary: Diary) -> None:
    def records() -> Iterator[Any]:
        yield from rows(3)
        wait_until(lambda: len(diary.starting("record")) == 3 and not executor._supervisor._places)
        (pid,) = {line.pid for line in diary.lines}
        os.kill(pid, signal.SIGSTOP)
        yield {"k": 3}
        wait_until(lambda: executor._supervisor._places)
        os.kill(pid, signal.SIGKILL)

    events = Events()
    job: dict[str, Any] = {"run": {"crash_retries": 0}, "max_workers": 1, "chunksize": 1}
    pipe = make_pipe(records, schema=Validated, events=events, **job)
    executor: Any = pipe.executor
    ran = collect(pipe, pipe.run(), events, monotonic())
    assert ran.counts == {"in": 4, "ok": 4}
    assert ran.failures == []
    assert len({line.pid for line in diary.lines}) == 2


def test_a_fork_server_that_dies_is_replaced_with_its_workers(diary: Diary) -> None:
    def records() -> Iterator[Any]:
        yield from rows(20)
        wait_until(lambda: len(diary.starting("record")) == 20)
        (server,) = [
            child for child in psutil.Process().children() if "manyhands.processes.server" in str(child.cmdline())
        ]
        server.kill()
        wait_until(lambda: not any(is_alive(line.pid) for line in diary.lines))
        yield from rows(20)

    ran = run(records, schema=Validated, chunksize=1)
    assert ran.counts == {"in": 40, "ok": 40}
    assert ran.deaths == []


# The matrix: what a worker's code can do to it, and where.

FAULTS = {
    "fail": "",
    "run_out_of_memory": "",
    "exit_3": "exit code 3",
    "exit_at_once": "exit code 3",
    "crash": "SIGSEGV",
    "kill": "SIGKILL",
}
"""Deeds, and what is said of a worker that did not survive them."""

JOBS: dict[str, Any] = {
    "unpack": {"schema": Plain},
    "pre": {"pre": [Acts()]},
    "pre async": {"pre": [ActsAsync()]},
    "validate": {"schema": Validated},
    "pack": {"schema": Packed, "output": NullOutputAdapter()},
}


def survives(deed: str, where: str) -> bool:
    """The worker does: what it is raised is the end of a record, `sys.exit` too, but not where a block is read."""
    return not FAULTS[deed] or (deed == "exit_3" and where != "unpack")


def outcome_times(ran: Ran) -> dict[int, float]:
    """When the driver knew what became of each record; chunks are of one."""
    known: dict[int, float] = {}
    for event, time in zip(ran.events, ran.events.times, strict=True):
        if isinstance(event, ChunkDone | ChunkFailed):
            known[event.sequence] = time
        elif isinstance(event, RecordDead):
            known[event.position] = time
    return known


@pytest.mark.parametrize("stage", JOBS)
def test_a_fault_costs_its_record_and_no_other(stage: str, diary: Diary) -> None:
    faults = {2 + 4 * place: deed for place, deed in enumerate(FAULTS)}
    records = rows(30, faults)

    def attempt() -> tuple[float, Ran]:
        diary.clear()
        ran = run(deeds.Input(records) if stage == "unpack" else records, chunksize=1, **JOBS[stage])
        known = outcome_times(ran)
        return max(known[k] - diary.of(deed)[0].time for k, deed in faults.items()), ran

    ran = in_time(1.0, attempt)
    dead = {k: FAULTS[deed] for k, deed in faults.items() if not survives(deed, stage)}
    assert ran.counts == {"in": 30, "ok": 24, "rejected": 6 - len(dead), "dead": len(dead)}
    assert {position: outcome for position, outcome, *_ in ran.refused} == {
        k: "dead" if k in dead else "rejected" for k in faults
    }
    assert {event.position: event.cause for event in ran.deaths} == dead
    # An exit goes through the pipeline on its way out, which then is at no record any more.
    assert {event.stage for event in ran.deaths if event.cause != "exit code 3"} == {stage.split(maxsplit=1)[0]}
    assert Counter(failed.sequence for failed in ran.failures) == Counter(
        {k: 2 if k in dead else 1 for k in faults if k in dead or stage == "unpack"}
    )


def since(diary: Diary, what: str, act: Callable[[], Any]) -> tuple[float, Any]:
    """How long it took from the first time that this was noted to the end of what is called here."""
    diary.clear()
    made = act()
    return monotonic() - diary.of(what)[0].time, made


@pytest.mark.parametrize("deed", FAULTS)
def test_a_fault_in_setup_ends_the_run_before_it_begins(deed: str, diary: Diary) -> None:
    def attempt() -> WorkerInitError:
        with pytest.raises(WorkerInitError) as caught:
            run(moved(), pre=[Lives(setup=deed)], max_workers=2)
        return caught.value

    def moved() -> Iterator[Any]:
        noted.append("a record was read")
        yield {"k": 0}

    noted: list[str] = []
    error = in_time(1.0, partial(since, diary, "setup", attempt))
    assert noted == []
    assert ("setup of hook Lives failed" if survives(deed, "setup") else f"({FAULTS[deed]})") in str(error)
    assert ("worker processes die" in str(error)) is not survives(deed, "setup")


@pytest.mark.parametrize("deed", FAULTS)
def test_a_fault_in_teardown_fails_the_run(deed: str, diary: Diary) -> None:
    def attempt() -> TeardownError:
        with pytest.raises(TeardownError) as caught:
            run(rows(5), pre=[Lives(teardown=deed)], max_workers=2, chunksize=1)
        return caught.value

    error = in_time(1.0, partial(since, diary, "teardown", attempt))
    dies = f"a worker died in its teardown ({FAULTS[deed]})"
    assert ("teardown of hook Lives failed" if survives(deed, "teardown") else dies) in str(error)


def test_a_fault_of_a_worker_that_has_nothing_to_do_costs_nothing(diary: Diary, tmp_path: Path) -> None:
    bell = tmp_path / "bell"
    os.mkfifo(bell)

    def records() -> Iterator[Any]:
        for rung, deed in enumerate(FAULTS, 1):
            yield from rows(3)
            wait_until(lambda: len(events_of_done(events)) == 3 * rung)  # noqa: B023  # called at once
            pid = diary.of("setup")[-1].pid
            bell.write_text(deed)
            wait_until(lambda: not is_alive(pid) or diary.of(f"{deed} is done"))  # noqa: B023  # likewise
        yield from rows(3)

    events = Events()
    pipe = make_pipe(records, pre=[deeds.Haunted(bell)], max_workers=1, chunksize=1, events=events)
    ran = collect(pipe, pipe.run(), events, monotonic())
    assert ran.counts == {"in": 21, "ok": 21}
    assert ran.failures == []
    assert [deed for deed in FAULTS if len(diary.of(f"{deed} is done")) == 1] == ["fail", "run_out_of_memory", "exit_3"]
    assert all(len(diary.of(deed)) == 1 for deed in FAULTS)
    assert len({line.pid for line in diary.starting("record")}) == 1 + 3


def events_of_done(events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, ChunkDone)]
