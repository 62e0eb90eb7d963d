"""Function maps: what comes out, in which order, and how far they are ahead."""

from __future__ import annotations

import asyncio
import functools
import threading
import traceback
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands import BaseExecutor, Pool, get_executor
from manyhands.chunks import MAX_RECORDS, Chunk
from manyhands.driver.pace import Pace
from manyhands.errors import CallError, OptionsError, UnpicklableError, UsageError

from .support import LIMIT, ScriptedExecutor, seeded, wait_until

KINDS: dict[str, Callable[[], Any]] = {
    "sync": lambda: get_executor("sync"),
    "here": ScriptedExecutor,
    "elsewhere": lambda: ScriptedExecutor(remote=True),
}

on_every_kind = pytest.mark.parametrize("executor", list(KINDS.values()), ids=list(KINDS))
elsewhere = KINDS["elsewhere"]


class Odd(ValueError):
    def __init__(self, number: int) -> None:
        super().__init__(f"{number} is odd")
        self.number = number

    def __reduce__(self) -> Any:
        return Odd, (self.number,)


def refuse_odd(number: int) -> int:
    if number % 2:
        raise Odd(number)
    return number // 2


def outcomes(results: Iterator[Any]) -> list[Any]:
    """What an iterator gives and raises."""
    found: list[Any] = []
    while True:
        try:
            found.append(next(results))
        except StopIteration:
            return found
        except Exception as error:  # noqa: BLE001  # they are what is looked at
            found.append((type(error), error.args))


def expected(numbers: list[int]) -> list[Any]:
    return [(Odd, (f"{number} is odd",)) if number % 2 else number // 2 for number in numbers]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.data())
def test_every_map_gives_what_the_builtin_gives_whatever_happens_to_the_workers(data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(0, 9), max_size=30))
    script = seeded(data.draw(st.integers(0, 999)), "return", "lose")
    remote, slots = data.draw(st.booleans()), data.draw(st.integers(1, 3))
    chunksize = data.draw(st.none() | st.integers(1, 7))
    makers = [lambda: get_executor("sync"), lambda: ScriptedExecutor(script, slots=slots, remote=remote)]
    wanted = expected(numbers)
    with Pool(executor=data.draw(st.sampled_from(makers))()) as pool:
        doubled = [number * 2 for number in numbers]
        assert pool.map(refuse_odd, doubled, chunksize=chunksize) == numbers
        assert sorted(pool.unordered_map(refuse_odd, doubled, chunksize=chunksize)) == sorted(numbers)
        assert outcomes(pool.imap(refuse_odd, iter(numbers), chunksize=chunksize)) == wanted
        assert sorted(outcomes(pool.unordered_imap(refuse_odd, numbers, chunksize=chunksize)), key=str) == sorted(
            wanted, key=str
        )
        pairs = list(zip(numbers, doubled, strict=True))
        assert pool.star().map(max, pairs, chunksize=chunksize) == [max(pair) for pair in pairs]


@on_every_kind
def test_star_unpacks_on_all_four_ways(executor: Callable[[], Any]) -> None:
    with Pool(executor=executor()) as pool:
        star, pairs = pool.star(), [(2, 3), (3, 2)]
        assert star.map(pow, pairs) == [8, 9]
        assert list(star.imap(pow, pairs)) == [8, 9]
        assert sorted(star.unordered_map(pow, pairs)) == [8, 9]
        assert sorted(star.unordered_imap(pow, pairs)) == [8, 9]
        assert pool.map(len, pairs) == [2, 2]


@on_every_kind
def test_anything_callable_can_be_mapped(executor: Callable[[], Any]) -> None:
    summand = 10

    class Adder:
        def __init__(self, more: int) -> None:
            self.more = more

        def add(self, number: int) -> int:
            return number + self.more

        def __call__(self, number: int) -> Adder:
            return Adder(number)

    with Pool(executor=executor()) as pool:
        assert pool.map(lambda number: number + summand, [1, 2]) == [11, 12]
        assert pool.map(functools.partial(pow, 2), [1, 2]) == [2, 4]
        assert pool.map(Adder(5).add, [1, 2]) == [6, 7]
        assert pool.map("{}!".format, [1, 2]) == ["1!", "2!"]
        made = pool.map(Adder(0), [1, 2])
        assert [type(each) for each in made] == [Adder, Adder], "a class of this function comes back as itself"


@on_every_kind
def test_an_exception_arrives_with_its_type_arguments_and_attributes(executor: Callable[[], Any]) -> None:
    class Local(Exception):
        pass

    def fail(number: int) -> None:
        error = Local("no", number)
        error.place = number
        error.add_note("look here")
        raise error

    with Pool(executor=executor()) as pool, pytest.raises(Local) as caught:
        pool.map(fail, [7])
    assert (caught.value.args, caught.value.place, caught.value.__notes__) == (("no", 7), 7, ["look here"])  # type: ignore[attr-defined]
    assert "in fail" in "".join(traceback.format_exception(caught.value)), "the place where it was raised is told"


@on_every_kind
def test_whatever_a_call_raises_is_its_own_outcome(executor: Callable[[], Any]) -> None:
    class Rude(BaseException):
        pass

    def leave(how: Any) -> Any:
        if isinstance(how, str):
            return how
        raise how

    endings: list[Any] = ["a", SystemExit(3), "b", GeneratorExit(), asyncio.CancelledError(), "d"]
    with Pool(executor=executor()) as pool:
        results = pool.imap(leave, endings, chunksize=3)
        for ending in endings:
            if isinstance(ending, str):
                assert next(results) == ending
            else:
                with pytest.raises(type(ending)) as caught:
                    next(results)
                assert caught.value.args == ending.args
        with pytest.raises(Rude):
            pool.map(leave, [Rude()])


@on_every_kind
def test_a_stop_iteration_of_a_call_ends_no_iteration(executor: Callable[[], Any]) -> None:
    def stop(number: int) -> int:
        return next(iter([])) if number == 1 else number

    with Pool(executor=executor()) as pool:
        found = outcomes(pool.imap(stop, range(4), chunksize=2))
        with pytest.raises(StopIteration):
            pool.map(stop, range(4))
    assert found == [0, (RuntimeError, ("the call raised StopIteration",)), 2, 3]


def test_map_raises_the_first_failure_in_the_order_of_the_items() -> None:
    second = threading.Event()

    def fail(number: int) -> None:
        if number == 0:
            assert second.wait(LIMIT)
        raise Odd(number)

    def gate(chunk: Chunk) -> None:
        if chunk.start == 2:
            second.set()

    with Pool(executor=ScriptedExecutor(slots=3, gate=gate)) as pool, pytest.raises(Odd, match="0 is odd"):
        pool.map(fail, range(3), chunksize=1)


def test_a_failure_keeps_a_map_from_pulling_the_rest() -> None:
    pulled = count()
    with Pool(executor=ScriptedExecutor(slots=1)) as pool, pytest.raises(Odd):
        pool.map(refuse_odd, (1 for _ in pulled), chunksize=1)
    assert next(pulled) < 10


@pytest.mark.parametrize("way", ["unordered_map", "unordered_imap"])
def test_the_fastest_come_first_where_order_does_not_matter(way: str) -> None:
    others = threading.Semaphore(0)

    def dawdle(number: int) -> int:
        if number == 0:
            for _ in range(3):
                assert others.acquire(timeout=LIMIT)
        others.release()
        return number

    with Pool(executor=ScriptedExecutor()) as pool:
        found = list(getattr(pool, way)(dawdle, range(4), chunksize=1))
    assert sorted(found) == [0, 1, 2, 3]
    assert found[-1] == 0


@on_every_kind
@pytest.mark.parametrize("chunksize", [None, 1, 5])
def test_an_endless_iterable_is_pulled_a_little_ahead(executor: Callable[[], Any], chunksize: int | None) -> None:
    ahead, taken = [0], 0
    source = count()
    with Pool(executor=executor()) as pool:
        results = pool.imap(abs, (ahead.append(number - taken) or number for number in source), chunksize=chunksize)  # type: ignore[func-returns-value]
        assert ahead == [0], "nothing happens before the first result is asked for"
        for taken in range(500):
            assert next(results) == taken
    most = 7 * (chunksize or 1 << 14)  # the window: two slots twice, two more, and one that is being cut
    assert 0 < len(ahead) <= 500 + most
    assert max(ahead) <= most


def test_a_slow_head_holds_an_endless_iterable_at_the_window() -> None:
    opened, pulled = threading.Event(), list[int]()
    gate: Callable[[Chunk], object] = lambda chunk: opened.wait(LIMIT) if chunk.start == 0 else None  # noqa: E731
    executor = ScriptedExecutor(slots=2, gate=gate)

    def source() -> Iterator[int]:
        for number in count():
            pulled.append(number)
            if number == 5:
                opened.set()
            yield number

    with Pool(executor=executor) as pool:
        assert list(islice(pool.imap(abs, source(), chunksize=1), 3)) == [0, 1, 2]
    assert len(pulled) <= 2 * 6 + 3


def test_a_result_that_is_there_need_not_wait_for_a_slow_iterable() -> None:
    given_out, seen = list[int](), list[list[int]]()

    def source() -> Iterator[int]:
        for number in range(20):
            if number == 10:
                wait_until(lambda: len(executor.submitted) >= 1 and not executor.open)
            seen.append(given_out.copy())
            yield number

    class Counting(ScriptedExecutor):
        open = 0

        def submit(self, chunk: Chunk) -> Any:
            self.open += 1
            future = super().submit(chunk)
            future.add_done_callback(self.ended)
            return future

        def ended(self, _: Any) -> None:
            self.open -= 1

    executor = Counting(slots=20)
    with Pool(executor=executor) as pool:
        for result in pool.imap(abs, source(), chunksize=1):
            given_out.append(result)
    assert given_out == list(range(20))
    assert seen[11], "what was done while the tenth was awaited is given out before the eleventh is pulled"


@on_every_kind
def test_an_iterable_that_fails_does_so_behind_what_it_gave(executor: Callable[[], Any]) -> None:
    def source() -> Iterator[int]:
        yield from range(5)
        raise OSError("gone")

    with Pool(executor=executor()) as pool:
        assert outcomes(pool.imap(abs, source(), chunksize=2)) == [*range(5), (OSError, ("gone",))]
        with pytest.raises(OSError, match="gone"):
            pool.map(abs, source())


@on_every_kind
def test_async_functions_are_awaited(executor: Callable[[], Any]) -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        if number == 3:
            raise Odd(3)
        return 2 * number

    with Pool(executor=executor()) as pool:
        assert outcomes(pool.imap(double, range(5), chunksize=4)) == [0, 2, 4, (Odd, ("3 is odd",)), 8]
        assert pool.map(lambda number: double(number + 0), range(3)) == [0, 2, 4]


def test_async_calls_of_a_chunk_overlap_as_far_as_they_may() -> None:
    most = 3
    executor = ScriptedExecutor(slots=1)
    executor.concurrency = most  # type: ignore[attr-defined]
    active = peak = 0
    full = asyncio.Event()

    async def meet(number: int) -> int:
        nonlocal active, peak
        active += 1
        peak = max(peak, active)
        if active == most:
            full.set()
        await asyncio.wait_for(full.wait(), LIMIT)
        active -= 1
        return number

    with Pool(executor=executor) as pool:
        assert pool.map(meet, range(9), chunksize=9) == list(range(9))
    assert peak == most


def test_a_map_that_would_block_its_own_event_loop_is_refused() -> None:
    async def nothing(_: int) -> None:
        pass

    async def main(pool: Pool) -> list[None]:
        with pytest.raises(UsageError, match="to_thread"):
            pool.map(nothing, [1])
        return await asyncio.to_thread(pool.map, nothing, [1])

    with Pool(executor="sync") as pool:
        assert asyncio.run(main(pool)) == [None]


def test_a_coroutine_that_comes_to_light_in_a_running_event_loop_is_refused_likewise() -> None:
    async def same(number: int) -> int:
        return number

    def promise(number: int) -> Any:
        return same(number)

    async def main(pool: Pool) -> list[int]:
        with pytest.raises(UsageError, match="to_thread"):
            pool.map(promise, [1])
        return await asyncio.to_thread(pool.map, promise, [1])

    with Pool(executor="sync") as pool:
        assert asyncio.run(main(pool)) == [1]


def test_what_cannot_travel_says_so_in_its_place() -> None:
    class Sealed(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")
            self.lock = threading.Lock()

    class Bent(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    def pick(number: Any) -> Any:
        if number == 1:
            raise Sealed(1, 2)
        if number == 2:
            raise Bent(1, 2)
        return threading.Lock() if number == 3 else number

    items = [0, 1, 2, 3, threading.Lock(), 5]
    found = []
    with Pool(executor=elsewhere()) as pool:
        results = pool.imap(pick, items, chunksize=6)
        for _ in items:
            try:
                found.append(next(results))
            except (CallError, UnpicklableError) as error:
                found.append(f"{type(error).__name__}: {error}")
    assert [found[0], found[5]] == [0, 5]
    assert "CallError: the call raised" in found[1]
    assert "Sealed: 1 and 2" in found[1]
    assert "Bent: 1 and 2" in found[2]
    assert "pick, of type lock, cannot be sent back" in found[3]
    assert "UnpicklableError: the argument of call 4, of type lock, cannot be sent" in found[4]


def test_a_function_that_cannot_travel_is_refused_before_anything_is_pulled() -> None:
    lock, pulled = threading.Lock(), list[int]()

    def locked(number: int) -> int:
        with lock:
            return number

    with Pool(executor=elsewhere()) as pool:
        with pytest.raises(UnpicklableError, match=r"the function .*locked cannot be sent to a worker process"):
            pool.map(locked, (pulled.append(number) for number in range(3)))
        assert pulled == []
        assert pool.map(abs, [-1]) == [1]


class Rigid(Exception):
    def __setattr__(self, name: str, value: object) -> None:
        raise TypeError("read-only")


@on_every_kind
def test_an_exception_that_refuses_attributes_is_one_outcome_among_others(executor: Callable[[], Any]) -> None:
    def fail(number: int) -> int:
        if number == 1:
            raise Rigid(number)
        return number

    with Pool(executor=executor()) as pool:
        assert outcomes(pool.imap(fail, range(3), chunksize=1)) == [0, (Rigid, (1,)), 2]


class Rude(Exception):
    """Raises as it is pickled, or from the n-th time on as it is unpickled, what is no `Exception`."""

    unpickled = 0

    def __init__(self, error: type[BaseException], *, pickled: bool = False, good: int = 0) -> None:
        super().__init__()
        self.error, self.pickled, self.good = error, pickled, good

    def __reduce__(self) -> Any:
        if self.pickled:
            raise self.error("rude")
        return Rude.again, (self.error, self.good)

    @staticmethod
    def again(error: type[BaseException], good: int) -> Rude:
        Rude.unpickled += 1
        if Rude.unpickled > good:
            raise error("rude")
        return Rude(error, good=good)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("raised", [True, False])
@pytest.mark.parametrize("how", [{"pickled": True}, {"good": 0}, {"good": 1}])
def test_no_code_of_a_result_or_an_exception_ends_a_map(
    error: type[BaseException], how: dict[str, Any], *, raised: bool
) -> None:
    def meet(number: int) -> Any:
        if number != 1:
            return number
        if raised:
            raise Rude(error, **how)
        return Rude(error, **(how if "pickled" in how else {"good": 0}))

    Rude.unpickled = 0
    with Pool(executor=elsewhere()) as pool:
        first, second, third = outcomes(pool.imap(meet, range(3), chunksize=1))
    assert [first, third] == [0, 2]
    assert second[0] is CallError
    assert f"{error.__name__}: rude" in second[1][0]


def test_an_argument_that_exits_as_it_is_unpickled_fails_its_chunk() -> None:
    with Pool(executor=elsewhere()) as pool, pytest.raises(CallError, match="SystemExit: rude"):
        pool.map(len, [Rude(SystemExit)])


def test_a_function_that_refers_to_its_pool_is_told_that_pools_do_not_travel() -> None:
    with Pool(executor=elsewhere()) as pool, pytest.raises(UnpicklableError, match="a Pool cannot be sent to a worker"):
        pool.map(lambda number: pool.map(abs, [number]), [1])


def test_how_large_a_function_is_keeps_no_chunk_small() -> None:
    large = bytes(5_000_000)
    executor = ScriptedExecutor(slots=1, remote=True)
    with Pool(executor=executor) as pool:
        assert pool.map(lambda number: number + len(large), range(400)) == [n + 5_000_000 for n in range(400)]
    assert max(sizes(executor)) > 8


class Fragile:
    """Arrives nowhere."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


@pytest.mark.parametrize("function", [Fragile(), lambda argument: argument, lambda argument: Fragile()])
def test_what_cannot_be_unpickled_says_so(function: Any) -> None:
    with Pool(executor=elsewhere()) as pool:
        argument = Fragile() if function(0) == 0 else 0
        with pytest.raises(CallError, match=r"cannot be unpickled .*ValueError: invalid literal"):
            pool.map(function, [argument])


# Callable, so that the test above can send it as a function.
Fragile.__call__ = lambda self, argument: 1  # type: ignore[attr-defined]


def test_state_of_a_function_lives_as_long_as_its_map() -> None:
    class Counter:
        calls = 0

        def step(self, _: int) -> int:
            self.calls += 1
            return self.calls

    with Pool(executor=ScriptedExecutor(slots=1, remote=True)) as pool:
        step = Counter().step
        assert pool.map(step, range(3), chunksize=1) == [1, 2, 3]
        assert pool.map(step, range(3), chunksize=1) == [1, 2, 3]


def test_arguments_travel_compressed_if_the_executor_says_so() -> None:
    executor = ScriptedExecutor(remote=True, compression="lz4")
    with Pool(executor=executor) as pool:
        assert pool.map(len, ["a" * 10_000] * 3) == [10_000] * 3
    assert executor.submitted
    assert all(chunk.compressed for chunk in executor.submitted)


def sizes(executor: ScriptedExecutor) -> list[int]:
    return [chunk.size for chunk in executor.submitted]


@pytest.mark.parametrize("chunksize", [1, 4, 100])
def test_a_chunksize_is_kept_to_the_letter(chunksize: int) -> None:
    executor = ScriptedExecutor(slots=1)
    with Pool(executor=executor) as pool:
        assert pool.map(abs, range(10), chunksize=chunksize) == list(range(10))
    assert sizes(executor) == [min(chunksize, 10 - first) for first in range(0, 10, chunksize)]


def test_the_chunksize_of_the_executor_holds_where_the_map_has_none() -> None:
    executor = ScriptedExecutor(chunksize=4)
    with Pool(executor=executor) as pool:
        pool.map(abs, range(8))
    assert sizes(executor) == [4, 4]


def test_chunks_begin_with_one_call_and_grow_while_calls_are_quick() -> None:
    executor = ScriptedExecutor(slots=1)
    with Pool(executor=executor) as pool:
        list(islice(pool.imap(abs, count()), 100_000))
    assert sizes(executor)[0] == 1
    assert max(sizes(executor)) > 1000
    assert all(b <= 8 * max(sizes(executor)[: i + 1]) for i, b in enumerate(sizes(executor)[1:]))


def test_a_slow_iterable_is_not_waited_for_to_fill_a_chunk() -> None:
    executor = ScriptedExecutor(slots=1)
    with Pool(executor=executor) as pool:
        quick = islice(pool.imap(abs, count()), 100_000)
        assert sum(1 for _ in quick) == 100_000

        def trickle() -> Iterator[int]:
            for number in range(4000):
                yield number
                if number % 10 == 0:
                    threading.Event().wait(0.001)

        executor.submitted.clear()
        assert pool.map(abs, trickle()) == list(range(4000))
    assert max(sizes(executor)) < 2000


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 10**6), st.integers(1, 9), st.lists(st.floats(1e-9, 10.0), min_size=1))
def test_no_chunk_is_larger_than_an_even_share(total: int, workers: int, seconds: list[float]) -> None:
    pace = Pace(None, total=total, workers=workers)
    assert pace.next() == 1
    for each in seconds:
        size = pace.next()
        assert 1 <= size <= max(-(-total // workers), 1)
        pace.gave(size)
        pace.learn(size, each * size, 0)


def test_slow_calls_and_large_arguments_keep_chunks_small() -> None:
    slow, large = Pace(None, total=None, workers=2), Pace(None, total=None, workers=2)
    for _ in range(10):
        slow.learn(slow.next(), slow.next() * 0.01, 0)
        large.weigh(large.next(), large.next() * 1_000_000)
        large.learn(large.next(), large.next() * 1e-6, 0)
    assert slow.next() == 3
    assert large.next() == 4


@pytest.mark.parametrize("chunksize", [0, -1, 1.5, "4", MAX_RECORDS + 1])
def test_a_chunksize_out_of_bounds_is_refused(chunksize: Any) -> None:
    with Pool(executor="sync") as pool, pytest.raises(OptionsError, match="chunksize must be"):
        pool.map(abs, [1], chunksize=chunksize)


def test_the_number_of_workers_is_the_backends_to_give() -> None:
    assert Pool(executor="sync", workers=1).map(abs, [-1]) == [1]
    with pytest.raises(OptionsError, match="'sync' has one worker, not 2"):
        Pool(2, "sync")
    with pytest.raises(OptionsError, match="unknown option 'speed'"):
        Pool(executor="sync", speed=1)


@pytest.mark.parametrize("executor", [ScriptedExecutor, object(), None])
def test_an_executor_is_a_name_or_an_instance(executor: Any) -> None:
    with pytest.raises(UsageError, match="must be the name of a backend or an executor"):
        Pool(executor=executor)


@pytest.mark.parametrize("options", [{"workers": 1}, {"chunksize": 1}])
def test_an_executor_that_is_made_takes_no_options(options: dict[str, Any]) -> None:
    executor: BaseExecutor = ScriptedExecutor()
    with pytest.raises(OptionsError, match="for a backend chosen by name"):
        Pool(executor=executor, **options)


def test_only_functions_can_be_mapped() -> None:
    with Pool(executor="sync") as pool, pytest.raises(UsageError, match="needs a function, not int"):
        pool.map(3, [1])  # type: ignore[call-overload]
