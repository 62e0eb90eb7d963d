"""The report of a run, and what can be done to the run by it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from pydantic import BaseModel

from manyhands import BaseExecutor, BaseHook, FlowReport, IterableInputAdapter, JSONOutputAdapter, Pipe
from manyhands.chunks import Chunk
from manyhands.records import Entry
from manyhands.report import RunStatus
from manyhands_sync import SyncFifoExecutor

from .support import LIMIT, Killers, ScriptedExecutor, Watch, rows, run_pipe, wait_until

Act = Callable[[FlowReport], None]


def endless() -> Iterator[dict[str, int]]:
    return ({"k": index} for index in count())


class Slow(BaseHook):
    """Takes two milliseconds a record and says when each begins."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[float] = []
        self._never = threading.Event()

    def execute(self, entries: list[Entry], store: Any) -> None:
        for _ in entries:
            self.begun.append(monotonic())
            self._never.wait(0.002)


@pytest.fixture(params=["sync", "scripted"])
def executor(request: pytest.FixtureRequest) -> BaseExecutor:
    return SyncFifoExecutor(chunksize=5) if request.param == "sync" else ScriptedExecutor(chunksize=5, slots=3)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def lines(path: Path) -> list[int]:
    return [json.loads(line)["k"] for line in path.read_text().splitlines()]


def begun(executor: BaseExecutor, out: Path, hook: BaseHook | None = None) -> tuple[Pipe, FlowReport]:
    """A run of an endless source that has written something."""
    pipe = Pipe(
        IterableInputAdapter(endless()),
        JSONOutputAdapter(out),
        executor=executor,
        pre_validation_hooks=[hook] if hook else [],
    )
    report = pipe.start()
    wait_until(lambda: report.ok > 10)
    return pipe, report


def test_a_report_goes_from_pending_by_running_to_completed() -> None:
    opened = threading.Event()

    def source() -> Iterator[dict[str, int]]:
        yield {"k": 0}
        assert opened.wait(LIMIT)

    pipe = Pipe(IterableInputAdapter(source()), executor=SyncFifoExecutor())
    assert (pipe.report.status, pipe.report.is_finished, pipe.report.duration) == (RunStatus.PENDING, False, 0.0)
    report = pipe.start()
    wait_until(lambda: report.status is RunStatus.RUNNING)
    assert not report.is_finished
    opened.set()
    assert report.wait(LIMIT)
    assert (report.status, report.is_finished, report.exception) == (RunStatus.COMPLETED, True, None)
    assert report is pipe.report


def test_wait_tells_at_once_when_there_is_no_time(executor: BaseExecutor, out: Path) -> None:
    pipe, report = begun(executor, out)
    with pipe:
        begin = monotonic()
        assert not report.wait(0)
        assert monotonic() - begin < 0.1
    assert report.wait(0)


def test_wait_async_leaves_the_event_loop_free(executor: BaseExecutor, out: Path) -> None:
    async def main() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while not report.is_finished:
                ticks += 1
                if ticks == 20:
                    report.abort()
                await asyncio.sleep(0.001)

        ticking = asyncio.create_task(tick())
        assert not await report.wait_async(0.001)
        assert await report.wait_async(LIMIT)
        assert await report.wait_async(0)
        await ticking
        return ticks

    _, report = begun(executor, out)
    assert asyncio.run(main()) >= 20


def test_a_wait_that_ran_out_is_forgotten_with_its_event_loop(executor: BaseExecutor, out: Path) -> None:
    pipe, report = begun(executor, out)
    with pipe:
        for _ in range(3):
            assert not asyncio.run(report.wait_async(0.01))
        assert report._callbacks == []
    assert report.status is RunStatus.ABORTED


def test_a_stopped_run_starts_no_record_until_it_continues(executor: BaseExecutor, out: Path) -> None:
    hook = Slow()
    pipe, report = begun(executor, out, hook)
    with pipe:
        report.stop()
        asked = monotonic()
        assert report.is_stopped
        wait_until(lambda: report.status is RunStatus.STOPPED)
        assert not report.is_finished
        assert not report.wait(0.25)
        assert max(hook.begun) < asked + 0.2
        assert report.counts["in"] == report.total_processed  # what was under way is finished
        before = report.ok
        report.continue_()
        assert not report.is_stopped
        wait_until(lambda: report.ok > before)
        assert report.status is RunStatus.RUNNING


def test_an_aborted_run_starts_no_record_and_ends_soon(executor: BaseExecutor, out: Path) -> None:
    hook = Slow()
    _, report = begun(executor, out, hook)
    report.abort()
    asked = monotonic()
    assert report.wait(1.0)
    assert report.status is RunStatus.ABORTED
    assert max(hook.begun) < asked + 0.2
    counts = report.counts
    assert counts["in"] == sum(counts.values()) - counts["in"]


@pytest.mark.parametrize("act", [FlowReport.stop, FlowReport.continue_, FlowReport.abort], ids=lambda act: act.__name__)
def test_a_run_that_was_aborted_stays_aborted(act: Act, executor: BaseExecutor, out: Path) -> None:
    pipe, report = begun(executor, out)
    report.abort()
    act(report)
    pipe.shutdown()
    act(report)
    report.end(RunStatus.COMPLETED)
    assert (report.status, report.exception) == (RunStatus.ABORTED, None)
    assert not out.exists()


@pytest.mark.parametrize("act", [FlowReport.stop, FlowReport.continue_, FlowReport.abort], ids=lambda act: act.__name__)
def test_a_run_that_has_ended_stays_as_it_ended(act: Act, out: Path) -> None:
    pipe = Pipe(IterableInputAdapter(rows(5)), JSONOutputAdapter(out), executor=SyncFifoExecutor())
    report = pipe.run()
    before = report.as_dict()
    act(report)
    pipe.shutdown()
    assert report.as_dict() == before
    assert lines(out) == list(range(5))


def test_shutdown_of_a_stopped_run_publishes_what_is_complete(executor: BaseExecutor, out: Path) -> None:
    pipe, report = begun(executor, out)
    report.stop()
    pipe.shutdown()
    assert report.status is RunStatus.STOPPED
    assert report.is_finished
    assert report.counts["cancelled"] == 0
    assert lines(out) == list(range(report.ok))
    assert not out.with_name("out.jsonl.partial").exists()


def test_abort_publishes_nothing_and_keeps_what_was_written_aside(executor: BaseExecutor, out: Path) -> None:
    pipe, report = begun(executor, out)
    report.abort()
    pipe.shutdown()
    assert not out.exists()
    assert lines(out.with_name("out.jsonl.partial")) == list(range(report.ok))


@pytest.mark.parametrize("round_", range(10))
def test_neither_stop_nor_shutdown_revives_an_aborted_run(round_: int, executor: BaseExecutor, out: Path) -> None:
    pipe, report = begun(executor, out)
    report.stop()
    report.abort()
    pipe.shutdown()
    assert report.status is RunStatus.ABORTED
    assert not out.exists()


def test_an_abort_while_hooks_are_torn_down_still_publishes_nothing(out: Path) -> None:
    class Leaves(Watch):
        def teardown(self, store: Any) -> None:
            pipe.report.abort()

    pipe = Pipe(
        IterableInputAdapter(rows(5)),
        JSONOutputAdapter(out),
        executor=SyncFifoExecutor(),
        pre_validation_hooks=[Leaves()],
    )
    assert pipe.run().status is RunStatus.ABORTED
    assert not out.exists()


def test_records_in_flight_at_an_abort_are_cancelled() -> None:
    opened = threading.Event()

    class Stuck(ScriptedExecutor):
        def shutdown(self, *, cancel: bool = False) -> None:
            opened.set()
            super().shutdown(cancel=cancel)

    def gate(chunk: Chunk) -> None:
        if chunk.sequence >= 2:
            opened.wait(LIMIT)

    executor = Stuck(chunksize=5, slots=2, gate=gate)
    pipe = Pipe(IterableInputAdapter(endless()), executor=executor)
    report = pipe.start()
    wait_until(lambda: len(executor.submitted) == 4 and report.ok == 10)
    pipe.shutdown()
    assert report.counts == {"in": 20, "ok": 10, "rejected": 0, "dead": 0, "dropped": 0, "cancelled": 10}
    assert report.total_processed == 10


class Drops(BaseHook):
    def execute(self, entries: list[Entry], store: Any) -> list[Entry]:
        return [entry for entry in entries if entry["position"] % 10]


class Row(BaseModel):
    k: int
    n: int


def finished() -> FlowReport:
    return run_pipe(
        rows(40, bad={3, 4}),
        ScriptedExecutor(chunksize=8, slots=2),
        schema=Row,
        pre=[Watch(Killers(always={7}))],
        post=[Drops()],
        max_hook_chunk_size=1,
    ).report


def test_a_report_as_data_has_exactly_the_keys_that_are_promised() -> None:
    data = finished().as_dict()
    assert list(data) == [
        "status", "executor", "counts", "duration", "rows_per_second", "stages", "workers", "exception",
    ]  # fmt: skip
    assert data["counts"] == {"in": 40, "ok": 33, "rejected": 2, "dead": 1, "dropped": 4, "cancelled": 0}
    assert (data["status"], data["executor"], data["exception"]) == ("completed", "scripted", None)
    assert json.loads(json.dumps(data)) == data


def test_sums_of_a_report_fit_together() -> None:
    report = finished()
    assert report.error_count == report.rejected + report.dead == 3
    assert report.success_count == report.ok == 33
    assert report.total_processed == 40
    assert report.items_per_second == pytest.approx(40 / report.duration)
    assert report.duration == report.duration > 0  # it stands still when the run has ended
    assert set(report.stages) == {"read", "unpack", "pre", "validate", "post", "pack", "write"}
    assert all(seconds > 0 for seconds in report.stages.values())
    assert sum(worker["records"] for worker in report.workers.values()) == 39


def test_a_report_as_data_does_not_change_any_more() -> None:
    report = FlowReport("x")
    data = report.as_dict()
    report.stages["read"] = 1.0
    report.workers["w"] = {"chunks": 1}
    assert (data["stages"], data["workers"]) == ({}, {})


def test_the_exception_of_a_failed_run_is_in_its_report() -> None:
    def source() -> Iterator[int]:
        yield 0
        raise OSError("gone")

    report = Pipe(IterableInputAdapter(source()), executor=SyncFifoExecutor()).start()
    assert report.wait(LIMIT)
    assert report.status is RunStatus.FAILED
    message = "the input failed behind record 1: OSError: gone"
    assert report.as_dict()["exception"] == {"type": "SourceError", "message": message}
