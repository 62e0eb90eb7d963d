"""Runs that are stopped or aborted, and calls that are late or do not come back."""

import asyncio
import threading
from collections import Counter
from contextlib import suppress
from time import monotonic
from typing import Any

import pytest
from core.tests.support import wait_until

from manyhands import Chunk, ChunkKind, FlowReport, HookStore, RunOptions, RunStatus, WorkerContext
from manyhands.errors import WorkerInitError
from manyhands_asyncio import AsyncIOExecutor

from .support import LIMIT, Awaits, Does, Overlap, pass_by, pipe_of, run, running_loop


@pytest.mark.parametrize("chunksize", [1, 50, None])
def test_an_aborted_run_ends_at_once_while_calls_are_pending(chunksize: int | None) -> None:
    reached, ended = threading.Event(), list[str]()
    overlap = Overlap(20)

    async def never(entries: list[Any], store: HookStore) -> None:
        overlap.enter()
        if overlap.now == 20:
            reached.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("execute")

    async def teardown(store: HookStore) -> None:
        ended.append("teardown")

    hook = Awaits(never, teardown=teardown)
    for _ in range(3):  # a busy machine may try again
        ended.clear()
        reached.clear()
        overlap.now = 0
        report = pipe_of(AsyncIOExecutor(concurrency=20, chunksize=chunksize), 200, hook).start()
        assert reached.wait(LIMIT)
        begun = monotonic()
        report.abort()
        assert report.wait(LIMIT)
        seconds = monotonic() - begun
        assert report.status is RunStatus.ABORTED
        assert Counter(ended) == {"execute": 20, "teardown": 1}
        assert ended[-1] == "teardown"
        assert report.counts["in"] == report.counts["cancelled"]
        if seconds < 0.2:
            return
    raise AssertionError(f"it took {seconds:.2f} s")


def test_cancelling_the_task_that_awaits_the_run_aborts_it() -> None:
    async def never(entries: list[Any], store: HookStore) -> None:
        reached.set()
        await asyncio.Event().wait()

    async def main() -> FlowReport:
        pipe = pipe_of(AsyncIOExecutor(loop=asyncio.get_running_loop()), 5, Awaits(never))
        task = asyncio.ensure_future(pipe.run_async())
        await reached.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        return pipe.report

    reached = asyncio.Event()
    assert asyncio.run(main()).status is RunStatus.ABORTED


def test_a_run_is_stopped_continued_and_complete() -> None:
    reached = threading.Event()

    async def note(entries: list[Any], store: HookStore) -> None:
        reached.set()
        await asyncio.sleep(0)

    pipe = pipe_of(AsyncIOExecutor(chunksize=3), 500, Awaits(note))
    report = pipe.start()
    assert reached.wait(LIMIT)
    report.stop()
    wait_until(lambda: report.status is RunStatus.STOPPED or report.is_finished)
    report.continue_()
    assert report.wait(LIMIT)
    assert (report.status, report.ok) == (RunStatus.COMPLETED, 500)
    assert [entry["position"] for entry in pipe.output_adapter.results] == list(range(500))  # type: ignore[union-attr]


@pytest.mark.parametrize("concurrency", [1, 5])
@pytest.mark.parametrize("chunksize", [1, 10])
def test_calls_that_take_too_long_are_dead_and_all_others_are_not(concurrency: int, chunksize: int) -> None:
    async def wait(entries: list[Any], store: HookStore) -> None:
        if entries[0]["position"] in {3, 4, 17}:
            await asyncio.Event().wait()

    executor = AsyncIOExecutor(concurrency=concurrency, chunksize=chunksize)
    report, ok, errors = run(executor, 30, Awaits(wait), options=RunOptions(record_timeout=0.1))
    assert [(error["position"], str(error["outcome"])) for error in errors] == [(n, "dead") for n in (3, 4, 17)]
    assert [entry["position"] for entry in ok] == [n for n in range(30) if n not in {3, 4, 17}]
    assert report.counts["dead"] == 3


def test_a_timeout_of_the_hook_itself_is_a_failure_like_any_other() -> None:
    async def give_up(entries: list[Any], store: HookStore) -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    report, _, errors = run(AsyncIOExecutor(), 3, Awaits(give_up), options=RunOptions(record_timeout=10))
    assert (report.rejected, report.dead) == (3, 0)
    assert errors[0]["errors"][0]["message"] == "Awaits: TimeoutError"


def test_a_plain_hook_that_takes_too_long_is_dead_and_its_thread_abandoned() -> None:
    free = threading.Event()

    def block(entries: list[Any], store: HookStore) -> None:
        if entries[0]["position"] == 2:
            free.wait(LIMIT)

    executor = AsyncIOExecutor(max_workers=1, chunksize=1)
    try:
        report, _, errors = run(executor, 10, Does(block), Awaits(pass_by), options=RunOptions(record_timeout=0.2))
    finally:
        free.set()
    assert [(error["position"], str(error["outcome"])) for error in errors] == [(2, "dead")]
    assert report.ok == 9


def test_a_hook_that_blocks_the_loop_for_ever_does_not_hang_an_aborted_run(caplog: pytest.LogCaptureFixture) -> None:
    reached, free = threading.Event(), threading.Event()

    async def block(entries: list[Any], store: HookStore) -> None:
        reached.set()
        free.wait(LIMIT)

    report = pipe_of(AsyncIOExecutor(), 5, Awaits(block)).start()
    assert reached.wait(LIMIT)
    begun = monotonic()
    report.abort()
    assert report.wait(LIMIT)
    assert monotonic() - begun < 10
    assert "left behind" in caplog.text
    free.set()


def test_while_calls_overlap_no_record_is_named() -> None:
    reached, free = threading.Event(), asyncio.Event()

    async def wait(entries: list[Any], store: HookStore) -> None:
        reached.set()
        await free.wait()

    with running_loop() as loop:
        executor = AsyncIOExecutor(loop=loop)
        executor.start(WorkerContext(pre_hooks=[Awaits(wait)], concurrency=10))
        future = executor.submit(Chunk(0, 0, 3, ChunkKind.LIST, [{"n": n} for n in range(3)]))
        assert reached.wait(LIMIT)
        progress = executor.progress(future)
        loop.call_soon_threadsafe(free.set)
        assert future.result(LIMIT).ok == 3
        executor.shutdown()
    assert progress is not None
    assert (progress.stage, progress.lo, progress.hi, progress.overlap) == ("pre", 0, 3, True)


@pytest.mark.parametrize("concurrency", [1, 10])
def test_a_chunk_whose_calls_overlap_has_a_time_too(concurrency: int) -> None:
    async def wait(entries: list[Any], store: HookStore) -> None:
        if entries[0]["position"] == 3:
            await asyncio.Event().wait()

    executor = AsyncIOExecutor(concurrency=concurrency)
    report, _, errors = run(executor, 5, Awaits(wait), options=RunOptions(chunk_timeout=0.5))
    # With one turn for all, the chunk of the last record waits for it as long as the one before hangs, and that is its
    # time, too: on a busy machine both are over at one look.
    late = [[3], [3, 4]] if concurrency == 1 else [[3]]
    assert [error["position"] for error in errors] in late
    assert report.ok == 5 - len(errors)
    assert "in stage pre" in errors[0]["errors"][0]["message"]


def test_a_call_that_does_not_let_itself_be_cancelled_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    free = threading.Event()

    async def go_on(entries: list[Any], store: HookStore) -> None:
        while entries[0]["position"] == 3 and not free.is_set():
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    report, _, _ = run(AsyncIOExecutor(), 5, Awaits(go_on), options=RunOptions(chunk_timeout=0.5))
    assert (report.ok, report.dead) == (4, 1)
    assert "left behind" in caplog.text
    free.set()
    wait_until(lambda: not any(thread.name.startswith("asyncio-") for thread in threading.enumerate()))


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_a_setup_that_hangs_does_not_hold_up_an_abort(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    reached, free, torn = threading.Event(), threading.Event(), threading.Event()

    def hang(store: HookStore) -> None:
        reached.set()
        free.wait(LIMIT)

    async def hang_later(store: HookStore) -> None:
        reached.set()
        await asyncio.Event().wait()

    is_plain = kind == "plain"
    hook = (Does if is_plain else Awaits)(
        pass_by, setup=hang if is_plain else hang_later, teardown=lambda store: torn.set()
    )
    report = pipe_of(AsyncIOExecutor(), 5, hook).start()
    assert reached.wait(LIMIT)
    report.abort()
    assert report.wait(5)
    assert report.status is RunStatus.ABORTED
    assert ("left behind" in caplog.text) == is_plain
    free.set()
    wait_until(lambda: not any(thread.name == "asyncio-setup" for thread in threading.enumerate()))
    assert torn.is_set() == is_plain  # what was set up after all


@pytest.mark.parametrize("name", ["asyncio-loop", "asyncio-setup", "asyncio-0"])
def test_a_thread_that_the_system_refuses_fails_the_start(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(WorkerInitError, match="can't start new thread"):
        run(AsyncIOExecutor(), 5, Awaits(pass_by))
