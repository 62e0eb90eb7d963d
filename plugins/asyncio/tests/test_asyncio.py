"""The asyncio backend: one loop, one bound for all async calls, threads for everything else."""

import asyncio
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import entry_points
from pathlib import Path
from time import monotonic, perf_counter, sleep
from types import ModuleType
from typing import Any, Self

import pytest
from pydantic import BaseModel

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
from manyhands.errors import ExecutorBroken, OptionsError, ProtocolError, TeardownError, UsageError, WorkerInitError
from manyhands_asyncio import AsyncIOExecutor
from manyhands_sync import SyncFifoExecutor

LIMIT = 20.0
"""Seconds after which something that must happen has not."""


class Row(BaseModel):
    n: int


class Awaits(BaseHook):
    """Calls a coroutine function for each record."""

    def __init__(self, execute: Callable[..., Any], **steps: Callable[[HookStore], Any]) -> None:
        super().__init__()
        self._execute, self._steps = execute, steps

    def setup(self, store: HookStore) -> Any:
        return self._steps["setup"](store) if "setup" in self._steps else None

    async def execute(self, entries: list[Any], store: HookStore) -> Any:
        return await self._execute(entries, store)

    def teardown(self, store: HookStore) -> Any:
        return self._steps["teardown"](store) if "teardown" in self._steps else None


class Does(Awaits):
    """Calls a function for each batch."""

    def execute(self, entries: list[Any], store: HookStore) -> Any:  # type: ignore[override]
        return self._execute(entries, store)


class Overlap:
    """Counts the calls that overlap; each waits until `wanted` of them have, at least once."""

    def __init__(self, wanted: int) -> None:
        self.now = self.most = 0
        self.wanted = wanted
        self.lock = threading.Lock()

    def enter(self) -> None:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)

    def leave(self) -> None:
        with self.lock:
            self.now -= 1

    async def call(self, entries: list[Any], store: HookStore) -> None:
        self.enter()
        end = monotonic() + LIMIT
        while self.most < self.wanted and monotonic() < end:  # noqa: ASYNC110  # an event would order the calls
            await asyncio.sleep(0)
        for _ in range(5):  # let in whoever may
            await asyncio.sleep(0)
        self.leave()

    def block(self, entries: list[Any], store: HookStore) -> None:
        self.enter()
        end = monotonic() + LIMIT
        while self.most < self.wanted and monotonic() < end:
            sleep(0.001)
        sleep(0.002)
        self.leave()


class Picky(BaseHook):
    """Fails on some records, drops others."""

    async def execute(self, entries: list[Any], store: HookStore) -> list[Any]:
        await asyncio.sleep(0)
        position = entries[0]["position"]
        if position % 97 == 13:
            raise ValueError(f"no {position}")
        entries[0]["metadata"]["seen"] = True
        return entries if position % 10 else []


async def pass_by(entries: list[Any], store: HookStore) -> None:
    await asyncio.sleep(0)


def rows(count: int) -> IterableInputAdapter:
    return IterableInputAdapter([{"n": n} for n in range(count)])


def pipe_of(executor: Any, count: int, *hooks: BaseHook, **others: Any) -> Pipe:
    return Pipe(
        rows(count),
        MemoryOutputAdapter(),
        MemoryOutputAdapter(),
        executor=executor,
        pre_validation_hooks=hooks,
        **others,
    )


def run(executor: Any, count: int, *hooks: BaseHook, **others: Any) -> tuple[FlowReport, list[Any], list[Any]]:
    pipe = pipe_of(executor, count, *hooks, **others)
    return pipe.run(), pipe.output_adapter.results, pipe.error_output_adapter.results  # type: ignore[union-attr]


def wait_until(true: Callable[[], object]) -> None:
    end = monotonic() + LIMIT
    while not true():
        assert monotonic() < end, "it never happened"
        sleep(0.001)


@contextmanager
def running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that somebody else runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


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
        name = "asyncio"
        concurrency = 4
        max_workers = 2
        chunksize = 1
    """)
    pipe = build_pipe(job, load_job(job))
    executor: Any = pipe.executor
    assert (executor.concurrency, executor.max_workers, executor.chunksize) == (4, 2, 1)
    report = pipe.run()
    assert (report.executor, report.ok) == ("asyncio", 3)
    assert json.loads((tmp_path / "out.json").read_text()) == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_what_the_plugin_says_is_what_the_executor_can() -> None:
    (point,) = entry_points(group="manyhands", name="asyncio")
    (backend,) = point.load().manyhands_backends()
    assert backend.capabilities == AsyncIOExecutor.capabilities
    assert backend.capabilities.async_native
    made: Any = get_executor("asyncio", **backend.options(concurrency=3).model_dump())
    assert (type(made), made.concurrency) == (AsyncIOExecutor, 3)


@pytest.mark.parametrize("option", ["max_workers", "chunksize", "concurrency"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2"])
def test_a_wrong_option_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(OptionsError, match=f"{option} must be .*a number from 1"):
        AsyncIOExecutor(**{option: value})


def test_what_is_no_open_loop_is_refused() -> None:
    with pytest.raises(OptionsError, match="loop must be an event loop of asyncio, not str: 'uvloop'"):
        AsyncIOExecutor(loop="uvloop")  # type: ignore[arg-type]
    loop = asyncio.new_event_loop()
    executor = AsyncIOExecutor(loop=loop)
    loop.close()
    with pytest.raises(OptionsError, match="loop is closed"):
        AsyncIOExecutor(loop=loop)
    with pytest.raises(OptionsError, match="loop is closed"):
        run(executor, 1)


# Overlapping calls


class Response:
    async def __aenter__(self) -> Self:
        await asyncio.sleep(0.1)
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    async def json(self) -> dict[str, int]:
        return {"answer": 42}


class ClientSession:
    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    def get(self, url: str) -> Response:
        return Response()


aiohttp = ModuleType("aiohttp")
aiohttp.ClientSession = ClientSession  # type: ignore[attr-defined]


class AsyncAPIEnrichmentHook(BaseHook):
    async def execute(self, entries, store):  # type: ignore[no-untyped-def]
        async with aiohttp.ClientSession() as session:
            for entry in entries:
                async with session.get(f"https://api.example.com/{entry['raw_data']['n']}") as resp:
                    data = await resp.json()
                    entry["raw_data"]["enriched"] = data
        return entries


def test_a_thousand_requests_of_a_tenth_of_a_second_take_little_more_than_one_second() -> None:
    for _ in range(3):  # a busy machine may try again
        begun = perf_counter()
        report, ok, _ = run(AsyncIOExecutor(concurrency=100), 1000, AsyncAPIEnrichmentHook())
        seconds = perf_counter() - begun
        assert report.ok == 1000
        assert all(entry["raw_data"]["enriched"] == {"answer": 42} for entry in ok)
        assert seconds >= 1.0
        if seconds <= 1.6:
            return
    raise AssertionError(f"it took {seconds:.2f} s")


@pytest.mark.parametrize("chunksize", [1, 3, None])
@pytest.mark.parametrize("workers", [1, None])
def test_exactly_so_many_calls_overlap_as_allowed_whatever_the_chunks(
    chunksize: int | None, workers: int | None
) -> None:
    overlap = Overlap(12)
    executor = AsyncIOExecutor(concurrency=12, max_workers=workers, chunksize=chunksize)
    report, _, errors = run(executor, 200, Awaits(overlap.call))
    assert (report.ok, errors) == (200, [])
    assert overlap.most == 12


def test_two_async_hooks_share_the_bound() -> None:
    overlap = Overlap(5)
    run(AsyncIOExecutor(concurrency=5, chunksize=2), 100, Awaits(overlap.call), Awaits(overlap.call))
    assert overlap.most == 5


def test_plain_hooks_run_in_as_many_threads_as_allowed_and_never_on_the_loop() -> None:
    overlap, threads = Overlap(3), set[int]()

    async def note(entries: list[Any], store: HookStore) -> None:
        threads.add(threading.get_ident())

    def block(entries: list[Any], store: HookStore) -> None:
        assert threading.get_ident() not in threads
        overlap.block(entries, store)

    report, _, errors = run(AsyncIOExecutor(max_workers=3, chunksize=1), 60, Awaits(note), Does(block))
    assert (report.ok, errors, len(threads)) == (60, [], 1)
    assert overlap.most == 3


def test_a_plain_hook_that_blocks_holds_up_no_async_call() -> None:
    passed, second = threading.Event(), list[int]()

    def block(entries: list[Any], store: HookStore) -> None:
        if entries[0]["position"] == 0:
            assert passed.wait(LIMIT)

    async def pass_on(entries: list[Any], store: HookStore) -> None:
        second.append(entries[0]["position"])
        if len(second) == 5:
            passed.set()

    report, _, errors = run(AsyncIOExecutor(max_workers=2, chunksize=1), 6, Does(block), Awaits(pass_on))
    assert (report.ok, errors, second[-1]) == (6, [], 0)


def test_plain_hooks_and_async_ones_take_turns() -> None:
    async def double(entries: list[Any], store: HookStore) -> None:
        await asyncio.sleep(0)
        entries[0]["raw_data"]["n"] *= 2

    def add(entries: list[Any], store: HookStore) -> None:
        for entry in entries:
            entry["raw_data"]["n"] += 1

    _, ok, _ = run(AsyncIOExecutor(Row, chunksize=7), 50, Does(add), Awaits(double), Does(add))
    assert [entry["validated_data"]["n"] for entry in ok] == [2 * (n + 1) + 1 for n in range(50)]


def test_a_plain_hook_may_return_what_is_to_be_awaited() -> None:
    _, ok, _ = run(AsyncIOExecutor(), 5, Does(pass_by))
    assert len(ok) == 5


@pytest.mark.parametrize("chunksize", [1, 7, 1000])
def test_a_thousand_records_come_out_as_by_sync_byte_for_byte(tmp_path: Path, chunksize: int) -> None:
    def files(executor: Any) -> tuple[dict[str, int], list[bytes]]:
        paths = [tmp_path / f"{executor.name}-{which}.jsonl" for which in ("ok", "errors")]
        source = IterableInputAdapter([{"n": "bad" if n % 31 == 7 else n} for n in range(1000)])
        outputs = map(JSONOutputAdapter, paths)
        hooks = [Picky(), Does(lambda entries, store: entries[::-1])]
        report = Pipe(source, *outputs, Row, executor, post_validation_hooks=hooks).run()
        return report.counts, [path.read_bytes() for path in paths]

    counts, written = files(AsyncIOExecutor(max_workers=4, chunksize=chunksize))
    assert (counts, written) == files(SyncFifoExecutor(chunksize=chunksize))
    assert min(counts[outcome] for outcome in ("ok", "rejected", "dropped")) > 0
    assert counts["in"] == counts["ok"] + counts["rejected"] + counts["dropped"] == 1000


# One worker, one loop


class Resources(BaseHook):
    """Makes things that belong to a loop, and sees that it is always the same."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.loops: set[int] = set()

    def note(self, what: str) -> None:
        self.calls[what] += 1
        self.loops.add(id(asyncio.get_running_loop()))

    async def setup(self, store: HookStore) -> None:
        self.note("setup")
        store["lock"], store["answer"] = asyncio.Lock(), asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.01, store["answer"].set_result, 42)

    async def execute(self, entries: list[Any], store: HookStore) -> None:
        self.note("execute")
        async with store["lock"]:
            await asyncio.sleep(0)
        entries[0]["raw_data"]["answer"] = await store["answer"]

    async def teardown(self, store: HookStore) -> None:
        self.note("teardown")
        async with store["lock"]:
            assert await store["answer"] == 42


@pytest.mark.parametrize("chunksize", [1, 5])
def test_what_belongs_to_a_loop_works_from_setup_to_teardown_which_run_once(chunksize: int) -> None:
    hook = Resources()
    report, ok, errors = run(AsyncIOExecutor(chunksize=chunksize), 30, hook)
    assert (report.ok, errors) == (30, [])
    assert all(entry["raw_data"]["answer"] == 42 for entry in ok)
    assert hook.calls == {"setup": 1, "execute": 30, "teardown": 1}
    assert len(hook.loops) == 1


def test_a_plain_setup_of_an_async_hook_finds_the_loop_running_too() -> None:
    loops: list[Any] = []
    note = lambda store: loops.append(asyncio.get_running_loop())  # noqa: E731

    async def execute(entries: list[Any], store: HookStore) -> None:
        note(store)

    run(AsyncIOExecutor(), 1, Awaits(execute, setup=note, teardown=note))
    assert len(loops) == 3
    assert len(set(map(id, loops))) == 1


def test_a_failing_setup_and_a_failing_teardown_are_told() -> None:
    async def fail(store: HookStore) -> None:
        raise RuntimeError("no session")

    with pytest.raises(WorkerInitError, match="setup of hook Awaits failed: no session"):
        run(AsyncIOExecutor(), 3, Awaits(pass_by, setup=fail))
    with pytest.raises(TeardownError, match="teardown of hook Awaits failed: no session"):
        run(AsyncIOExecutor(), 3, Awaits(pass_by, teardown=fail))


def test_one_executor_serves_one_run_after_the_other() -> None:
    executor = AsyncIOExecutor(Row)
    assert [run(executor, count, Awaits(pass_by))[0].ok for count in (3, 4)] == [3, 4]


def test_a_chunk_before_the_start_fails_its_future_and_shutdown_may_come_at_any_time() -> None:
    executor = AsyncIOExecutor()
    future = executor.submit(Chunk(0, 0, 1, ChunkKind.LIST, [{}]))
    assert isinstance(future.exception(), ProtocolError)
    assert (executor.progress(future), executor.evict(future), executor.slots()) == (None, False, 1)
    executor.shutdown()
    executor.shutdown(cancel=True)


# Loops of others


def test_a_running_loop_is_used_and_left_running() -> None:
    with running_loop() as loop:
        hook = Resources()
        assert run(AsyncIOExecutor(loop=loop), 20, hook)[0].ok == 20
        assert hook.loops == {id(loop)}
        assert loop.is_running()


def test_a_pipe_runs_on_the_loop_of_whoever_awaits_it() -> None:
    hook = Resources()

    async def main() -> FlowReport:
        ticks = 0
        task = asyncio.ensure_future(pipe_of(AsyncIOExecutor(loop=asyncio.get_running_loop()), 50, hook).run_async())
        while not task.done():
            ticks += 1
            await asyncio.sleep(0.001)
        assert ticks > 3
        assert hook.loops == {id(asyncio.get_running_loop())}
        return await task

    assert asyncio.run(main()).ok == 50


def test_a_loop_that_does_not_run_is_run_and_left_open() -> None:
    loop = asyncio.new_event_loop()
    try:
        hook = Resources()
        executor = AsyncIOExecutor(loop=loop)
        assert [run(executor, count, hook)[0].ok for count in (20, 3)] == [20, 3]
        assert hook.loops == {id(loop)}
        assert not loop.is_running()
        assert loop.run_until_complete(asyncio.sleep(0, 7)) == 7
    finally:
        loop.close()


@pytest.mark.parametrize("wait", [lambda pipe: pipe.run(), lambda pipe: next(pipe.stream())], ids=["run", "stream"])
def test_waiting_on_the_loop_that_must_run_is_refused_with_the_remedy(wait: Callable[[Pipe], Any]) -> None:
    async def main() -> None:
        wait(pipe_of(AsyncIOExecutor(loop=asyncio.get_running_loop()), 5, Awaits(pass_by)))

    with pytest.raises(UsageError, match=r"use `await pipe.run_async\(\)`"):
        asyncio.run(main())


def test_a_loop_of_its_own_does_not_mind_where_it_is_waited_for() -> None:
    async def main() -> FlowReport:
        return pipe_of(AsyncIOExecutor(), 5, Awaits(pass_by)).run()

    assert asyncio.run(main()).ok == 5


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_loop_that_is_stopped_midway_breaks_the_executor(concurrency: int) -> None:
    reached = threading.Event()

    async def never(entries: list[Any], store: HookStore) -> None:
        reached.set()
        await asyncio.Event().wait()

    with running_loop() as loop:
        report = pipe_of(AsyncIOExecutor(concurrency=concurrency, loop=loop, chunksize=1), 5, Awaits(never)).start()
        assert reached.wait(LIMIT)
        loop.call_soon_threadsafe(loop.stop)
        assert report.wait(LIMIT)
        assert report.status is RunStatus.FAILED
        assert isinstance(report.exception, ExecutorBroken)
        assert "the event loop was stopped" in str(report.exception)
        loop_again = threading.Thread(target=loop.run_until_complete, args=(_settled(),))
        loop_again.start()  # what was interrupted ends, where its owner runs the loop once more
        loop_again.join()


async def _settled() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def test_a_loop_that_is_closed_midway_breaks_the_executor() -> None:
    reached, free = threading.Event(), threading.Event()

    def block(entries: list[Any], store: HookStore) -> None:
        reached.set()
        free.wait(LIMIT)

    with running_loop() as loop:
        report = pipe_of(AsyncIOExecutor(loop=loop, max_workers=1), 5, Does(block), Awaits(pass_by)).start()
        assert reached.wait(LIMIT)
    free.set()
    assert report.wait(LIMIT)
    assert isinstance(report.exception, ExecutorBroken)
    assert "the event loop is closed" in str(report.exception)


def test_calls_that_the_owner_of_the_loop_cancels_break_the_executor() -> None:
    reached = threading.Event()

    async def never(entries: list[Any], store: HookStore) -> None:
        reached.set()
        await asyncio.Event().wait()

    async def main() -> FlowReport:
        report = pipe_of(AsyncIOExecutor(loop=asyncio.get_running_loop()), 5, Awaits(never)).start()
        while not reached.is_set():  # noqa: ASYNC110  # the pipe is not to be waited for
            await asyncio.sleep(0.001)
        return report

    report = asyncio.run(main())  # which cancels whatever is left on its loop
    assert report.wait(LIMIT)
    assert isinstance(report.exception, ExecutorBroken | TeardownError)


# Stopped, aborted, late


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
