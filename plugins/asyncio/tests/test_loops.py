"""The one loop of a worker: its own, or one that somebody else made, runs, stops or closes."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from manyhands import BaseHook, Chunk, ChunkKind, FlowReport, HookStore, Pipe, RunStatus
from manyhands.errors import ExecutorBroken, ProtocolError, TeardownError, UsageError, WorkerInitError
from manyhands_asyncio import AsyncIOExecutor

from .support import LIMIT, Awaits, Does, Row, pass_by, pipe_of, run, running_loop

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
