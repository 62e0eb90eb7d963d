"""Workers with several threads, how they are interrupted, and calls that take too long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any

import pytest

from manyhands import BaseHook, HookStore
from manyhands.errors import ExecutorBroken, HookError, ProtocolError, RecordTimeout, TeardownError, WorkerInitError
from manyhands.records import Entry
from manyhands.worker.awaiting import Interrupted
from manyhands.worker.cell import ProgressCell, read_progress
from manyhands.worker.context import WorkerContext
from manyhands.worker.pipeline import process_chunk_on_worker
from manyhands.worker.plan import RecordsCancelled

from .workers import Awaits, Does, as_list, positions, refusals, run, working

LIMIT = 20.0


class Steps(BaseHook):
    """Counts its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def setup(self, store: HookStore) -> None:
        store["steps"] = self.calls
        self.calls.append("setup")

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        store["steps"].append("execute")

    def teardown(self, store: HookStore) -> None:
        self.calls.append("teardown")


class Broken:
    """An awaiter whose loop is gone."""

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        coroutine.close()
        raise Interrupted("the loop is gone")

    def interrupt(self, thread: int) -> None:
        pass


async def for_ever(entries: list[Entry], store: HookStore) -> None:
    await asyncio.Event().wait()


def chunk(count: int, start: int = 0) -> Any:
    return as_list([{"a": n} for n in range(count)], start=start)


def begun(context: WorkerContext, count: int) -> Future[Any]:
    """A chunk under way in a thread of its own, in which the context is set up and torn down."""
    future: Future[Any] = Future()

    def work() -> None:
        with working(context):
            try:
                future.set_result(process_chunk_on_worker(chunk(count), context))
            except BaseException as error:  # noqa: BLE001
                future.set_exception(error)

    threading.Thread(target=work).start()
    return future


# Threads that share a worker


def test_threads_of_one_worker_share_hooks_and_store_and_none_of_them_calls_setup() -> None:
    hook = Steps()
    with working(WorkerContext(pre_hooks=[hook])) as context:
        for _ in range(2):
            with working(context.share()) as shared:
                assert positions(process_chunk_on_worker(chunk(2), shared)) == [0, 1]
    assert hook.calls == ["setup", "execute", "execute", "teardown"]


def test_only_a_worker_that_is_set_up_can_be_shared() -> None:
    with pytest.raises(ProtocolError, match="setup"):
        WorkerContext().share()


def test_an_abandoned_thread_begins_no_record_and_its_neighbours_go_on() -> None:
    with working(WorkerContext(pre_hooks=[Steps()])) as context, working(context.share()) as one:
        one.abandon()
        with pytest.raises(RecordsCancelled):
            process_chunk_on_worker(chunk(2), one)
        assert positions(process_chunk_on_worker(chunk(2), context)) == [0, 1]
    plain = WorkerContext()
    with working(plain):
        plain.abandon()
        with pytest.raises(RecordsCancelled):
            process_chunk_on_worker(chunk(2), plain)


@pytest.mark.parametrize("kind", [Awaits, Does])
def test_what_an_abandoned_thread_awaits_is_cancelled(kind: type[Does]) -> None:
    reached = threading.Event()

    async def wait(entries: list[Entry], store: HookStore) -> None:
        reached.set()
        await asyncio.Event().wait()

    context = WorkerContext(pre_hooks=[kind(wait)], concurrency=3)
    future = begun(context, 5)
    assert reached.wait(LIMIT)
    context.abandon()
    assert isinstance(future.exception(LIMIT), RecordsCancelled)


def test_the_calls_of_an_aborted_run_end_before_the_chunk_does() -> None:
    ended: list[int] = []

    async def wait(entries: list[Entry], store: HookStore) -> None:
        if entries[0]["position"] == 2:
            context.cancelled.set()
            return
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(entries[0]["position"])

    with working(WorkerContext(pre_hooks=[Awaits(wait)], concurrency=3)) as context:
        with pytest.raises(RecordsCancelled):  # by the record that may not begin any more
            process_chunk_on_worker(chunk(5), context)
        assert sorted(ended) == [0, 1]


# An awaiter from outside


def test_a_loop_that_is_gone_is_no_failure_of_a_hook() -> None:
    for hook in (Awaits(for_ever), Does(for_ever)):
        context = WorkerContext(pre_hooks=[hook])
        if isinstance(hook, Awaits):
            context.awaiter = Broken()
            with pytest.raises(WorkerInitError, match="setup of hook Awaits failed: the loop is gone"):
                context.setup()
            continue
        context.awaiter = Broken()
        with working(context), pytest.raises(ExecutorBroken, match="the loop is gone"):
            process_chunk_on_worker(chunk(3), context)


def test_a_loop_that_is_gone_at_the_end_is_told() -> None:
    class Later(Steps):
        async def teardown(self, store: HookStore) -> None:  # type: ignore[override]
            raise AssertionError

    context = WorkerContext(pre_hooks=[Later()], awaiter=Broken())
    context.setup()
    with pytest.raises(TeardownError, match="teardown of hook Later failed: the loop is gone"):
        context.teardown()


def test_async_hooks_are_set_up_and_torn_down_on_the_loop_they_run_on() -> None:
    loops: list[int] = []

    class OnLoop(BaseHook):
        def setup(self, store: HookStore) -> None:
            loops.append(id(asyncio.get_running_loop()))

        async def execute(self, entries: list[Entry], store: HookStore) -> None:
            loops.append(id(asyncio.get_running_loop()))

        def teardown(self, store: HookStore) -> None:
            loops.append(id(asyncio.get_running_loop()))

    run(chunk(1), pre_hooks=[OnLoop()])
    assert len(loops) == 3
    assert len(set(loops)) == 1


# Time limits


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("stage", ["pre", "post"])
def test_calls_that_take_too_long_are_named_and_the_others_end_first(concurrency: int, stage: str) -> None:
    ended: list[int] = []

    async def wait(entries: list[Entry], store: HookStore) -> None:
        index = entries[0]["position"] - 100
        if index in {1, 4}:
            await asyncio.Event().wait()
        await asyncio.sleep(0.001)
        ended.append(index)

    job: Any = {f"{stage}_hooks": [Awaits(wait)], "concurrency": concurrency, "record_timeout": 0.05}
    with pytest.raises(RecordTimeout) as caught:
        run(chunk(6, start=100), **job)
    assert (caught.value.records, caught.value.stage) == ([(1, 2), (4, 5)], stage)
    assert sorted(ended) == [0, 2, 3, 5]


def test_waiting_for_a_turn_is_not_counted() -> None:
    async def wait(entries: list[Entry], store: HookStore) -> None:
        await asyncio.sleep(0.03)

    assert positions(run(chunk(10), pre_hooks=[Awaits(wait)], record_timeout=0.2)) == list(range(10))


@pytest.mark.parametrize("swallow", [True, False])
def test_a_call_that_outlasts_its_limit_is_late_whatever_it_makes_of_that(swallow: bool) -> None:
    async def wait(entries: list[Entry], store: HookStore) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not swallow:
                raise HookError("I was told to end") from None

    with pytest.raises(RecordTimeout):
        run(chunk(1), pre_hooks=[Awaits(wait)], record_timeout=0.02)


@pytest.mark.parametrize("count", [1, 4])
def test_what_a_plain_hook_returns_to_be_awaited_has_the_time_of_a_call(count: int) -> None:
    with pytest.raises(RecordTimeout) as caught:
        run(chunk(count, start=100), pre_hooks=[Does(for_ever)], concurrency=3, record_timeout=0.02)
    assert (caught.value.records, caught.value.stage) == ([(0, count)], "pre")


def test_a_timeout_of_the_hook_itself_is_its_failure() -> None:
    async def wait(entries: list[Entry], store: HookStore) -> None:
        async with asyncio.timeout(0.01):
            await asyncio.Event().wait()

    result = run(chunk(2), pre_hooks=[Awaits(wait)], record_timeout=10)
    assert refusals(result) == {n: [("HookError", "Awaits: TimeoutError")] for n in range(2)}


@pytest.mark.parametrize(("concurrency", "named"), [(1, True), (2, False)])
def test_the_cell_names_a_record_only_where_one_is_under_way(concurrency: int, named: bool) -> None:
    words, seen = [0], list[Any]()

    async def look(entries: list[Entry], store: HookStore) -> None:
        seen.append(read_progress(words[0], chunk(3)))

    cell = ProgressCell(words)
    run(chunk(3), pre_hooks=[Awaits(look)], concurrency=concurrency, cell=cell)
    assert [(progress.stage, progress.lo, progress.hi, progress.overlap) for progress in seen] == (
        [("pre", n, n + 1, False) for n in range(3)] if named else [("pre", 0, 3, True)] * 3
    )
