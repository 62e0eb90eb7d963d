"""The threads backend: chunks side by side, each thread a worker, and threads that do not come back."""

import json
import logging
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from manyhands import (
    BaseHook,
    Chunk,
    ChunkKind,
    FlowReport,
    HookStore,
    IterableInputAdapter,
    JSONOutputAdapter,
    MemoryOutputAdapter,
    Pipe,
    RunOptions,
    RunStatus,
    WorkerContext,
    get_executor,
)
from manyhands.config.build import build_pipe
from manyhands.config.load import load_job
from manyhands.errors import ExecutorBroken, OptionsError, ProtocolError, TeardownError, WorkerInitError
from manyhands_sync import SyncFifoExecutor
from manyhands_threads import ThreadExecutor

LIMIT = 20.0
"""Seconds after which something that must happen has not."""


class Row(BaseModel):
    n: int


class Does(BaseHook):
    """Calls functions."""

    def __init__(
        self, execute: Callable[..., Any], setup: Callable[..., Any] = lambda store: None, **other: Any
    ) -> None:
        super().__init__()
        self._execute, self._setup = execute, setup
        self._teardown = other.get("teardown", lambda store: None)

    def setup(self, store: HookStore) -> Any:
        return self._setup(store)

    def execute(self, entries: list[Any], store: HookStore) -> Any:
        return self._execute(entries, store)

    def teardown(self, store: HookStore) -> Any:
        return self._teardown(store)


class Picky(BaseHook):
    """Fails on some records, drops others."""

    def execute(self, entries: list[Any], store: HookStore) -> list[Any]:
        for entry in entries:
            if entry["position"] % 97 == 13:
                raise ValueError(f"no {entry['position']}")
        return [entry for entry in reversed(entries) if entry["position"] % 10]


def keep(entries: list[Any], store: HookStore) -> None:
    pass


def rows(count: int) -> IterableInputAdapter:
    return IterableInputAdapter([{"n": n} for n in range(count)])


def run(executor: Any, count: int, *hooks: BaseHook, **others: Any) -> tuple[FlowReport, list[Any], list[Any]]:
    output, errors = MemoryOutputAdapter(), MemoryOutputAdapter()
    pipe = Pipe(rows(count), output, errors, executor=executor, pre_validation_hooks=hooks, **others)
    return pipe.run(), output.results, errors.results


def chunk(sequence: int, count: int = 1) -> Chunk:
    return Chunk(sequence, sequence * count, count, ChunkKind.LIST, [{"n": n} for n in range(count)])


@contextmanager
def started(executor: ThreadExecutor, *hooks: BaseHook) -> Iterator[ThreadExecutor]:
    executor.start(WorkerContext(pre_hooks=hooks))
    try:
        yield executor
    finally:
        executor.shutdown()


def wait_until(true: Callable[[], object]) -> None:
    end = monotonic() + LIMIT
    while not true():
        assert monotonic() < end, "it never happened"
        sleep(0.001)


# Chosen by name


def test_a_job_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))  # a job looks for modules in its own folder
    (tmp_path / "rows.jsonl").write_text('{"n": 1}\n{"n": 2}\n{"n": 3}\n')
    job = tmp_path / "job.toml"
    job.write_text("""
        [input]
        adapter = "jsonl"
        path = "rows.jsonl"
        [output]
        adapter = "json"
        path = "out.json"
        [executor]
        name = "threads"
        max_workers = 2
        chunksize = 1
    """)
    pipe = build_pipe(job, load_job(job))
    assert (pipe.executor.max_workers, pipe.executor.chunksize) == (2, 1)  # type: ignore[attr-defined]
    report = pipe.run()
    assert (report.executor, report.ok) == ("threads", 3)
    assert json.loads((tmp_path / "out.json").read_text()) == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_what_the_plugin_says_is_what_the_executor_can() -> None:
    (point,) = entry_points(group="manyhands", name="threads")
    (backend,) = point.load().manyhands_backends()
    assert backend.capabilities == ThreadExecutor.capabilities
    assert backend.capabilities.concurrent
    made = get_executor("threads", **backend.options(max_workers=3, chunksize=5).model_dump())
    assert (type(made), made.max_workers, made.chunksize) == (ThreadExecutor, 3, 5)  # type: ignore[attr-defined]


@pytest.mark.parametrize("option", ["max_workers", "chunksize"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2"])
def test_a_wrong_option_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(OptionsError, match=f"{option} must be None or a number from 1"):
        ThreadExecutor(**{option: value})


def test_chunks_are_single_records_only_where_hooks_may_wait() -> None:
    plain, hooked = WorkerContext(), WorkerContext(post_hooks=[Does(keep)])
    assert [ThreadExecutor().chunksize_for(context) for context in (plain, hooked)] == [None, 1]
    assert [ThreadExecutor(chunksize=7).chunksize_for(context) for context in (plain, hooked)] == [7, 7]
    sizes: list[int] = []
    run(ThreadExecutor(max_workers=1), 5, Does(lambda entries, store: sizes.append(len(entries))))
    assert sizes == [1] * 5


# Side by side


def test_as_many_records_are_under_way_as_there_are_threads() -> None:
    meeting, inside, most = threading.Barrier(4), Counter[str](), list[int]()

    def meet(entries: list[Any], store: HookStore) -> None:
        inside["now"] += 1
        meeting.wait(LIMIT)
        most.append(inside["now"])
        meeting.wait(LIMIT)
        inside["now"] -= 1
        meeting.wait(LIMIT)

    report, ok, _ = run(ThreadExecutor(max_workers=4), 16, Does(meet))
    assert report.ok == 16
    assert [entry["position"] for entry in ok] == list(range(16))
    assert set(most) == {4}
    assert len(report.workers) == 4


def test_validators_run_side_by_side_too() -> None:
    meeting = threading.Barrier(3)

    class Slow(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def wait(cls, n: int) -> int:
            meeting.wait(LIMIT)
            return n

    report, _, errors = run(ThreadExecutor(Slow, max_workers=3, chunksize=1), 6)
    assert (report.ok, errors) == (6, [])


def test_each_thread_is_a_worker_with_a_store_of_its_own() -> None:
    meeting = threading.Barrier(3)
    calls, stores = list[tuple[str, int]](), set[int]()

    def note(what: str) -> None:
        calls.append((what, threading.get_ident()))

    def setup(store: HookStore) -> None:
        store["thread"] = threading.get_ident()
        stores.add(id(store))
        note("setup")

    def execute(entries: list[Any], store: HookStore) -> None:
        assert store["thread"] == threading.get_ident()
        meeting.wait(LIMIT)

    hook = Does(execute, setup, teardown=lambda store: note("teardown"))
    report, _, errors = run(ThreadExecutor(max_workers=3), 9, hook)
    assert (report.ok, errors, len(stores)) == (9, [], 3)
    assert Counter(what for what, _ in calls) == {"setup": 3, "teardown": 3}
    assert {ident for what, ident in calls if what == "setup"} == {ident for what, ident in calls if what != "setup"}


def test_jobs_that_never_wait_keep_to_one_thread() -> None:
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        pytest.skip("threads compute side by side here")
    report, ok, _ = run(ThreadExecutor(Row, max_workers=8, chunksize=2), 100)
    assert (len(ok), len(report.workers)) == (100, 1)


@pytest.mark.parametrize("chunksize", [1, 7, 1000])
def test_a_thousand_records_come_out_as_by_sync_byte_for_byte(tmp_path: Path, chunksize: int) -> None:
    def files(executor: Any) -> tuple[dict[str, int], list[bytes]]:
        paths = [tmp_path / f"{executor.name}-{which}.jsonl" for which in ("ok", "errors")]
        source = IterableInputAdapter([{"n": "bad" if n % 31 == 7 else n} for n in range(1000)])
        outputs = map(JSONOutputAdapter, paths)
        report = Pipe(source, *outputs, Row, executor, post_validation_hooks=[Picky()]).run()
        return report.counts, [path.read_bytes() for path in paths]

    counts, written = files(ThreadExecutor(max_workers=4, chunksize=chunksize))
    assert (counts, written) == files(SyncFifoExecutor(chunksize=chunksize))
    assert min(counts[outcome] for outcome in ("ok", "rejected", "dropped")) > 0
    assert counts["in"] == counts["ok"] + counts["rejected"] + counts["dropped"] == 1000


def test_async_hooks_run_on_a_loop_of_each_thread() -> None:
    import asyncio

    class Awaits(BaseHook):
        async def execute(self, entries: list[Any], store: HookStore) -> None:
            await asyncio.sleep(0)
            entries[0]["raw_data"]["n"] += 1

    _, ok, _ = run(ThreadExecutor(max_workers=2), 10, Awaits())
    assert [entry["raw_data"]["n"] for entry in ok] == list(range(1, 11))


# Starting and ending


def test_no_thread_that_can_start_fails_the_run() -> None:
    def setup(store: HookStore) -> None:
        raise RuntimeError("no database")

    with pytest.raises(WorkerInitError, match="setup of hook Does failed: no database"):
        run(ThreadExecutor(max_workers=3), 5, Does(keep, setup))


def test_some_threads_that_cannot_start_are_logged_and_done_without(caplog: pytest.LogCaptureFixture) -> None:
    turn, failed = threading.Lock(), list[int]()

    def setup(store: HookStore) -> None:
        with turn:
            if len(failed) < 2:
                failed.append(1)
                raise RuntimeError("no connection left")

    report, ok, _ = run(ThreadExecutor(max_workers=3), 20, Does(keep, setup))
    assert (report.ok, len(report.workers), len(ok)) == (20, 1, 20)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "no connection left" in caplog.text


def test_the_first_teardown_that_fails_is_told_and_the_others_run() -> None:
    torn: list[int] = []

    def teardown(store: HookStore) -> None:
        torn.append(1)
        raise RuntimeError("disk full")

    with pytest.raises(TeardownError, match="teardown of hook Does failed: disk full"):
        run(ThreadExecutor(max_workers=3), 5, Does(keep, teardown=teardown))
    assert len(torn) == 3


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_chunk_raises_is_in_its_future(error: BaseException) -> None:
    class Raises(ThreadExecutor):
        def process_chunk_on_worker(self, chunk: Any, context: Any) -> Any:  # type: ignore[override]
            raise error

    with started(Raises(max_workers=1)) as executor:
        assert [executor.submit(chunk(n)).exception(LIMIT) for n in range(3)] == [error] * 3


def test_a_chunk_before_the_start_fails_its_future_and_shutdown_may_come_at_any_time() -> None:
    executor = ThreadExecutor()
    assert isinstance(executor.submit(chunk(0)).exception(), ProtocolError)
    assert (executor.progress(executor.submit(chunk(0))), executor.evict(executor.submit(chunk(0)))) == (None, False)
    executor.shutdown()
    executor.shutdown(cancel=True)


def test_one_executor_serves_one_run_after_the_other() -> None:
    executor = ThreadExecutor(Row, max_workers=2)
    assert [run(executor, count, Does(keep))[0].ok for count in (3, 4)] == [3, 4]


def test_a_cancelling_shutdown_runs_nothing_that_had_not_begun() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(entries: list[Any], store: HookStore) -> None:
        begun.set()
        go_on.wait(LIMIT)

    with started(ThreadExecutor(max_workers=1), Does(wait)) as executor:
        futures = [executor.submit(chunk(n)) for n in range(4)]
        assert begun.wait(LIMIT)
        threading.Timer(0.1, go_on.set).start()
        executor.shutdown(cancel=True)
        assert [future.cancelled() for future in futures] == [False, True, True, True]
        assert futures[0].result(LIMIT).ok == 1


def test_a_plain_shutdown_runs_all_that_was_submitted() -> None:
    with started(ThreadExecutor(max_workers=2), Does(keep)) as executor:
        futures = [executor.submit(chunk(n)) for n in range(20)]
    assert [future.result().ok for future in futures] == [1] * 20


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
