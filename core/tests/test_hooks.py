"""Hooks: their order, their store, what they may return, and what becomes of the records when they fail."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, PlainSerializer

from manyhands import BaseHook, EntryStatus, HookPriority, HookStore
from manyhands.errors import TeardownError, UsageError, WorkerInitError
from manyhands.hooks import check_hook, in_order
from manyhands.records import Entry
from manyhands.worker.context import WorkerContext
from manyhands.worker.encode import JSONEncoder

from .workers import Awaits, Does, Fails, as_list, entries, positions, refusals, run, values, working


class Number(BaseModel):
    a: int


def numbers(*given: Any) -> list[dict[str, Any]]:
    return [{"a": value} for value in given]


def keep_all(given: list[Entry], store: HookStore) -> None:
    pass


async def keep_later(given: list[Entry], store: HookStore) -> None:
    await asyncio.sleep(0)


# Order and the store


@given(st.lists(st.sampled_from([*HookPriority, 10, 60]), max_size=8))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_hooks_run_by_priority_and_then_as_registered(priorities: list[int]) -> None:
    hooks: list[BaseHook] = [Does(keep_all, priority) for priority in priorities]
    ordered = in_order(hooks)
    assert [(hook.priority, hooks.index(hook)) for hook in ordered] == sorted(
        (hook.priority, index) for index, hook in enumerate(hooks)
    )


class Lifecycle(BaseHook):
    def __init__(self, name: str, log: list[str], fail: str = "", *, later: bool = False) -> None:
        super().__init__()
        self.name, self.log, self.fail, self.later = name, log, fail, later

    def _step(self, what: str) -> Any:
        self.log.append(f"{what} {self.name}")
        if self.fail == what:
            raise RuntimeError(f"{what} of {self.name}")

    async def _step_later(self, what: str) -> None:
        await asyncio.sleep(0)
        self._step(what)

    def setup(self, store: HookStore) -> Any:
        store[self.name] = True
        return self._step_later("setup") if self.later else self._step("setup")

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        self.log.append(f"execute {self.name}")

    def teardown(self, store: HookStore) -> Any:
        return self._step_later("teardown") if self.later else self._step("teardown")


@pytest.mark.parametrize("later", [False, True])
def test_setup_and_teardown_run_once_per_worker_and_in_reverse(later: bool) -> None:
    log: list[str] = []
    hooks = [Lifecycle(name, log, later=later) for name in "abc"]
    with working(WorkerContext(pre_hooks=hooks[:2], post_hooks=hooks[2:])) as context:
        for sequence in range(3):
            context.worker.process(as_list(numbers(1, 2), sequence))
    assert log[:3] == ["setup a", "setup b", "setup c"]
    assert log[3:-3] == ["execute a", "execute b", "execute c"] * 3
    assert log[-3:] == ["teardown c", "teardown b", "teardown a"]
    context.teardown()
    assert len(log) == 15


def test_a_hook_that_stands_twice_is_set_up_once() -> None:
    log: list[str] = []
    hook = Lifecycle("a", log)
    run(numbers(1), pre_hooks=[hook, hook], post_hooks=[hook])
    assert log == ["setup a", "execute a", "execute a", "execute a", "teardown a"]


@pytest.mark.parametrize("later", [False, True])
def test_a_failing_setup_names_its_hook_and_tears_down_those_before_it(later: bool) -> None:
    log: list[str] = []
    hooks = [
        Lifecycle("a", log, "teardown"),
        Lifecycle("b", log, later=later),
        Lifecycle("c", log, "setup", later=later),
    ]
    context = WorkerContext(pre_hooks=hooks)
    with pytest.raises(WorkerInitError, match="setup of hook Lifecycle failed: setup of c"):
        context.setup()
    assert log == ["setup a", "setup b", "setup c", "teardown b", "teardown a"]


class CancelsItself(BaseHook):
    async def setup(self, store: HookStore) -> None:
        raise asyncio.CancelledError

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        raise AssertionError


def test_an_async_setup_that_is_cancelled_has_failed() -> None:
    with pytest.raises(WorkerInitError, match="CancelsItself failed: CancelledError"):
        WorkerContext(pre_hooks=[CancelsItself()]).setup()


@pytest.mark.parametrize("later", [False, True])
def test_a_failing_teardown_names_its_hook_and_lets_the_others_run(later: bool) -> None:
    log: list[str] = []
    context = WorkerContext(pre_hooks=[Lifecycle(n, log, "teardown" if n == "b" else "", later=later) for n in "abc"])
    context.setup()
    with pytest.raises(TeardownError, match="teardown of hook Lifecycle failed: teardown of b"):
        context.teardown()
    assert log[3:] == ["teardown c", "teardown b", "teardown a"]


def test_the_store_is_filled_in_setup_and_seen_in_execute_and_teardown() -> None:
    seen: list[dict[str, Any]] = []

    class Uses(BaseHook):
        def setup(self, store: HookStore) -> None:
            store.update({"one": 1}, two=[2])

        def execute(self, entries: list[Entry], store: HookStore) -> None:
            store["two"].append(3)  # the values stay as mutable as they are
            seen.append(dict(store))

        def teardown(self, store: HookStore) -> None:
            store.clear()
            store["three"] = 3
            seen.append(dict(store))

    run(numbers(1), pre_hooks=[Uses()])
    assert seen == [{"one": 1, "two": [2, 3]}, {"three": 3}]


WRITES = {
    "setitem": lambda store: store.__setitem__("k", 1),
    "delitem": lambda store: store.__delitem__("there"),
    "setdefault": lambda store: store.setdefault("k", 1),
    "update": lambda store: store.update(k=1),
    "ior": lambda store: store.__ior__({"k": 1}),
    "pop": lambda store: store.pop("there"),
    "pop of nothing": lambda store: store.pop("k", None),
    "popitem": lambda store: store.popitem(),
    "clear": lambda store: store.clear(),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("kind", [Does, Awaits])
def test_the_store_is_read_only_while_hooks_execute(write: Any, kind: type[Does]) -> None:
    seen: list[dict[str, Any]] = []

    class Fills(BaseHook):
        def setup(self, store: HookStore) -> None:
            store["there"] = 0

        def execute(self, entries: list[Entry], store: HookStore) -> None:
            pass

        def teardown(self, store: HookStore) -> None:
            seen.append(dict(store))

    async def write_later(given: list[Entry], store: HookStore) -> None:
        write(store)

    hook = kind(write_later if kind is Awaits else lambda given, store: write(store))
    result = run(numbers(1), pre_hooks=[hook], post_hooks=[Fills()])
    assert refusals(result) == {
        0: [("HookError", f"{kind.__name__}: the hook store is read-only while hooks execute; fill it in setup()")]
    }
    assert seen == [{"there": 0}]


def test_reading_the_locked_store_is_free() -> None:
    store = HookStore()
    store["k"] = 1
    store.lock()
    assert (store["k"], store.get("x"), store.setdefault("k", 2), list(store), store | {"x": 2}) == (
        1, None, 1, ["k"], {"k": 1, "x": 2},
    )  # fmt: skip
    store.unlock()
    store |= {"x": 3}
    assert store == {"k": 1, "x": 3}


# What a hook is


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (Fails, r"Fails is a class; pass an instance: Fails\(\)"),
        (keep_all, "is no hook: derive its class from manyhands.BaseHook"),
        (BaseHook(), r"BaseHook does not define execute\(entries, store\)"),
        (Does(keep_all, "high"), "priority of hook Does must be a number, not 'high'"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_hook_is_refused(thing: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_hook(thing)


def test_ids_are_positions_or_what_the_person_makes_of_them() -> None:
    rows = as_list(numbers(1, 2), start=40)
    assert [entry["id"] for entry in entries(run(rows))] == [40, 41]
    named = run(rows, id_generator=lambda position: f"r{position}", pre_hooks=[Does(keep_all)])
    assert [(entry["id"], entry["position"]) for entry in entries(named)] == [("r40", 40), ("r41", 41)]


def test_pre_hooks_see_raw_data_and_post_hooks_validated_data() -> None:
    seen: list[Any] = []

    def look(given: list[Entry], store: HookStore) -> None:
        seen.extend((entry["status"], entry["raw_data"], entry["validated_data"]) for entry in given)

    run(numbers("1"), schema_model=Number, pre_hooks=[Does(look)], post_hooks=[Does(look)])
    assert seen == [(EntryStatus.PENDING, {"a": "1"}, None), (EntryStatus.VALIDATED, {"a": "1"}, {"a": 1})]


def test_post_hooks_see_only_what_is_valid() -> None:
    hook = Fails()
    result = run(numbers(1, "x", 3), schema_model=Number, post_hooks=[hook])
    assert hook.seen == [0, 2]
    assert (positions(result), list(refusals(result))) == ([0, 2], [1])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_max_hook_chunk_size_caps_the_batch(size: int) -> None:
    sizes: list[int] = []
    hook = Does(lambda given, store: sizes.append(len(given)))
    result = run(numbers(*range(7)), pre_hooks=[hook], max_hook_chunk_size=size)
    assert sizes == [min(size, 7 - first) for first in range(0, 7, size)]
    assert positions(result) == list(range(7))


@pytest.mark.parametrize("concurrency", [1, 3])
def test_an_async_hook_gets_one_record_at_a_time_and_they_overlap_as_allowed(concurrency: int) -> None:
    running: list[int] = []
    most: Counter[int] = Counter()

    async def watch(given: list[Entry], store: HookStore) -> None:
        running.append(1)
        most[len(given)] = max(most[len(given)], len(running))
        for _ in range(3):
            await asyncio.sleep(0)
        running.pop()

    result = run(numbers(*range(7)), pre_hooks=[Awaits(watch)], concurrency=concurrency)
    assert positions(result) == list(range(7))
    assert most == {1: concurrency}


def test_async_hooks_of_one_worker_share_one_loop() -> None:
    loops: set[int] = set()

    async def note(given: list[Entry], store: HookStore) -> None:
        loops.add(id(asyncio.get_running_loop()))

    with working(WorkerContext(pre_hooks=[Awaits(note)], post_hooks=[Awaits(note)])) as context:
        for sequence in range(3):
            context.worker.process(as_list(numbers(1, 2), sequence))
    assert len(loops) == 1


def test_sync_and_async_hooks_may_take_turns() -> None:
    async def double(given: list[Entry], store: HookStore) -> None:
        await asyncio.sleep(0)
        given[0]["raw_data"]["a"] *= 2

    def add(given: list[Entry], store: HookStore) -> None:
        for entry in given:
            entry["raw_data"]["a"] += 1

    result = run(numbers(1, 2), schema_model=Number, pre_hooks=[Does(add), Awaits(double), Does(add)])
    assert values(result) == numbers(5, 7)


class Aside(BaseException):
    """As the timeouts of some libraries are: no Exception."""


@pytest.mark.parametrize("raised", [Aside("too slow"), GeneratorExit("too slow"), SystemExit("too slow")])
@pytest.mark.parametrize("kind", [Does, Awaits])
def test_whatever_a_hook_raises_fails_only_its_record(raised: BaseException, kind: type[Does]) -> None:
    def check(given: list[Entry]) -> None:
        if any(entry["position"] == 1 for entry in given):
            raise raised

    async def check_later(given: list[Entry], store: HookStore) -> None:
        await asyncio.sleep(0)
        check(given)

    hook = Awaits(check_later) if kind is Awaits else Does(lambda given, store: check(given))
    for concurrency in (1, 3):
        result = run(numbers(0, 1, 2), pre_hooks=[hook], concurrency=concurrency)
        assert positions(result) == [0, 2]
        ((_, message),) = refusals(result)[1]
        assert "too slow" in message


@pytest.mark.parametrize("raised", [Aside("too slow"), GeneratorExit("too slow")])
def test_whatever_a_validator_or_serializer_raises_fails_only_its_record(raised: BaseException) -> None:
    def check(value: int) -> int:
        if value == 1:
            raise raised
        return value

    class Checks(BaseModel):
        a: Annotated[int, AfterValidator(check)]

    class Writes(BaseModel):
        a: Annotated[int, PlainSerializer(check)]

    for model in (Checks, Writes):
        result = run(numbers(0, 1, 2), schema_model=model, encoder=JSONEncoder())
        assert (result.ok, list(refusals(result))) == (2, [1])


def test_an_interrupt_from_the_keyboard_is_no_failure_of_a_record() -> None:
    def interrupt(given: list[Entry], store: HookStore) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(numbers(0, 1), pre_hooks=[Does(interrupt)])


@pytest.mark.parametrize("name", ["setup", "teardown"])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyError("host"), "KeyError: 'host'"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyError(), "failed: KeyError"),
        (ValueError("no host"), "failed: no host"),
    ],
)
def test_a_mistake_in_setup_or_teardown_is_told_with_its_type(name: str, error: BaseException, told: str) -> None:
    class Broken(BaseHook):
        def execute(self, entries: list[Entry], store: HookStore) -> None:
            pass

    def fail(_: HookStore) -> None:
        raise error

    hook = Broken()
    setattr(hook, name, fail)
    context = WorkerContext(pre_hooks=[hook])
    if name == "teardown":
        context.setup()
    with pytest.raises(WorkerInitError if name == "setup" else TeardownError, match=f"{name} of hook .*{told}$"):
        getattr(context, name)()


def test_a_setup_that_raises_no_exception_fails_the_worker() -> None:
    class Broken(BaseHook):
        def setup(self, store: HookStore) -> None:
            raise Aside("too slow")

        def execute(self, entries: list[Entry], store: HookStore) -> None:
            pass

    with pytest.raises(WorkerInitError, match="setup of hook Broken failed: too slow"):
        WorkerContext(pre_hooks=[Broken()]).setup()
