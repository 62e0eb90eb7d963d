"""Any backend as an executor of `concurrent.futures`: what becomes of calls, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import operator
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable
from concurrent import futures
from functools import partial
from itertools import count, islice
from random import Random
from typing import Any

import pytest

from manyhands import Pool, as_futures_executor, get_executor
from manyhands.chunks import Chunk
from manyhands.doors.errors import BrokenWorkers, ShutdownError, WorkersError
from manyhands.errors import (
    BackendError,
    CallError,
    ExecutorBroken,
    OptionsError,
    UnpicklableError,
    UsageError,
    WorkerLost,
)
from manyhands.plugins.registry import find

from .support import LIMIT, ScriptedExecutor, seeded, wait_until


def is_installed(name: str) -> bool:
    try:
        find(name)
    except BackendError:
        return False
    return True


BACKENDS = [name for name in ("threads", "asyncio", "multiprocessing") if is_installed(name)]
every_backend = pytest.mark.parametrize("backend", BACKENDS)

KINDS: dict[str, Callable[[], Any]] = {
    "sync": lambda: get_executor("sync"),
    "here": ScriptedExecutor,
    "elsewhere": lambda: ScriptedExecutor(remote=True),
}
on_every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
driven = pytest.mark.parametrize("kind", [KINDS["here"], KINDS["elsewhere"]], ids=["here", "elsewhere"])


class Gate:
    """A call that waits until it is let through. It travels as a name: it is one and the same everywhere."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Semaphore(0), threading.Event()
        gates[id(self)] = self

    def __call__(self, value: Any = None) -> Any:
        self.entered.release()
        assert self.opened.wait(LIMIT)
        return value

    def __reduce__(self) -> Any:
        return operator.getitem, (Registry(), id(self))

    def wait_for(self, calls: int = 1) -> None:
        for _ in range(calls):
            assert self.entered.acquire(timeout=LIMIT)


class Registry:
    def __getitem__(self, key: int) -> Gate:
        return gates[key]


gates: dict[int, Gate] = {}


@pytest.fixture(autouse=True)
def no_gates_left() -> Any:
    yield
    gates.clear()


@on_every_kind
def test_calls_get_all_their_arguments_and_futures_what_they_return(kind: Any) -> None:
    with as_futures_executor(kind()) as executor:
        found = executor.submit(lambda *args, **kwargs: (args, kwargs), 1, self=2, fn=3)
        assert found.result(LIMIT) == ((1,), {"self": 2, "fn": 3})
        assert executor.submit(int, "7").result(LIMIT) == 7
        with pytest.raises(TypeError):
            executor.submit(fn=abs)  # type: ignore[call-arg]


@on_every_kind
def test_coroutines_are_awaited(kind: Any) -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    with as_futures_executor(kind()) as executor:
        assert executor.submit(double, 4).result(LIMIT) == 8
        assert list(executor.map(double, range(5), chunksize=2)) == [0, 2, 4, 6, 8]


@driven
@pytest.mark.parametrize(
    "error", [ValueError("wrong", 3), SystemExit(4), KeyboardInterrupt("not a ^C"), StopIteration(5)]
)
@pytest.mark.parametrize("is_async", [False, True])
def test_what_a_call_raises_is_its_own(kind: Any, error: BaseException, *, is_async: bool) -> None:
    def fail() -> None:
        raise error

    async def fail_on_loop() -> None:
        raise error

    if is_async and isinstance(error, StopIteration):
        pytest.skip("a coroutine cannot raise it")
    function: Any = fail_on_loop if is_async else fail
    with as_futures_executor(kind()) as executor:
        found = executor.submit(function).exception(LIMIT)
        assert (type(found), found.args) == (type(error), error.args)  # type: ignore[union-attr]
        assert executor.submit(abs, -1).result(LIMIT) == 1


@on_every_kind
def test_a_map_is_that_of_the_standard_library(kind: Any) -> None:
    with as_futures_executor(kind()) as executor:
        for chunksize in (1, 3, 100):
            assert list(executor.map(pow, range(10), range(12), chunksize=chunksize)) == [n**n for n in range(10)]
        assert list(executor.map(abs, [])) == []
        assert list(executor.map(abs)) == []


@on_every_kind
@pytest.mark.parametrize("chunksize", [1, 2, 9])
def test_a_map_ends_with_its_first_failure_behind_what_came_before(kind: Any, chunksize: int) -> None:
    with as_futures_executor(kind()) as executor:
        results = executor.map(lambda number: 6 // number, [3, 2, 1, 0, 6, 0], chunksize=chunksize)
        assert list(islice(results, 3)) == [2, 3, 6]
        with pytest.raises(ZeroDivisionError):
            next(results)
        assert list(results) == []


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"buffersize": "4"}, TypeError, "buffersize must be an integer or None, not '4'"),
        ({"buffersize": 0}, ValueError, "buffersize must be None or > 0, not 0"),
        ({"chunksize": 0}, ValueError, "chunksize must be >= 1, not 0"),
    ],
)
def test_a_map_refuses_sizes_that_are_none(options: Any, error: type[Exception], words: str) -> None:
    with as_futures_executor("sync") as executor, pytest.raises(error, match=words):
        executor.map(abs, [1], **options)


@on_every_kind
@pytest.mark.parametrize("chunksize", [1, 3])
def test_a_map_with_a_buffer_is_never_further_ahead(kind: Any, chunksize: int) -> None:
    pulled = 0

    def numbers() -> Any:
        nonlocal pulled
        for number in count():
            pulled += 1
            yield number

    with as_futures_executor(kind()) as executor:
        results = executor.map(abs, numbers(), chunksize=chunksize, buffersize=4)
        assert pulled == 4 * chunksize
        for given in range(1, 20):
            next(results)
            assert pulled - given <= 4 * chunksize
        results.close()  # type: ignore[attr-defined]  # it is a generator


@driven
def test_a_map_with_a_buffer_of_one_is_busy_while_a_result_is_used(kind: Any) -> None:
    gate = Gate()
    with as_futures_executor(kind()) as executor:
        results = executor.map(gate, count(), buffersize=1)
        gate.wait_for()
        gate.opened.set()
        assert next(results) == 0
        gate.wait_for()
        assert next(results) == 1
        results.close()  # type: ignore[attr-defined]  # it is a generator


def test_a_map_with_a_buffer_holds_its_executor() -> None:
    results = as_futures_executor(ScriptedExecutor()).map(abs, count(), buffersize=2)
    gc.collect()
    assert list(islice(results, 50)) == list(range(50))
    results.close()  # type: ignore[attr-defined]  # as above


@driven
def test_a_map_that_takes_too_long_cancels_what_has_not_begun(kind: Any) -> None:
    gate, seen = Gate(), []
    with as_futures_executor(kind()) as executor:
        results = executor.map(lambda number: seen.append(number) or gate(), range(50), timeout=0.2)
        with pytest.raises(TimeoutError):
            next(results)
        gate.opened.set()
    if seen:  # elsewhere, another list
        assert len(seen) < 50


def test_a_map_whose_iterable_fails_cancels_what_has_not_begun() -> None:
    def numbers() -> Any:
        yield from range(30)
        raise OSError("no more")

    gate, calls = Gate(), []
    with as_futures_executor(ScriptedExecutor()) as executor:
        with pytest.raises(OSError, match="no more"):
            executor.map(lambda number: calls.append(number) or gate(), numbers())
        gate.opened.set()
    assert len(calls) < 30


@every_backend
def test_results_are_held_by_nobody_but_who_has_them(backend: str) -> None:
    class Thing:
        pass

    with as_futures_executor(backend, 2) as executor:
        for thing in executor.map(lambda _: Thing(), range(6), chunksize=2):
            seen = weakref.ref(thing)
            del thing
            assert seen() is None


@driven
def test_futures_are_pending_then_running_then_done(kind: Any) -> None:
    gate = Gate()
    with as_futures_executor(kind()) as executor:
        begun = [executor.submit(gate, number) for number in range(2)]
        gate.wait_for(2)
        waiting = [executor.submit(gate, number) for number in range(8)]
        assert all(future.running() for future in begun)
        assert not begun[0].cancel()
        assert not any(future.running() for future in waiting)
        assert waiting[0].cancel()
        assert waiting[-1].cancel()
        gate.opened.set()
        assert [future.result(LIMIT) for future in begun] == [0, 1]
        done, _ = futures.wait(waiting, LIMIT)
        assert [future.cancelled() for future in waiting] == [True, *[False] * 6, True]
        assert done == set(waiting)
        assert set(futures.as_completed(waiting)) == done


@driven
def test_shutdown_may_cancel_what_waits(kind: Any) -> None:
    gate = Gate()
    executor = as_futures_executor(kind())
    begun = [executor.submit(gate) for _ in range(2)]
    gate.wait_for(2)
    waiting = [executor.submit(gate) for _ in range(8)]
    executor.shutdown(wait=False, cancel_futures=True)
    assert futures.wait(waiting, LIMIT).not_done == set()
    assert all(future.cancelled() for future in waiting)
    assert not any(future.done() for future in begun)
    gate.opened.set()
    executor.shutdown()
    assert all(future.done() and not future.cancelled() for future in begun)


@on_every_kind
def test_after_shutdown_nothing_is_taken(kind: Any) -> None:
    executor = as_futures_executor(kind())
    future = executor.submit(abs, -1)
    executor.shutdown()
    executor.shutdown()
    assert future.result(0) == 1
    with pytest.raises(ShutdownError, match="cannot schedule new futures after shutdown") as caught:
        executor.submit(abs, -1)
    assert isinstance(caught.value, RuntimeError)


@on_every_kind
def test_an_executor_that_is_never_used_costs_nothing(kind: Any) -> None:
    executor = as_futures_executor(kind())
    del executor
    as_futures_executor(kind()).shutdown()


@driven
def test_a_forgotten_executor_makes_the_calls_it_has_and_ends(kind: Any) -> None:
    inner = kind()
    executor = as_futures_executor(inner)
    gone = weakref.ref(executor)
    submitted = [executor.submit(abs, -number) for number in range(20)]
    del executor
    assert gone() is None
    assert [future.result(LIMIT) for future in submitted] == list(range(20))
    wait_until(lambda: inner.shutdowns)


@driven
def test_callbacks_may_submit_and_shut_down(kind: Any) -> None:
    executor = as_futures_executor(kind())
    found: futures.Future[int] = futures.Future()

    def go_on(first: Any) -> None:
        executor.submit(abs, -first.result()).add_done_callback(stop)

    def stop(second: Any) -> None:
        executor.shutdown()
        found.set_result(second.result())

    executor.submit(int, "-5").add_done_callback(go_on)
    assert found.result(LIMIT) == 5
    executor.shutdown()


@pytest.mark.parametrize("backend", ["sync", *(name for name in BACKENDS if name != "multiprocessing")])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_call_cannot_wait_for_the_end_of_its_own_executor(backend: str, *, is_async: bool) -> None:
    def end() -> None:
        executor.shutdown()

    async def end_from_loop() -> None:
        executor.shutdown()

    executor = as_futures_executor(backend)
    with pytest.raises(ShutdownError, match="cannot wait for its end") as caught:
        executor.submit(end_from_loop if is_async else end).result(LIMIT)
    assert isinstance(caught.value, RuntimeError)
    with pytest.raises(ShutdownError, match="after shutdown"):
        executor.submit(abs, 1)
    executor.shutdown()


def test_a_call_in_place_may_end_its_executor_and_returns() -> None:
    executor = as_futures_executor("sync")

    def end(value: int) -> int:
        executor.shutdown(wait=False)
        return value

    assert executor.submit(end, 3).result(0) == 3
    with pytest.raises(ShutdownError):
        executor.submit(abs, 1)
    assert executor._desk._pool._closed


def test_calls_in_place_may_make_calls() -> None:
    with as_futures_executor("sync") as executor:
        nested = executor.submit(lambda: executor.submit(abs, -3).result() + 1)
        assert nested.result(0) == 4
        with pytest.raises(KeyboardInterrupt):
            executor.submit(_interrupt)


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_a_call_in_place_is_not_lost_to_a_shutdown_of_another_thread() -> None:
    gate = Gate()
    executor = as_futures_executor("sync")
    found: list[Any] = []
    caller = threading.Thread(target=lambda: found.append(executor.submit(gate, 4).result(0)))
    caller.start()
    gate.wait_for()
    executor.shutdown(wait=False)
    gate.opened.set()
    executor.shutdown()
    caller.join(LIMIT)
    assert found == [4]


@driven
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), ValueError("mine")])
def test_what_a_callback_raises_harms_no_other_call(
    kind: Any, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Any) -> None:
        raise error

    gate = Gate()
    with as_futures_executor(kind()) as executor:
        for future in (executor.submit(gate, 1), executor.submit(lambda: 1 / 0)):
            future.add_done_callback(fail)
        gate.opened.set()
        assert executor.submit(abs, -3).result(LIMIT) == 3
    assert sum(record.exc_info is not None and record.exc_info[1] is error for record in caplog.records) == 2


@driven
def test_a_future_that_somebody_else_has_set_harms_no_other_call(kind: Any) -> None:
    gate = Gate()
    with as_futures_executor(kind()) as executor:
        begun = [executor.submit(gate) for _ in range(2)]
        gate.wait_for(2)
        waiting = [executor.submit(gate, number) for number in range(6)]
        waiting[3].set_result("set")
        begun[0].set_exception(OSError("set"))
        gate.opened.set()
        assert [future.result(LIMIT) for future in waiting] == [0, 1, 2, "set", 4, 5]
    assert isinstance(begun[0].exception(0), OSError)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="there the collector has to find a cycle of frames")
@pytest.mark.parametrize("backend", ["sync", *(name for name in BACKENDS if name != "multiprocessing")])
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("how", ["submit", "map", "pool"])
def test_the_arguments_of_a_call_that_failed_are_in_no_cycle(backend: str, how: str, *, is_async: bool) -> None:
    seen: list[weakref.ref[Any]] = []

    def fail(argument: Any) -> None:
        seen.append(weakref.ref(argument))
        raise OSError

    async def fail_on_loop(argument: Any) -> None:
        fail(argument)

    function: Any = fail_on_loop if is_async else fail
    gc.disable()
    try:
        with Pool(executor=backend) if how == "pool" else as_futures_executor(backend) as workers:
            with pytest.raises(OSError):  # noqa: PT011  # it says nothing
                calls[how](workers, function)
            wait_until(lambda: seen[0]() is None)
    finally:
        gc.enable()


class Argument:
    """It can be referred to weakly."""


calls: dict[str, Callable[[Any, Any], Any]] = {
    "submit": lambda executor, function: executor.submit(function, Argument()).result(LIMIT),
    "map": lambda executor, function: list(executor.map(function, [Argument()])),
    "pool": lambda pool, function: pool.map(function, [Argument()]),
}


@driven
def test_an_event_loop_may_wait_for_it(kind: Any) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        with as_futures_executor(kind()) as executor:
            return await asyncio.gather(*(loop.run_in_executor(executor, abs, -number) for number in range(20)))

    assert asyncio.run(main()) == list(range(20))


@driven
def test_many_threads_may_submit(kind: Any) -> None:
    found: dict[int, list[int]] = {}
    with as_futures_executor(kind()) as executor:

        def use(number: int) -> None:
            found[number] = [executor.submit(operator.add, number, each).result(LIMIT) for each in range(50)]

        threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
    assert found == {number: [number + each for each in range(50)] for number in range(4)}


@driven
def test_only_a_call_that_kills_its_workers_is_lost(kind: Any) -> None:
    def is_deadly(chunk: Chunk) -> bool:
        return chunk.sequence in (3, 7) or (chunk.sequence == 11 and chunk.lo <= 1 < chunk.hi)

    inner = ScriptedExecutor(
        lambda chunk, _: "lose" if is_deadly(chunk) else "run", remote=kind().capabilities.crosses_process
    )
    with as_futures_executor(inner) as executor:
        submitted = [executor.submit(int, number) for number in range(10)]
        errors = {number: future.exception(LIMIT) for number, future in enumerate(submitted)}
        assert {number for number, error in errors.items() if isinstance(error, WorkerLost)} == {3, 7}
        assert errors[3].__notes__ == ["the call of int killed its worker"]  # type: ignore[union-attr]
        assert all(future.result() == number for number, future in enumerate(submitted) if number not in (3, 7))
        results = executor.map(int, range(8), chunksize=4)
        assert list(islice(results, 5)) == [0, 1, 2, 3, 4]
        with pytest.raises(WorkerLost) as caught:
            next(results)
        assert caught.value.__notes__ == ["call 5 of the map (counted from 0) killed its worker"]


@pytest.mark.parametrize("seed", range(6))
def test_calls_are_made_whatever_happens_to_workers_once(seed: int) -> None:
    random = Random(seed)
    inner = ScriptedExecutor(seeded(seed, "return", "lose", "defer"), slots=3, remote=bool(seed % 2))
    with as_futures_executor(inner) as executor:
        submitted = {number: executor.submit(abs, -number) for number in random.sample(range(99), 30)}
        mapped = executor.map(abs, range(-20, 0), chunksize=random.randint(1, 8), buffersize=random.choice([None, 3]))
        assert list(mapped) == list(range(20, 0, -1))
        assert all(future.result(LIMIT) == number for number, future in submitted.items())


def test_an_argument_whose_own_code_gives_up_fails_alone() -> None:
    class Hostile:
        def __reduce__(self) -> Any:
            raise SystemExit(3)

    with as_futures_executor(ScriptedExecutor(remote=True)) as executor:
        assert isinstance(executor.submit(id, Hostile()).exception(LIMIT), SystemExit)
        assert executor.submit(abs, -1).result(LIMIT) == 1


@driven
def test_an_executor_that_breaks_fails_what_it_has_and_takes_no_more(kind: Any) -> None:
    opened = threading.Event()
    inner = ScriptedExecutor(
        lambda *_: "break", remote=kind().capabilities.crosses_process, gate=lambda _: opened.wait(LIMIT)
    )
    with as_futures_executor(inner) as executor:
        submitted = [executor.submit(abs, 1) for _ in range(5)]
        opened.set()
        for future in submitted:
            assert isinstance(future.exception(LIMIT), BrokenWorkers)
        with pytest.raises(futures.BrokenExecutor, match="there are no workers any more") as caught:
            executor.submit(abs, 1)
        assert isinstance(caught.value, ExecutorBroken)


def test_it_is_always_said_why_an_executor_is_broken() -> None:
    class Silent(ScriptedExecutor):
        def submit(self, chunk: Chunk) -> Any:
            raise NotImplementedError

    with as_futures_executor(Silent()) as executor:
        error = executor.submit(abs, 1).exception(LIMIT)
    assert str(error) == "there are no workers any more: NotImplementedError"


def test_workers_that_cannot_start_break_the_executor() -> None:
    class Refusing(ScriptedExecutor):
        def start(self, context: Any) -> None:
            raise OSError("no more of them")

    with as_futures_executor(Refusing()) as executor:
        error = executor.submit(abs, 1).exception(LIMIT)
    assert isinstance(error, BrokenWorkers)
    assert "no more of them" in str(error)


def test_what_cannot_travel_fails_alone() -> None:
    with as_futures_executor(ScriptedExecutor(remote=True)) as executor:
        lock = threading.Lock()
        argument = executor.submit(lambda _: 1, lock)
        function = executor.submit(lock.acquire)
        result = executor.submit(threading.Lock)
        error = argument.exception(LIMIT)
        assert isinstance(error, UnpicklableError)
        assert "the call of" in str(error)
        assert "lock" in str(error)
        assert isinstance(function.exception(LIMIT), UnpicklableError)
        assert isinstance(result.exception(LIMIT), CallError)
        assert "the result of the call of " in str(result.exception())
        named = executor.submit(partial(partial(pow, 2), lock)).exception(LIMIT)
        assert str(named).startswith("the call of pow cannot be sent to a worker process")
        with pytest.raises(UnpicklableError, match="one of the 2 calls from call 2 of the map on cannot be sent"):
            list(executor.map(id, [1, 2, lock, 4], chunksize=2))
        with pytest.raises(UnpicklableError, match="the function"):
            list(executor.map(lambda number: lock and number, [1, 2]))
        assert executor.submit(abs, -1).result(LIMIT) == 1


@driven
def test_killing_the_workers_fails_what_is_not_done(kind: Any) -> None:
    gate = Gate()
    executor = as_futures_executor(kind())
    submitted = [executor.submit(gate) for _ in range(6)]
    gate.wait_for(2)
    killer = threading.Thread(target=executor.kill_workers)
    killer.start()
    wait_until(lambda: executor._desk._pool._table.is_closed)  # type: ignore[attr-defined]
    gate.opened.set()  # its workers are threads, which nobody can kill
    killer.join(LIMIT)
    executor.shutdown()
    assert all(isinstance(future.exception(0), BrokenWorkers) for future in submitted[2:])
    with pytest.raises(BrokenWorkers, match="killed on request"):
        executor.submit(abs, 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_may_not_use_the_workers_of_its_parent() -> None:
    with as_futures_executor(ScriptedExecutor()) as executor:
        assert executor.submit(abs, -1).result(LIMIT) == 1
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                executor.submit(abs, -1)
            except UsageError as error:
                os.write(write, str(error).encode())
                executor.shutdown()
                os._exit(0)
            finally:
                os._exit(1)
        os.close(write)
        with open(read) as said:  # noqa: PTH123  # it is a pipe
            assert "of which this is a fork" in said.read()
        assert os.waitpid(child, 0)[1] == 0
        assert executor.submit(abs, -1).result(LIMIT) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_while_workers_start_is_told_at_once() -> None:
    class Slow(ScriptedExecutor):
        def start(self, context: Any) -> None:
            starting.set()
            assert opened.wait(LIMIT)
            super().start(context)

    starting, opened = threading.Event(), threading.Event()
    with as_futures_executor(Slow()) as executor:
        future = executor.submit(abs, -1)
        assert starting.wait(LIMIT)  # with the pool's lock
        child = os.fork()
        if not child:
            signal.alarm(int(LIMIT))
            try:
                executor.submit(abs, -1)
            except UsageError:
                os._exit(7)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        opened.set()
        assert future.result(LIMIT) == 1


def test_it_is_made_as_a_pool_is() -> None:
    assert as_futures_executor("sync")._max_workers == 1
    if "threads" in BACKENDS:
        assert (
            as_futures_executor("threads", 3)._max_workers == as_futures_executor("threads", max_workers=3)._max_workers
        )
    for wrong in ({"workers": 0}, {"max_workers": -1}):
        with pytest.raises(WorkersError, match="max_workers must be greater than 0") as caught:
            as_futures_executor("threads", **wrong)
        assert isinstance(caught.value, ValueError)
    with pytest.raises(OptionsError):
        as_futures_executor("sync", 2)
    with pytest.raises(BackendError):
        as_futures_executor("multiprocesing")
    with pytest.raises(TypeError, match="cannot be sent"), as_futures_executor("sync") as executor:
        pickle.dumps(executor)


def program(tmp_path: Any, text: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(text))
    return subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=60)


LATE = pytest.mark.skipif(
    sys.version_info[:3] in ((3, 12, 0), (3, 12, 1)), reason="these cannot start threads once the main thread has ended"
)


@LATE
@every_backend
@pytest.mark.parametrize("ending", ["", "executor.shutdown(wait=False)", "del executor"])
def test_calls_are_made_before_the_program_ends(backend: str, ending: str, tmp_path: Any) -> None:
    done = program(
        tmp_path,
        f"""
        import time
        from pathlib import Path
        from manyhands import as_futures_executor

        def write(name):
            time.sleep(0.2)
            Path({str(tmp_path)!r}, name).touch()

        executor = as_futures_executor({backend!r}, 2)
        for name in "abc":
            executor.submit(write, name)
        {ending}
        """,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    assert [name for name in "abc" if (tmp_path / name).exists()] == ["a", "b", "c"]


@every_backend
def test_at_the_end_of_the_program_no_call_is_taken(backend: str, tmp_path: Any) -> None:
    done = program(
        tmp_path,
        f"""
        import atexit
        from manyhands import as_futures_executor

        @atexit.register
        def late():
            try:
                executor.submit(id, None)
            except RuntimeError as error:
                print(error)

        executor = as_futures_executor({backend!r}, 2)
        executor.submit(id, 42).result()
        """,
    )
    assert done.stdout.startswith("cannot schedule new futures after interpreter shutdown"), done.stderr
    assert (done.stderr, done.returncode) == ("", 0)


@driven
def test_an_interrupted_wait_leaves_the_executor_usable(kind: Any) -> None:
    gate = Gate()
    with as_futures_executor(kind()) as executor:
        waiting = executor.submit(gate, 3)
        gate.wait_for()
        main = threading.main_thread().ident
        timer = threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            waiting.result(LIMIT)
        timer.join()
        gate.opened.set()
        assert waiting.result(LIMIT) == 3
