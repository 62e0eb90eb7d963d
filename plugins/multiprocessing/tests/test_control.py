"""How a run is led: stopped, continued, aborted, held up by its output, and started by a busy program."""

from __future__ import annotations

import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest

from manyhands import (
    JSONOutputAdapter,
    MemoryOutputAdapter,
)
from manyhands.report import FlowReport

from .deeds import Acts, Lives, Pads, Plain, Validated
from .support import Diary, in_time, make_pipe, rows, wait_until


def test_a_run_that_is_stopped_goes_on_where_it_was(diary: Diary) -> None:
    pipe = make_pipe(rows(300), pre=[Lives()], chunksize=1)
    with pipe:
        report = pipe.start()
        wait_until(lambda: report.ok >= 5)
        report.stop()
        wait_until(lambda: report.status == "stopped")
        stood = report.ok
        assert stood == report.read < 300
        assert len(diary.starting("record")) == stood
        report.continue_()
        assert report.wait(20)
    assert report.counts == {"in": 300, "ok": 300, "rejected": 0, "dead": 0, "dropped": 0, "cancelled": 0}
    assert [line.what for line in sorted(diary.starting("record"), key=number)] == [f"record {k}" for k in range(300)]


def number(line: Any) -> int:
    return int(line.what.removeprefix("record "))


def test_a_run_that_is_stopped_and_shut_down_publishes_what_it_has(tmp_path: Path, diary: Diary) -> None:
    output = tmp_path / "out.jsonl"
    pipe = make_pipe(map(record, count()), pre=[Lives()], chunksize=1, output=JSONOutputAdapter(output, format="lines"))
    report = pipe.start()
    wait_until(lambda: report.ok >= 5)
    report.stop()
    pipe.shutdown()
    assert report.status == "stopped"
    assert report.ok + report.cancelled == report.read
    assert output.read_text() == "".join(f'{{"k":{k}}}\n' for k in range(report.ok))
    assert len(diary.of("teardown")) == len(diary.of("setup"))


def record(k: int) -> dict[str, int]:
    return {"k": k}


@pytest.mark.parametrize(
    ("size", "hooks"),
    [(1, "plain"), (1000, "plain"), (1000, "validator")],
    ids=["alone", "in a batch", "in a validator"],
)
def test_an_aborted_run_starts_no_record_any_more(size: int, hooks: str, diary: Diary) -> None:
    """Each record takes 10 ms, so a batch of a thousand would go on for ten seconds."""
    job: dict[str, Any] = {"schema": Validated} if hooks == "validator" else {"pre": [Acts()]}

    def attempt() -> tuple[float, FlowReport]:
        diary.clear()
        pipe = make_pipe(({"k": k, "do": "nap"} for k in count()), chunksize=size, **job)
        report = pipe.start()
        wait_until(lambda: len(diary.starting("record")) >= 20)
        aborted = time.monotonic()
        report.abort()
        assert report.wait(5)
        ended = time.monotonic()
        last = max(line.time for line in diary.starting("record"))
        assert ended - aborted < 1.5
        return last - aborted, report

    report = in_time(0.2, attempt)
    assert report.status == "aborted"
    assert report.counts["in"] == report.counts["ok"] + report.counts["cancelled"]


def test_an_aborted_run_tears_down_the_workers_whose_record_ends_soon(diary: Diary) -> None:
    """They stop in the middle of their chunk, which would take five seconds more."""

    def attempt() -> tuple[float, FlowReport]:
        diary.clear()
        records = ({"k": k, "do": "doze"} for k in count())
        report = make_pipe(records, schema=Validated, post=[Lives()], chunksize=1000).start()
        wait_until(lambda: len(diary.starting("record")) >= 20)
        report.abort()
        assert report.wait(5)
        torn = len(diary.of("teardown")) == len(diary.of("setup")) == 2
        return (0.0 if torn else 1.0), report  # a busy machine may let a record take longer than is waited for it

    assert in_time(0.1, attempt).status == "aborted"


def memory_of_all() -> int:
    """Bytes that this process and its descendants hold alone, each shared page counted in parts."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    return sum(process.memory_full_info().pss for process in processes)


def test_a_slow_output_holds_an_endless_input_up() -> None:
    assert growth(start=2, end=8) <= 5 << 20


@pytest.mark.chaos
def test_a_slow_output_holds_an_endless_input_up_for_long() -> None:
    assert growth(start=5, end=30) <= 5 << 20


def growth(*, start: float, end: float) -> int:
    """Bytes by which a run grows between two times, in seconds from its start."""
    output = Slow()
    records = ({"k": k, "text": "x" * 500} for k in count())
    pipe = make_pipe(records, pre=[Pads()], chunksize=100, output=output)
    with pipe:
        report = pipe.start()
        begun = time.monotonic()
        time.sleep(start)
        before, read = memory_of_all(), report.read
        time.sleep(begun + end - time.monotonic())
        after = memory_of_all()
        assert report.read > read > 0
        assert report.ok < report.read
    return after - before


class Slow(MemoryOutputAdapter):
    """Takes 20 ms for each chunk, and keeps nothing."""

    def open(self, columns: tuple[str, ...] | None) -> Any:
        writer: Any = super().open(columns)
        writer.write = lambda entries: time.sleep(0.02)
        return writer


# A program that is busy with other things.


def hold_locks(stop: threading.Event) -> None:
    """Hold, over and over, locks that a forked process would inherit locked."""
    import logging
    from importlib import import_module

    lock = logging.getLogger().handlers[0].lock if logging.getLogger().handlers else threading.RLock()
    while not stop.is_set():
        with lock or threading.RLock(), logging._lock:  # type: ignore[attr-defined]
            import_module("json.tool")
            stop.wait(0.001)


def test_workers_start_while_threads_hold_locks() -> None:
    """Twenty runs, four at a time."""
    stop = threading.Event()
    threads = [threading.Thread(target=hold_locks, args=(stop,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            pipes = [make_pipe(rows(5), schema=Plain, max_workers=1) for _ in range(4)]
            reports = [pipe.start() for pipe in pipes]
            assert [report.wait(20) for report in reports] == [True] * 4
            assert [report.ok for report in reports] == [5] * 4
    finally:
        stop.set()
        for thread in threads:
            thread.join()
