"""Function maps when something goes wrong around them: deaths, ^C, dropped iterators, closed pools, many at once."""

from __future__ import annotations

import gc
import os
import signal
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count, islice
from typing import Any

import pytest

from manyhands import IterableInputAdapter, Pipe, Pool, get_executor
from manyhands.chunks import Chunk
from manyhands.driver.maprun import Order
from manyhands.errors import ExecutorBroken, RunAborted, UsageError, WorkerLost

from . import support
from .support import LIMIT, Killed, ScriptedExecutor, rows, seeded, wait_until


class Death(Killed):
    """Takes the worker down, although calls may raise anything."""


class Deadly:
    """Kills its worker for some numbers, always or the first time."""

    def __init__(self, *always: int, once: int | None = None) -> None:
        self.always, self.once = always, once
        self.calls: Counter[int] = Counter()

    def __call__(self, number: int) -> int:
        self.calls[number] += 1
        if number in self.always or (number == self.once and self.calls[number] == 1):
            raise Death
        return -number


def outcomes(results: Iterator[Any]) -> list[Any]:
    found: list[Any] = []
    while True:
        try:
            found.append(next(results))
        except StopIteration:
            return found
        except Exception as error:  # noqa: BLE001  # they are what is looked at
            found.append(error)


@pytest.mark.parametrize("progress", [True, False])
@pytest.mark.parametrize("chunksize", [None, 1, 4, 100])
def test_only_the_call_that_kills_is_lost(chunksize: int | None, *, progress: bool) -> None:
    deadly = Deadly(3, 17)
    with Pool(executor=ScriptedExecutor(progress=progress)) as pool:
        found = outcomes(pool.imap(deadly, range(20), chunksize=chunksize))
        lost = {place: error for place, error in enumerate(found) if isinstance(error, WorkerLost)}
        assert set(lost) == {3, 17}
        assert [-number for number in range(20) if number not in lost] == [each for each in found if type(each) is int]
        assert lost[3].__notes__ == ["call 3 of the map (counted from 0) killed its worker"]
        assert lost[17].signal == signal.SIGKILL
        assert pool.map(abs, [-1]) == [1], "the pool goes on"


def test_a_call_that_kills_once_is_made_again() -> None:
    deadly = Deadly(once=5)
    with Pool(executor=ScriptedExecutor()) as pool:
        assert pool.map(deadly, range(10), chunksize=4) == [-number for number in range(10)]
    assert deadly.calls[5] == 2


def test_a_map_raises_the_loss_in_its_place() -> None:
    with Pool(executor=ScriptedExecutor()) as pool, pytest.raises(WorkerLost, match="SIGKILL") as caught:
        pool.map(Deadly(2), range(5), chunksize=5)
    assert caught.value.__notes__ == ["call 2 of the map (counted from 0) killed its worker"]


def test_a_backend_that_fails_without_a_death_fails_the_calls_it_failed_on() -> None:
    script: Callable[[Chunk, int], str] = lambda chunk, _: "raise" if chunk.lo <= 2 < chunk.hi else "run"  # noqa: E731
    with Pool(executor=ScriptedExecutor(script)) as pool:
        found = outcomes(pool.imap(abs, range(5), chunksize=5))
    assert [found[0], found[1], found[3], found[4]] == [0, 1, 3, 4]
    assert isinstance(found[2], RuntimeError)
    assert found[2].__notes__ == ["call 2 of the map (counted from 0) could not be made"]


def test_a_broken_backend_ends_the_map() -> None:
    with Pool(executor=ScriptedExecutor(lambda *_: "break")) as pool:
        results = pool.imap(abs, range(5))
        with pytest.raises(ExecutorBroken, match="no worker can start"):
            next(results)
        assert list(results) == []


@pytest.mark.parametrize("remote", [True, False])
def test_an_iterator_left_half_way_harms_no_other(*, remote: bool) -> None:
    executor = ScriptedExecutor(seeded(1, "lose", "return"), remote=remote)
    with Pool(executor=executor) as pool:
        for _ in range(20):
            assert list(islice(pool.imap(abs, count(), chunksize=2), 3)) == [0, 1, 2]
            dropped = pool.unordered_imap(abs, count())
            next(dropped)
            dropped.close()
            assert list(dropped) == []
            assert pool.map(str, range(10), chunksize=3) == list(map(str, range(10)))


def test_an_iterator_left_half_way_lets_go_of_everything() -> None:
    class Thing:
        pass

    things = [Thing() for _ in range(8)]
    known = [weakref.ref(thing) for thing in things]
    with Pool(executor=ScriptedExecutor()) as pool:
        results = pool.imap(lambda thing: thing, iter(things), chunksize=1)
        next(results)
        del results, things

        def is_gone() -> bool:
            pool.map(abs, range(8), chunksize=1)  # a worker keeps its last chunk until it has another one
            gc.collect()
            return not any(ref() for ref in known)

        wait_until(is_gone)


def test_iterators_open_at_the_same_time_take_turns() -> None:
    with Pool(executor=ScriptedExecutor(seeded(3, "lose"))) as pool:
        up, down = pool.imap(abs, count(), chunksize=1), pool.imap(lambda number: -number, count(), chunksize=3)
        assert list(islice(zip(up, down, strict=True), 50)) == [(number, -number) for number in range(50)]
        chained = pool.imap(str, pool.imap(abs, range(-20, 0), chunksize=2), chunksize=3)
        assert list(chained) == [str(number) for number in range(20, 0, -1)]


def test_calls_left_under_way_keep_no_other_map_from_its_workers() -> None:
    hold = threading.Event()
    executor = ScriptedExecutor(slots=2)
    with Pool(executor=executor) as pool, ThreadPoolExecutor(3) as threads:
        stuck = [pool.imap(lambda _: hold.wait(LIMIT), range(9), chunksize=1) for _ in range(2)]
        waiting = [threads.submit(next, each) for each in stuck]
        wait_until(lambda: len(executor.submitted) >= 2)
        before = len(executor.submitted)
        beside = threads.submit(pool.map, abs, range(4), chunksize=1)
        wait_until(lambda: len(executor.submitted) > before)  # one at least: it is served when a worker is free
        hold.set()
        assert beside.result(LIMIT) == [0, 1, 2, 3]
        assert [each.result(LIMIT) for each in waiting] == [True, True]
        del stuck
        assert pool.map(abs, range(4)) == [0, 1, 2, 3]


@pytest.mark.parametrize("make", [lambda: get_executor("sync"), lambda: ScriptedExecutor(seeded(2, "lose", "return"))])
def test_several_threads_may_map_at_once(make: Callable[[], Any]) -> None:
    def work(thread: int) -> bool:
        numbers = range(thread * 100, thread * 100 + 50)
        wanted = [number + 1 for number in numbers]
        add_one: Callable[[int], int] = lambda number: number + 1  # noqa: E731
        return pool.map(add_one, numbers, chunksize=3) == wanted == list(pool.imap(add_one, numbers))

    with Pool(executor=make()) as pool, ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, range(16))) == [True] * 16


def test_a_call_may_map_in_its_turn_where_it_runs_in_this_process() -> None:
    with Pool(executor="sync") as pool:
        assert pool.map(lambda number: sum(pool.map(abs, range(number))), range(4)) == [0, 0, 1, 3]


def test_an_interrupt_in_a_call_of_this_thread_drops_the_map_and_not_the_pool() -> None:
    def interrupted(number: int) -> int:
        if number == 2:
            signal.raise_signal(signal.SIGINT)
        return number

    with Pool(executor="sync") as pool:
        with pytest.raises(KeyboardInterrupt):
            pool.map(interrupted, range(5))
        assert pool.map(abs, [-1]) == [1]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="there is no signal to a thread")
def test_an_interrupt_while_waiting_drops_the_map_and_not_the_pool() -> None:
    caller, released = threading.get_ident(), threading.Event()

    def gate(chunk: Chunk) -> None:
        if chunk.start == 1:
            signal.pthread_kill(caller, signal.SIGINT)
            assert released.wait(LIMIT)

    with Pool(executor=ScriptedExecutor(gate=gate)) as pool:
        with pytest.raises(KeyboardInterrupt):
            pool.map(abs, range(5), chunksize=1)
        released.set()
        assert pool.map(abs, [-1]) == [1]


class Interrupting(Future[Any]):
    """Where a method of it has its lock, the interrupt comes."""

    number = signal.SIGINT

    def add_done_callback(self, fn: Callable[[Future[Any]], object]) -> None:
        # Condition.__enter__ as an interrupt leaves it: the lock is taken, and nobody is going to release it
        self._condition.acquire()
        signal.raise_signal(self.number)
        self._condition.release()
        super().add_done_callback(fn)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_while_a_lock_of_a_future_is_held(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    previous = signal.signal(number, signal.default_int_handler)
    try:
        with Pool(executor=ScriptedExecutor()) as pool:
            with monkeypatch.context() as patch:
                patch.setattr(Interrupting, "number", number)
                patch.setattr(support, "Future", Interrupting)
                with pytest.raises(KeyboardInterrupt):
                    pool.map(abs, range(5), chunksize=1)
            assert signal.getsignal(number) is signal.default_int_handler
            with ThreadPoolExecutor(1) as thread:
                assert thread.submit(pool.map, abs, [-1]).result(LIMIT) == [1]
    finally:
        signal.signal(number, previous)


def test_a_handler_set_by_the_iterable_stays() -> None:
    seen = list[int]()
    handler: Callable[..., None] = lambda number, _: seen.append(number)  # noqa: E731
    previous = signal.getsignal(signal.SIGINT)

    def source() -> Iterator[int]:
        signal.signal(signal.SIGINT, handler)
        yield 1
        signal.raise_signal(signal.SIGINT)

    try:
        with Pool(executor=ScriptedExecutor()) as pool:
            assert pool.map(abs, source(), chunksize=1) == [1]
        assert signal.getsignal(signal.SIGINT) is handler
        assert seen == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, previous)


def test_an_interrupt_in_the_iterable_is_not_held_back() -> None:
    def source() -> Iterator[int]:
        yield 1
        signal.raise_signal(signal.SIGINT)
        reached.append(True)

    reached = list[bool]()
    with Pool(executor=ScriptedExecutor()) as pool:
        with pytest.raises(KeyboardInterrupt):
            pool.map(abs, source(), chunksize=1)
        assert reached == []
        assert pool.map(abs, [-1]) == [1]


def test_a_map_that_is_given_up_ends_behind_its_first_failure() -> None:
    def even(number: int) -> int:
        if number % 2:
            raise ValueError(number)
        return number

    with Pool(executor=ScriptedExecutor()) as pool:
        batches = list(pool._run(Order(even, count(), 1, ordered=True, eager=True)))
    assert batches[0] == ([0], {})
    assert any(failures for _, failures in batches)


class Hesitant(ScriptedExecutor):
    """Is interrupted a number of times as it ends."""

    interrupts = 1
    asked: tuple[bool, ...] = ()

    def shutdown(self, *, cancel: bool = False) -> None:
        self.asked = (*self.asked, cancel)
        if self.interrupts:
            self.interrupts -= 1
            raise KeyboardInterrupt
        super().shutdown(cancel=cancel)


def test_an_interrupt_while_closing_ends_the_workers_at_once() -> None:
    executor = Hesitant()
    pool = Pool(executor=executor)
    pool.map(abs, [1])
    with pytest.raises(KeyboardInterrupt):
        pool.close()
    pool.terminate()
    assert (executor.asked, executor._threads) == ((False, True), [])


@pytest.mark.parametrize("end", [Pool.close, Pool.terminate])
def test_a_pool_whose_end_was_interrupted_can_be_terminated(end: Callable[[Pool], None]) -> None:
    executor = Hesitant()
    executor.interrupts = 2 if end is Pool.close else 1
    pool = Pool(executor=executor)
    pool.map(abs, [1])
    with pytest.raises(KeyboardInterrupt):
        end(pool)
    with pytest.raises(UsageError, match="is closed"):
        pool.map(abs, [1])
    assert executor._threads
    pool.terminate()
    pool.terminate()
    assert (executor.shutdowns, executor._threads) == (1, [])


def test_a_signal_may_close_a_pool_that_is_about_to_start() -> None:
    class Signalled(ScriptedExecutor):
        def start(self, context: Any) -> None:
            super().start(context)
            pool.terminate()  # as a handler would, in this very thread

    executor = Signalled()
    pool = Pool(executor=executor)
    with pytest.raises(UsageError, match="is closed"):
        pool.map(abs, [1])
    assert (executor.shutdowns, executor._threads) == (1, [])


def test_a_call_that_maps_by_its_own_pool_is_refused_where_it_could_wait_for_itself() -> None:
    other: Pool = Pool(executor=ScriptedExecutor())
    with Pool(executor=ScriptedExecutor()) as pool, other, Pool(executor="sync") as inline:
        with pytest.raises(UsageError, match="may not map by the pool that makes it"):
            pool.map(lambda number: pool.map(abs, [number]), range(4))
        with pytest.raises(UsageError, match="may not map by the pool that makes it"):
            pool.map(lambda _: inline.map(lambda number: pool.map(abs, [number]), [1]), range(4))
        assert pool.map(lambda number: other.map(abs, [number]), range(3)) == [[0], [1], [2]]
        assert inline.map(lambda number: pool.map(abs, [number]), range(3)) == [[0], [1], [2]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_of_the_program_is_told_that_the_pool_is_not_its_own() -> None:
    with Pool(executor=ScriptedExecutor()) as pool:
        results = pool.imap(abs, count(), chunksize=1)
        assert next(results) == 0
        child = os.fork()
        if not child:
            status = 1
            try:
                for attempt in (lambda: pool.map(abs, [1]), lambda: list(results)):
                    try:
                        attempt()
                    except UsageError as error:
                        status += f"belong to process {os.getppid()}" in str(error)
                pool.close()
                pool.terminate()
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        assert next(results) == 1
        assert pool.map(abs, [-1]) == [1]


def test_workers_start_with_the_pool_or_the_first_map_and_end_once() -> None:
    executor = ScriptedExecutor()
    pool = Pool(executor=executor)
    assert executor._threads == []
    assert pool.map(abs, [-1]) == [1]
    pool.close()
    pool.close()
    pool.terminate()
    assert executor.shutdowns == 1
    with Pool(executor=executor):
        assert len(executor._threads) == 2


@pytest.mark.parametrize("end", [Pool.close, Pool.terminate])
def test_a_closed_pool_maps_no_more(end: Callable[[Pool], None]) -> None:
    pool = Pool(executor=ScriptedExecutor())
    begun, fresh = pool.imap(abs, count(), chunksize=1), pool.imap(abs, count())
    assert next(begun) == 0
    end(pool)
    for refused in (pool.map, pool.imap, pool.star().unordered_map):
        with pytest.raises(UsageError, match="this pool is closed"):
            refused(abs, [1])
    with pytest.raises(UsageError, match="this pool is closed"):
        pool.__enter__()
    for results in (begun, fresh):
        with pytest.raises(RunAborted, match="the pool was closed before this map was through"):
            list(results)


@pytest.mark.parametrize("end", [Pool.close, Pool.terminate])
def test_a_pool_never_used_can_be_closed(end: Callable[[Pool], None]) -> None:
    executor = ScriptedExecutor()
    end(Pool(executor=executor))
    assert executor.shutdowns == 0


def test_terminating_ends_a_map_that_waits_in_another_thread() -> None:
    running, hold = threading.Event(), threading.Event()

    def stay(_: int) -> bool:
        running.set()
        return hold.wait(LIMIT)

    pool = Pool(executor=ScriptedExecutor(slots=1))
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(pool.map, stay, range(100), chunksize=1)
        assert running.wait(LIMIT)
        ending = threading.Thread(target=pool.terminate)
        ending.start()
        with pytest.raises(RunAborted):
            waiting.result(LIMIT)
        hold.set()
        ending.join(LIMIT)
        assert not ending.is_alive()


def test_terminating_lets_no_further_call_of_a_chunk_begin() -> None:
    running, hold, calls = threading.Event(), threading.Event(), list[int]()

    def stay(number: int) -> None:
        calls.append(number)
        if number == 3:
            running.set()
            assert hold.wait(LIMIT)

    pool = Pool(executor=ScriptedExecutor(slots=1))
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(pool.map, stay, range(100_000), chunksize=100_000)
        assert running.wait(LIMIT)
        ending = threading.Thread(target=pool.terminate)
        ending.start()
        with pytest.raises(RunAborted):
            waiting.result(LIMIT)
        hold.set()
        ending.join(LIMIT)
    assert len(calls) < 10


def test_leaving_by_an_exception_terminates() -> None:
    executor = ScriptedExecutor()
    with pytest.raises(ZeroDivisionError), Pool(executor=executor) as pool:
        pool.map(lambda number: 1 / number, [0])
    assert (executor.shutdowns, executor._cancelled) == (1, True)


def test_a_forgotten_pool_ends_its_workers() -> None:
    executor = ScriptedExecutor()
    pool = Pool(executor=executor)
    assert pool.map(abs, [-1]) == [1]
    del pool
    wait_until(lambda: gc.collect() is not None and executor.shutdowns == 1)


def test_an_open_iterator_keeps_its_pool() -> None:
    executors = [ScriptedExecutor(), ScriptedExecutor()]
    assert list(Pool(executor=executors[0]).imap(abs, range(5), chunksize=1)) == list(range(5))
    results = Pool(executor=executors[1]).star().imap(pow, [(2, 3), (3, 2)], chunksize=1)
    gc.collect()
    assert list(results) == [8, 9]
    wait_until(lambda: gc.collect() is not None and [each.shutdowns for each in executors] == [1, 1])


def test_garbage_collected_by_a_worker_may_be_its_own_pool() -> None:
    class Holder:
        pool: Pool

    def use() -> None:
        holder = Holder()
        holder.pool = Pool(executor=executor)
        holder.pool.holder = holder  # type: ignore[attr-defined]
        results = holder.pool.imap(abs, range(9), chunksize=1)
        assert next(results) == 0
        results.close()

    begun, forgotten = threading.Event(), threading.Event()

    def gate(chunk: Chunk) -> None:
        if chunk.start == 0:
            assert begun.wait(LIMIT)
        else:
            begun.set()
            assert forgotten.wait(LIMIT)
            gc.collect()

    executor = ScriptedExecutor(slots=2, gate=gate)
    gc.collect()
    gc.disable()
    try:
        use()
        forgotten.set()
        wait_until(lambda: executor.shutdowns == 1 and not executor._threads)
    finally:
        gc.enable()


def test_workers_that_cannot_start_leave_nothing_behind() -> None:
    class Broken(ScriptedExecutor):
        def start(self, context: Any) -> None:
            super().start(context)
            raise ExecutorBroken("no room")

    executor = Broken()
    pool = Pool(executor=executor)
    for _ in range(2):
        with pytest.raises(ExecutorBroken, match="no room"):
            pool.map(abs, [1])
    assert executor._threads == []


def test_an_executor_serves_one_pool_or_pipe_at_a_time() -> None:
    executor = ScriptedExecutor()
    pipe = Pipe(IterableInputAdapter(rows(3)), executor=executor)
    with Pool(executor=executor):
        with pytest.raises(UsageError, match="is running another pipe or pool"):
            Pool(executor=executor).map(abs, [1])
        with pytest.raises(UsageError, match="is running another pipe or pool"):
            pipe.run()
    assert pipe.run().ok == 3
    with Pool(executor=executor) as pool:
        assert pool.map(abs, [-1]) == [1]
