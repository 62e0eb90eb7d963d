"""What hooks return, and that one which fails costs no record but the culprit."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from manyhands import BaseHook, EntryStatus, HookStore
from manyhands.records import Entry
from manyhands.worker.encode import JSONEncoder

from .workers import Awaits, Does, Fails, as_list, as_packed, as_raw, positions, refusals, run, values


class Number(BaseModel):
    a: int


def numbers(*given: Any) -> list[dict[str, Any]]:
    return [{"a": value} for value in given]


def both(execute: Callable[[list[Entry], HookStore], Any]) -> list[BaseHook]:
    async def later(given: list[Entry], store: HookStore) -> Any:
        await asyncio.sleep(0)
        return execute(given, store)

    return [Does(execute), Awaits(later)]


# Returns

KEEPING: dict[str, Callable[[list[Entry]], Any]] = {
    "None": lambda given: None,
    "the same list": lambda given: given,
    "a new list": list,
    "a tuple": tuple,
    "another order": lambda given: given[::-1],
    "copies": lambda given: [{**entry} for entry in given],
}


@pytest.mark.parametrize("returns", KEEPING.values(), ids=KEEPING)
@pytest.mark.parametrize("stage", ["pre_hooks", "post_hooks"])
@pytest.mark.parametrize("is_async", [False, True])
def test_entries_that_come_back_go_on_in_input_order(returns: Any, stage: str, is_async: bool) -> None:
    hook = both(lambda given, store: returns(given))[is_async]
    result = run(numbers(*range(5)), schema_model=Number, **{stage: [hook, Does(lambda given, store: None)]})
    assert values(result) == numbers(*range(5))
    assert (result.ok, result.rejected, result.dropped) == (5, 0, 0)


def test_changes_are_kept_on_entries_and_on_copies() -> None:
    def add(given: list[Entry], store: HookStore) -> None:
        for entry in given:
            entry["raw_data"]["a"] += 1
            entry["metadata"]["seen"] = True

    def copy(given: list[Entry], store: HookStore) -> list[Entry]:
        return [{**entry, "validated_data": {"a": entry["validated_data"]["a"] * 2}} for entry in given]

    assert values(run(numbers(1, 2), schema_model=Number, pre_hooks=[Does(add)], post_hooks=[Does(copy)])) == numbers(
        4, 6
    )


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("stage", ["pre_hooks", "post_hooks"])
def test_entries_that_do_not_come_back_are_dropped(is_async: bool, stage: str) -> None:
    hook = both(lambda given, store: [entry for entry in given if entry["position"] % 2])[is_async]
    result = run(numbers(*range(5)), schema_model=Number, **{stage: [hook]})
    assert (positions(result), result.dropped, result.rejected) == ([1, 3], 3, 0)
    everything = both(lambda given, store: [])[is_async]
    result = run(numbers(*range(5)), schema_model=Number, **{stage: [everything, Fails(0)]})
    assert (result.ok, result.dropped, result.rejected, result.output) == (0, 5, 0, [])


def test_only_what_is_returned_drops_entries_not_what_is_done_to_the_list() -> None:
    result = run(numbers(1, 2), pre_hooks=[Does(lambda given, store: given.clear())])
    assert (result.ok, result.dropped) == (2, 0)


def test_a_hook_that_empties_its_list_and_fails_loses_no_record() -> None:
    def consume(given: list[Entry], store: HookStore) -> None:
        while given:
            given.pop()
        raise RuntimeError("done")

    result = run(numbers(1, 2, 3), pre_hooks=[Does(consume, replay=False)])
    assert (result.rejected, result.dropped) == (3, 0)


FOREIGN = "execute() returned an entry that it was not given"
NO_ENTRY = "execute() left something that is no entry: every entry keeps its keys"
STRANGE: dict[str, tuple[Callable[[list[Entry]], Any], str]] = {
    "a number": (lambda given: 5, "execute() must return a list of entries or None, not int"),
    "a dict": (lambda given: given[0], "execute() must return a list of entries or None, not dict"),
    "a generator": (lambda given: (e for e in given), "execute() must return a list of entries or None, not generator"),
    "twice": (lambda given: [*given, given[0]], "execute() returned the entry at position 7 twice"),
    "a foreign one": (lambda given: [{**given[0], "position": 99}], FOREIGN),
    "a record": (lambda given: [{"a": 1}], NO_ENTRY),
    "None inside": (lambda given: [None], NO_ENTRY),
    "a moved one": (lambda given: given[0].update(position=8), FOREIGN),
    "a lost key": (lambda given: given[0].clear(), NO_ENTRY),
    "no errors": (lambda given: given[0].update(errors=None), "execute() left an entry whose errors are no list"),
}  # fmt: skip


@pytest.mark.parametrize(("returns", "words"), STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("is_async", [False, True])
def test_what_a_hook_must_not_return_is_its_error(returns: Any, words: str, is_async: bool) -> None:
    hook = both(lambda given, store: returns(given))[is_async]
    result = run(as_list(numbers(1), start=7), schema_model=Number, pre_hooks=[hook], post_hooks=[Fails(7)])
    assert refusals(result) == {7: [("HookError", f"{type(hook).__name__}: {words}")]}


@pytest.mark.parametrize("replay", [False, True])
def test_swapped_positions_do_not_mix_up_records(replay: bool) -> None:
    def swap(given: list[Entry], store: HookStore) -> list[Entry]:
        if len(given) > 1:
            given[0]["position"], given[1]["position"] = 1, 0
        raise RuntimeError("swapped")

    result = run(numbers("x", "y"), pre_hooks=[Does(swap, replay=replay)])
    assert isinstance(result.errors, list)
    assert [(record["position"], record["raw_data"]) for record in result.errors] == [(0, {"a": "x"}), (1, {"a": "y"})]


# Failures


@pytest.mark.parametrize("stage", ["pre_hooks", "post_hooks"])
def test_a_raising_hook_rejects_with_its_name_and_words(stage: str) -> None:
    result = run(numbers(1, 2, 3), schema_model=Number, **{stage: [Fails(1)]})
    assert isinstance(result.errors, list)
    (record,) = result.errors
    assert record["errors"] == [{"type": "HookError", "message": "Fails: no 1", "loc": []}]
    assert (record["position"], record["outcome"], record["raw_data"]) == (1, "rejected", {"a": 2})
    assert positions(result) == [0, 2]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("v"), "v"), (KeyError("k"), "KeyError: 'k'"),
        (RuntimeError(), "RuntimeError"), (SystemExit(3), "SystemExit: 3"),
        (StopIteration(), "StopIteration"), (asyncio.CancelledError(), "CancelledError"),
        (ValueError("at 0x7f00aa"), "at 0x…"), (MemoryError(), "MemoryError"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_async", [False, True])
def test_whatever_a_hook_raises_rejects_its_record_alone(error: BaseException, words: str, is_async: bool) -> None:
    def fail(given: list[Entry], store: HookStore) -> None:
        if any(entry["position"] == 1 for entry in given):
            raise error

    if is_async and isinstance(error, StopIteration):
        words = "coroutine raised StopIteration"  # Python does not let it out of a coroutine
    hook = both(fail)[is_async]
    result = run(numbers(1, 2, 3), schema_model=Number, pre_hooks=[hook])
    assert (positions(result), refusals(result)) == ([0, 2], {1: [("HookError", f"{type(hook).__name__}: {words}")]})


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_exception_without_words_is_told_by_its_type() -> None:
    def fail(given: list[Entry], store: HookStore) -> None:
        raise Unspeakable

    assert refusals(run(numbers(1), pre_hooks=[Does(fail)])) == {0: [("HookError", "Does: Unspeakable")]}


def test_failed_entries_skip_what_follows() -> None:
    after, later = Fails(), Fails()
    result = run(numbers(1, 2, 3), schema_model=Number, pre_hooks=[Fails(1), after], post_hooks=[later])
    assert 1 not in after.seen
    assert 1 not in later.seen
    assert list(refusals(result)) == [1]


@pytest.mark.parametrize("status", [EntryStatus.FAILED, "failed"])
@pytest.mark.parametrize("stage", ["pre_hooks", "post_hooks"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_hook_may_fail_an_entry_itself(status: Any, stage: str, is_async: bool) -> None:
    def refuse(given: list[Entry], store: HookStore) -> None:
        for entry in given:
            if entry["position"] == 1:
                entry["status"] = status
                entry["errors"].append({"type": "mine", "message": "no"})
                entry["metadata"]["why"] = "mine"

    after = Fails()
    result = run(numbers(1, 2, 3), schema_model=Number, **{stage: [both(refuse)[is_async], after]})
    assert (positions(result), after.seen, refusals(result)) == ([0, 2], [0, 2], {1: [("mine", "no")]})
    assert isinstance(result.errors, list)
    assert result.errors[0]["metadata"] == {"why": "mine"}


@given(
    bad=st.sets(st.integers(0, 11)),
    worse=st.sets(st.integers(0, 11)),
    invalid=st.sets(st.integers(0, 11)),
    size=st.one_of(st.none(), st.integers(1, 12)),
    packing=st.sampled_from([as_list, as_packed]),
    post=st.booleans(),
)
@settings(derandomize=True, deadline=None, max_examples=100)
def test_only_the_culprits_fail_and_innocents_run_at_most_twice(
    *, bad: set[int], worse: set[int], invalid: set[int], size: int | None, packing: Any, post: bool
) -> None:
    hooks = [Fails(*bad), Fails(*worse)]
    rows = [{"a": "x" if index in invalid else index} for index in range(12)]
    stages = {"pre_hooks": hooks[:1], "post_hooks": hooks[1:]} if post else {"pre_hooks": hooks}
    result = run(packing(rows), schema_model=Number, max_hook_chunk_size=size, **stages)
    assert positions(result) == sorted(set(range(12)) - bad - worse - invalid)
    assert set(refusals(result)) == bad | worse | invalid
    assert all(max(Counter(hook.seen).values(), default=0) <= 2 for hook in hooks)
    assert isinstance(result.errors, list)
    assert all(record["raw_data"] == rows[record["position"]] for record in result.errors)


@pytest.mark.parametrize("packing", [as_list, as_packed])
def test_a_replay_starts_from_untouched_data(packing: Any) -> None:
    hook = Fails(2)
    result = run(packing(numbers(1, 2, 3)), pre_hooks=[hook])
    assert hook.seen == [0, 1, 2, 0, 1, 2]
    assert values(result) == [{"a": 1, "touched": 1}, {"a": 2, "touched": 1}]


def test_the_persons_own_rows_are_not_what_hooks_change() -> None:
    rows = numbers(1, 2)
    run(rows, pre_hooks=[Fails(1)])
    assert rows == numbers(1, 2)


@pytest.mark.parametrize("size", [None, 2])
def test_a_hook_that_must_not_run_again_has_its_whole_batch_rejected(size: int | None) -> None:
    hook = Fails(1, replay=False)
    result = run(numbers(1, 2, 3), pre_hooks=[hook], max_hook_chunk_size=size)
    lost = 3 if size is None else size
    assert refusals(result) == {position: [("HookError", "Fails: no 1")] for position in range(lost)}
    assert max(Counter(hook.seen).values()) == 1


def test_nothing_is_replayed_behind_a_hook_that_must_not_run_again() -> None:
    once, raiser, before = Fails(replay=False), Fails(1), Fails(0)
    result = run(numbers(1, 2, 3), schema_model=Number, pre_hooks=[before, once], post_hooks=[raiser])
    assert refusals(result) == {
        0: [("HookError", "Fails: no 0")],
        1: [("HookError", "Fails: no 1")],  # alone, because the first hook's failure had set off the replay
    }
    assert max(Counter(once.seen).values()) == 1
    raiser = Fails(1)
    result = run(numbers(1, 2, 3), schema_model=Number, pre_hooks=[once], post_hooks=[raiser])
    assert set(refusals(result)) == {0, 1, 2}


def test_a_hook_that_stands_on_both_sides_of_one_that_must_not_run_again_replays_nothing() -> None:
    seen: Counter[str] = Counter()

    def fail_late(given: list[Entry], store: HookStore) -> None:
        if given[0]["status"] is EntryStatus.VALIDATED:
            raise RuntimeError("late")

    def count(given: list[Entry], store: HookStore) -> None:
        seen.update(str(entry["position"]) for entry in given)

    twice = Does(fail_late)
    result = run(numbers(1, 2), schema_model=Number, pre_hooks=[twice, Does(count, replay=False)], post_hooks=[twice])
    assert seen == {"0": 1, "1": 1}
    assert set(refusals(result)) == {0, 1}


def test_a_failing_async_hook_sets_off_no_replay() -> None:
    seen: list[int] = []

    async def fail(given: list[Entry], store: HookStore) -> None:
        seen.append(given[0]["position"])
        if given[0]["position"] == 1:
            raise RuntimeError("no")

    result = run(numbers(1, 2, 3), pre_hooks=[Awaits(fail, replay=False)], concurrency=2)
    assert (sorted(seen), positions(result)) == ([0, 1, 2], [0, 2])


def test_many_failing_batches_decode_their_chunk_once_more_not_once_each() -> None:
    decoded: list[int] = []

    class Decoder:
        def rows(self, block: bytes) -> list[Any]:
            decoded.append(1)
            return numbers(*range(40))

        def lines(self, block: bytes) -> list[int]:
            return list(range(40))

    hook = Fails(*range(40))
    result = run(as_raw(b"...", 40), pre_hooks=[hook], decoder=Decoder(), max_hook_chunk_size=2, encoder=JSONEncoder())
    assert result.rejected == 40
    assert len(decoded) == 3  # for the run, for the replays, for the error records
