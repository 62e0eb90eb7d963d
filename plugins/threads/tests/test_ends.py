"""Threads that do not come back, runs that are stopped or aborted, and threads that the system refuses."""

import threading
from collections import Counter
from time import monotonic
from typing import Any

import pytest
from core.tests.support import wait_until

from manyhands import BaseHook, HookStore, MemoryOutputAdapter, Pipe, RunOptions, RunStatus, WorkerContext
from manyhands.errors import ExecutorBroken, WorkerInitError
from manyhands_threads import ThreadExecutor

from .support import LIMIT, Does, chunk, keep, rows, run, started

# Threads that do not come back


class Stuck(BaseHook):
    """Does not come back from some records until it is let go; counts all calls."""

    def __init__(self, *stuck: int) -> None:
        super().__init__()
        self.stuck = stuck
        self.reached, self.free = threading.Event(), threading.Event()
        self.calls: list[Any] = []

    def setup(self, store: HookStore) -> None:
        self.calls.append("setup")

    def execute(self, entries: list[Any], store: HookStore) -> None:
        for entry in entries:
            self.calls.append(entry["position"])
            if entry["position"] in self.stuck:
                self.reached.set()
                self.free.wait(LIMIT)

    def teardown(self, store: HookStore) -> None:
        self.calls.append("teardown")


def test_an_evicted_thread_begins_no_further_record_and_another_takes_its_place() -> None:
    hook = Stuck(1)
    executor = ThreadExecutor(max_workers=1)
    executor.start(WorkerContext(pre_hooks=[hook], max_hook_chunk_size=1))
    slots = executor.slots()
    first, second = executor.submit(chunk(0, 4)), executor.submit(chunk(1, 4))
    assert hook.reached.wait(LIMIT)
    progress = executor.progress(first)
    assert progress is not None
    assert (progress.stage, progress.lo, progress.hi) == ("pre", 1, 2)
    assert executor.progress(second) is None
    assert executor.evict(first) is False
    assert executor.slots() == slots + 1
    assert second.result(LIMIT).ok == 4
    assert (first.done(), executor.progress(first)) == (False, None)
    hook.free.set()
    executor.shutdown()
    assert first.exception(0) is not None
    assert Counter(hook.calls) == {0: 1, 1: 1, 4: 1, 5: 1, 6: 1, 7: 1, "setup": 2, "teardown": 2}


def test_a_chunk_that_has_ended_cannot_be_evicted() -> None:
    with started(ThreadExecutor(max_workers=1), Does(keep)) as executor:
        slots, future = executor.slots(), executor.submit(chunk(0))
        assert future.result(LIMIT).ok == 1
        assert (executor.evict(future), executor.slots(), executor.progress(future)) == (False, slots, None)
        assert executor.submit(chunk(1)).result(LIMIT).ok == 1


def test_a_thread_that_never_ends_is_left_behind_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    hook = Stuck(0)
    executor = ThreadExecutor(max_workers=1)
    executor.start(WorkerContext(pre_hooks=[hook]))
    executor.submit(chunk(0))
    assert hook.reached.wait(LIMIT)
    begun = monotonic()
    executor.shutdown(cancel=True)
    assert monotonic() - begun < 5
    assert "is left behind" in caplog.text
    assert "teardown" not in hook.calls
    hook.free.set()
    wait_until(lambda: hook.calls.count("teardown") == 1)


def test_a_substitute_that_cannot_start_leaves_no_chunk_waiting() -> None:
    hook = Stuck(0)
    executor = ThreadExecutor(max_workers=1)
    executor.start(WorkerContext(pre_hooks=[hook]))
    futures = [executor.submit(chunk(n)) for n in range(3)]
    assert hook.reached.wait(LIMIT)

    def refuse(store: HookStore) -> None:
        raise RuntimeError("not again")

    hook.setup = refuse  # type: ignore[method-assign]
    executor.evict(futures[0])
    for future in (*futures[1:], executor.submit(chunk(3))):
        assert isinstance(error := future.exception(LIMIT), ExecutorBroken)
        assert "not again" in str(error)
    hook.free.set()
    executor.shutdown(cancel=True)


def test_a_record_that_takes_too_long_is_dead_and_all_others_are_not() -> None:
    hook = Stuck(5)
    try:
        report, ok, errors = run(
            ThreadExecutor(max_workers=2, chunksize=4),
            20,
            hook,
            max_hook_chunk_size=1,
            options=RunOptions(record_timeout=0.2),
        )
    finally:
        hook.free.set()
    assert [(error["position"], str(error["outcome"])) for error in errors] == [(5, "dead")]
    assert [entry["position"] for entry in ok] == [n for n in range(20) if n != 5]
    assert report.counts["dead"] == 1
    assert hook.calls.count(5) == 1
    wait_until(lambda: hook.calls.count("teardown") == hook.calls.count("setup"))


# Stopped, continued, aborted


def test_a_run_is_stopped_continued_and_complete() -> None:
    reached = threading.Event()
    executor, output = ThreadExecutor(max_workers=3), MemoryOutputAdapter()
    pipe = Pipe(rows(500), output, executor=executor, pre_validation_hooks=[Does(lambda entries, store: reached.set())])
    report = pipe.start()
    assert reached.wait(LIMIT)
    report.stop()
    wait_until(lambda: report.status is RunStatus.STOPPED or report.is_finished)
    report.continue_()
    assert report.wait(LIMIT)
    assert (report.status, report.ok) == (RunStatus.COMPLETED, 500)
    assert [entry["position"] for entry in output.results] == list(range(500))


@pytest.mark.parametrize("chunksize", [1, 100])
def test_an_aborted_run_ends_with_the_records_under_way_and_accounts_for_all(chunksize: int) -> None:
    reached, free = threading.Event(), threading.Event()

    def wait(entries: list[Any], store: HookStore) -> None:
        reached.set()
        free.wait(LIMIT)

    pipe = Pipe(
        rows(500), executor=ThreadExecutor(max_workers=3, chunksize=chunksize), pre_validation_hooks=[Does(wait)]
    )
    report = pipe.start()
    assert reached.wait(LIMIT)
    report.abort()
    free.set()
    assert report.wait(LIMIT)
    assert report.status is RunStatus.ABORTED
    assert report.counts["in"] == sum(report.counts.values()) - report.counts["in"]


def test_an_aborted_run_does_not_wait_for_what_async_hooks_wait_for() -> None:
    import asyncio

    reached, ended = threading.Event(), list[str]()

    class Awaits(BaseHook):
        async def execute(self, entries: list[Any], store: HookStore) -> None:
            reached.set()
            try:
                await asyncio.sleep(60)
            finally:
                ended.append("execute")

        async def teardown(self, store: HookStore) -> None:
            ended.append("teardown")

    pipe = Pipe(rows(5), executor=ThreadExecutor(max_workers=2), pre_validation_hooks=[Awaits()])
    report = pipe.start()
    assert reached.wait(LIMIT)
    begun = monotonic()
    report.abort()
    assert report.wait(LIMIT)
    assert monotonic() - begun < 5
    assert report.status is RunStatus.ABORTED
    assert ended[-1] == "teardown"
    assert "execute" in ended


def test_a_setup_that_hangs_does_not_hold_up_an_abort() -> None:
    reached, free = threading.Event(), threading.Event()

    def hang(store: HookStore) -> None:
        reached.set()
        free.wait(LIMIT)

    report = Pipe(
        rows(5), executor=ThreadExecutor(max_workers=2), pre_validation_hooks=[Does(keep, setup=hang)]
    ).start()
    assert reached.wait(LIMIT)
    report.abort()
    assert report.wait(5)
    assert report.status is RunStatus.ABORTED
    free.set()


def test_a_thread_that_never_gets_ready_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    turn, begun, torn, free = threading.Lock(), list[int](), list[int](), threading.Event()

    def hang(store: HookStore) -> None:
        with turn:
            begun.append(1)
            first = len(begun) == 1
        if not first:
            free.wait(LIMIT)

    hook = Does(keep, setup=hang, teardown=lambda store: torn.append(1))
    report, ok, _ = run(ThreadExecutor(max_workers=2), 5, hook)
    assert (report.ok, len(ok), torn) == (5, 5, [1])
    assert "left behind" in caplog.text
    free.set()
    wait_until(lambda: len(torn) == 2)


# Threads that the system refuses


def refuse_threads(monkeypatch: pytest.MonkeyPatch, allowed: int) -> None:
    """Of the executor's threads only so many start."""
    start, left = threading.Thread.start, [None] * allowed

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("threads-"):
            if not left:
                raise RuntimeError("can't start new thread")
            left.pop()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)


def test_a_run_goes_on_with_the_threads_that_it_gets(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refuse_threads(monkeypatch, 3)
    report, ok, _ = run(ThreadExecutor(max_workers=6), 20, Does(keep))
    assert (report.ok, len(ok)) == (20, 20)
    assert caplog.text.count("can't start new thread") == 3


def test_without_any_thread_the_run_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_threads(monkeypatch, 0)
    with pytest.raises(WorkerInitError, match="can't start new thread"):
        run(ThreadExecutor(max_workers=3), 5, Does(keep))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_substitute_that_the_system_refuses_is_done_without(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = Stuck(0)
    refuse_threads(monkeypatch, threads)
    executor = ThreadExecutor(max_workers=threads)
    executor.start(WorkerContext(pre_hooks=[hook]))
    first, second = executor.submit(chunk(0)), executor.submit(chunk(1))
    assert hook.reached.wait(LIMIT)
    wait_until(lambda: executor.progress(first))
    assert executor.evict(first) is False
    if threads == 1:
        assert isinstance(second.exception(LIMIT), ExecutorBroken)
    else:
        assert second.result(LIMIT).ok == 1
    hook.free.set()
    executor.shutdown(cancel=True)


def test_no_end_of_stuck_threads_ends_the_run() -> None:
    hook = Stuck(*range(100))
    try:
        with pytest.raises(ExecutorBroken, match="17 threads are stuck in code that does not come back"):
            run(ThreadExecutor(max_workers=2), 100, hook, options=RunOptions(record_timeout=0.02))
    finally:
        hook.free.set()
    wait_until(lambda: not any(thread.name.startswith("threads-") for thread in threading.enumerate()))
