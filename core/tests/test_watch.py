"""Time limits: when a record or a chunk is late, and what follows from it."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands import IterableInputAdapter, Pipe, RunOptions
from manyhands.chunks import Chunk, ChunkKind, ChunkResult
from manyhands.driver import watch
from manyhands.driver.blame import Budget, Verdict, judge_timeout
from manyhands.driver.ledger import Attempt
from manyhands.driver.watch import Watch, check_limits
from manyhands.errors import OptionsError, RecordTimeout, UsageError
from manyhands.executor import Capabilities, Progress
from manyhands_sync import SyncFifoExecutor

from .support import ScriptedExecutor

PURE = settings(derandomize=True, deadline=None, max_examples=50)


def attempt(lo: int = 0, hi: int = 100, **charged: int) -> Attempt:
    return Attempt(Chunk(0, 0, 100, ChunkKind.LIST, list(range(100)), lo=lo, hi=hi), **charged)


class Places:
    """An executor of which only the places of its workers are asked."""

    def __init__(self, *, tells: bool = True) -> None:
        self.capabilities = Capabilities(concurrent=True, reports_progress=tells)
        self.at: dict[Any, Progress] = {}

    def progress(self, future: Any) -> Progress | None:
        return self.at.get(future)


class Watched:
    """A watch, its clock and what it looks at: futures are names."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, tells: bool = True, **limits: float) -> None:
        self.executor = Places(tells=tells)
        executor: Any = self.executor
        self.watch = Watch(executor, RunOptions(**limits))  # type: ignore[arg-type]
        self.running = {"a": attempt()}
        self.now = 100.0
        monkeypatch.setattr(watch, "monotonic", lambda: self.now)

    def be_at(self, stage: str, lo: int, hi: int | None = None, call: int = 0, future: str = "a") -> None:
        """The worker of a chunk is at these records."""
        self.executor.at[future] = Progress(stage, lo, lo + 1 if hi is None else hi, call)

    def late_after(self, seconds: float) -> list[tuple[str, list[tuple[int, int]], str, str]]:
        """Who is late after so long: which chunk, which records, where, and by which limit."""
        self.now += seconds
        return [
            (future, list(late.records), late.stage, late.limit)
            for future, late, _ in self.watch.overdue(self.running)  # type: ignore[arg-type]
        ]


def test_who_has_no_limit_looks_at_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    watched.be_at("pre", 3)
    assert watched.watch.period is None
    assert watched.late_after(1e6) == []


@pytest.mark.parametrize(
    ("limits", "period"),
    [
        ({"record_timeout": 60}, 0.05),
        ({"record_timeout": 0.1}, 0.005),
        ({"record_timeout": 60, "chunk_timeout": 0.2}, 0.01),
    ],
)
def test_looks_are_short_beside_the_limits(
    limits: dict[str, float], period: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Watched(monkeypatch, **limits).watch.period == pytest.approx(period)


def test_a_record_is_late_when_it_was_seen_for_longer_than_it_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, record_timeout=1.0)
    watched.be_at("validate", 7)
    assert watched.late_after(0.0) == []
    assert watched.late_after(0.9) == []
    assert watched.late_after(0.2) == [("a", [(7, 8)], "validate", "record_timeout")]


@pytest.mark.parametrize("stage", ["pre", "validate", "post", "call"])
def test_a_batch_is_late_as_one(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, record_timeout=1.0)
    watched.be_at(stage, 10, 20)
    assert watched.late_after(0.0) == []
    assert watched.late_after(1.1) == [("a", [(10, 20)], stage, "record_timeout")]


@pytest.mark.parametrize("stage", ["unpack", "pack"])
def test_reading_and_writing_a_chunk_is_no_time_of_a_record(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, record_timeout=1.0, chunk_timeout=3.0)
    watched.be_at(stage, 0, 100)
    assert watched.late_after(0.0) == watched.late_after(2.0) == []
    assert watched.late_after(1.1) == [("a", [(0, 100)], stage, "chunk_timeout")]


@pytest.mark.parametrize("move", [("validate", 8, 0), ("pre", 7, 0), ("validate", 7, 1)], ids=["on", "in", "again"])
def test_another_record_stage_or_call_begins_anew(move: tuple[str, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, record_timeout=1.0)
    watched.be_at("validate", 7)
    assert watched.late_after(0.0) == []
    stage, index, call = move
    watched.be_at(stage, index, call=call)
    assert watched.late_after(0.9) == watched.late_after(0.9) == []
    assert watched.late_after(0.2) == [("a", [(index, index + 1)], stage, "record_timeout")]


def test_a_chunk_is_late_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, record_timeout=1.0, chunk_timeout=2.0)
    for index in range(4):
        watched.be_at("validate", index)
        assert watched.late_after(0.5) == []
    watched.be_at("validate", 4)
    assert watched.late_after(0.6) == [("a", [(0, 100)], "validate", "chunk_timeout")]


def test_a_chunk_that_waits_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, record_timeout=1.0, chunk_timeout=1.0)
    assert watched.late_after(0.0) == watched.late_after(50.0) == []
    watched.be_at("pre", 0)
    assert watched.late_after(0.1) == watched.late_after(0.9) == []
    assert len(watched.late_after(0.2)) == 1


@pytest.mark.parametrize(("lo", "hi"), [(3, 4), (0, 100)])
def test_of_calls_that_overlap_only_the_chunk_is_timed(lo: int, hi: int, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, record_timeout=1.0, chunk_timeout=5.0)
    watched.executor.at["a"] = Progress("pre", lo, hi, overlap=True)
    assert watched.late_after(0.0) == watched.late_after(4.9) == []
    assert watched.late_after(0.2) == [("a", [(0, 100)], "pre", "chunk_timeout")]


def test_the_serializers_of_one_record_have_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, record_timeout=1.0)
    watched.be_at("pack", 7)
    assert watched.late_after(0.0) == []
    assert watched.late_after(1.1) == [("a", [(7, 8)], "pack", "record_timeout")]


def test_between_two_records_only_the_chunk_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has just ended is at no record."""
    watched = Watched(monkeypatch, record_timeout=1.0, chunk_timeout=5.0)
    watched.be_at("pre", 0)
    assert watched.late_after(0.0) == []
    watched.executor.at.clear()
    assert watched.late_after(2.0) == watched.late_after(2.0) == []
    assert watched.late_after(1.1) == [("a", [(0, 100)], "unknown", "chunk_timeout")]


def blind(monkeypatch: pytest.MonkeyPatch, count: int = 1) -> tuple[Watched, list[Future[ChunkResult]]]:
    """An executor that does not tell where its workers are, with so many chunks, each of which may take a second."""
    watched, futures = (
        Watched(monkeypatch, tells=False, chunk_timeout=1.0),
        [Future[ChunkResult]() for _ in range(count)],
    )
    running: Any = {future: attempt() for future in futures}
    watched.running = running
    return watched, futures


def test_where_no_progress_is_told_a_chunk_is_timed_from_its_submission(monkeypatch: pytest.MonkeyPatch) -> None:
    watched, (future,) = blind(monkeypatch)
    assert watched.late_after(0.0) == watched.late_after(0.9) == []
    assert watched.late_after(0.2) == [(future, [(0, 100)], "unknown", "chunk_timeout")]


def test_where_futures_tell_what_has_begun_a_chunk_is_timed_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    watched, (first, second) = blind(monkeypatch, 2)
    first.set_running_or_notify_cancel()
    assert watched.late_after(0.0) == watched.late_after(0.9) == []
    assert watched.late_after(0.2) == [(first, [(0, 100)], "unknown", "chunk_timeout")]
    del watched.running[first]  # type: ignore[arg-type]  # futures are names elsewhere
    assert watched.late_after(50.0) == []
    second.set_running_or_notify_cancel()
    assert watched.late_after(0.1) == watched.late_after(0.9) == []
    assert watched.late_after(0.2) == [(second, [(0, 100)], "unknown", "chunk_timeout")]


def test_a_future_that_is_seen_running_once_does_not_tell_when_others_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some executors let it run as they give it its result, and not before."""
    watched, (first, second) = blind(monkeypatch, 2)
    first.set_running_or_notify_cancel()
    assert watched.late_after(0.0) == []
    del watched.running[first]  # type: ignore[arg-type]  # as above
    assert watched.late_after(1.1) == [(second, [(0, 100)], "unknown", "chunk_timeout")]


def test_each_chunk_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, record_timeout=1.0)
    watched.be_at("pre", 0)
    watched.late_after(0.0)
    watched.running["b"] = attempt(40, 60)
    watched.be_at("pre", 30, 80, future="b")
    assert watched.late_after(0.6) == []
    assert watched.late_after(0.6) == [("a", [(0, 1)], "pre", "record_timeout")]
    del watched.running["a"]
    assert watched.late_after(0.6) == [("b", [(40, 60)], "pre", "record_timeout")]


def test_it_looks_no_more_often_than_it_has_to(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, record_timeout=1.0)
    asked: list[Any] = []
    monkeypatch.setattr(watched.executor, "progress", asked.append)
    for _ in range(100):
        watched.late_after(0.01)
    assert 20 <= len(asked) <= 26


# Options.


@pytest.mark.parametrize("options", [{"record_timeout": 1.0}, {"chunk_timeout": 1.0}])
def test_an_executor_that_runs_records_in_the_thread_that_would_look_is_refused(options: dict[str, float]) -> None:
    executor: Any = SyncFifoExecutor()
    with pytest.raises(OptionsError, match=r"record_timeout and chunk_timeout need a backend .* threads or multiproc"):
        check_limits(executor, RunOptions(**options))  # type: ignore[arg-type]
    with pytest.raises(OptionsError, match="leave them out"):
        Pipe(IterableInputAdapter([]), executor=executor, options=RunOptions(**options)).run()  # type: ignore[arg-type]
    check_limits(executor, RunOptions(timeout_retries=3))
    check_limits(ScriptedExecutor(), RunOptions(**options))  # type: ignore[arg-type]


def test_an_executor_that_cannot_tell_the_record_is_refused_a_limit_for_records() -> None:
    executor = ScriptedExecutor(progress=False)
    with pytest.raises(OptionsError, match=r"record_timeout needs a backend that reports progress.* use chunk_timeout"):
        check_limits(executor, RunOptions(record_timeout=1.0, chunk_timeout=5.0))
    check_limits(executor, RunOptions(chunk_timeout=5.0, timeout_retries=1))


@pytest.mark.parametrize("name", ["record_timeout", "chunk_timeout"])
@pytest.mark.parametrize("value", [0, -1, "1", float("nan")])
def test_a_time_that_is_none_is_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{name} must be None or a number of seconds above 0, not "):
        RunOptions(**{name: value})


@pytest.mark.parametrize("value", [-1, 1.5, "1"])
def test_a_count_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="timeout_retries must be a number from 0, not "):
        RunOptions(timeout_retries=value)


# What follows.


def late(*records: tuple[int, int]) -> RecordTimeout:
    return RecordTimeout(list(records), "pre")


def ranges(verdict: Verdict) -> list[tuple[int, int, int]]:
    return [(again.chunk.lo, again.chunk.hi, again.timeouts) for again in verdict.again]


def test_a_late_record_is_given_up_at_once_and_the_others_run_again() -> None:
    verdict = judge_timeout(attempt(10, 20), late((13, 14)), Budget())
    assert verdict.given_up == [(13, 14)]
    assert ranges(verdict) == [(10, 13, 0), (14, 20, 0)]


def test_it_is_tried_again_as_often_as_asked() -> None:
    budget = Budget(timeouts=2)
    assert ranges(judge_timeout(attempt(3, 4), late((3, 4)), budget)) == [(3, 4, 1)]
    assert ranges(judge_timeout(attempt(3, 4, timeouts=1), late((3, 4)), budget)) == [(3, 4, 2)]
    assert judge_timeout(attempt(3, 4, timeouts=2), late((3, 4)), budget) == Verdict(given_up=[(3, 4)])


def test_several_late_records_are_narrowed_down_by_sixteenths() -> None:
    verdict = judge_timeout(attempt(0, 100), late((0, 100)), Budget())
    sizes = [again.chunk.size for again in verdict.again]
    assert len(sizes) == 16
    assert sum(sizes) == 100
    assert set(sizes) == {6, 7}
    assert ranges(judge_timeout(attempt(0, 3), late((0, 3)), Budget())) == [(0, 1, 0), (1, 2, 0), (2, 3, 0)]


def test_calls_that_overlapped_are_given_up_each() -> None:
    verdict = judge_timeout(attempt(0, 10), late((2, 3), (7, 8)), Budget())
    assert verdict.given_up == [(2, 3), (7, 8)]
    assert ranges(verdict) == [(0, 2, 0), (3, 7, 0), (8, 10, 0)]


def test_what_must_not_run_twice_is_given_up_whole() -> None:
    verdict = judge_timeout(attempt(3, 9), late((4, 5)), Budget(timeouts=5, replayable=False))
    assert verdict == Verdict(given_up=[(3, 9)])


def test_other_failures_stay_charged() -> None:
    (again,) = judge_timeout(attempt(3, 4, crashes=1, errors=2), late((3, 4)), Budget(timeouts=1)).again
    assert (again.crashes, again.errors, again.timeouts) == (1, 2, 1)


@PURE
@given(st.data())
def test_no_record_is_lost_doubled_or_tried_for_ever(data: st.DataObject) -> None:
    """Whatever is said to be late, within the range or not: each record is at last given up once."""
    budget = Budget(timeouts=data.draw(st.integers(0, 2)))
    size = data.draw(st.integers(1, 40))
    waiting, given_up, steps = [attempt(0, size)], list[int](), 0
    while waiting:
        steps += 1
        assert steps < 12 * size + 12
        current = waiting.pop()
        chunk = current.chunk
        cuts = sorted(data.draw(st.sets(st.integers(chunk.lo - 3, chunk.hi + 3), min_size=2, max_size=6)))
        spans = list(zip(cuts[::2], cuts[1::2], strict=False))
        verdict = judge_timeout(current, late(*spans), budget)
        covered = [index for again in verdict.again for index in range(again.chunk.lo, again.chunk.hi)]
        dead = [index for span in verdict.given_up for index in range(*span)]
        assert sorted(covered + dead) == list(range(chunk.lo, chunk.hi))
        given_up += dead
        waiting += verdict.again
    assert sorted(given_up) == list(range(size))
