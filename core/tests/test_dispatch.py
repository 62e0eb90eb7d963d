"""The dispatcher alone: evictions, late results, waiting ranges, and what it tells."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from queue import SimpleQueue
from time import monotonic
from typing import Any

import pytest

from manyhands import BaseExecutor, Capabilities, RunOptions
from manyhands.chunks import Chunk, ChunkKind, ChunkResult
from manyhands.driver import dispatch, watch
from manyhands.driver.dispatch import Dispatcher
from manyhands.errors import ProtocolError, RecordTimeout, RunAborted, WorkerInitError, WorkerLost
from manyhands.events import ChunkDone, ChunkFailed, ChunkSubmitted, Event, Observers, RecordDead
from manyhands.executor import Progress
from manyhands.worker.plan import RecordsCancelled

SIZE = 10
Range = tuple[int, int, int]


class Hands(BaseExecutor):
    """An executor whose futures are settled by the test."""

    capabilities = Capabilities(concurrent=True, reports_progress=True)

    def __init__(self, *, slots: int = 2, kills: bool = True) -> None:
        super().__init__()
        self.given: dict[Range, Future[ChunkResult]] = {}
        self.evicted: list[Range] = []
        self.at: dict[Range, Progress] = {}
        self.most = slots
        self._kills = kills

    def start(self, context: Any) -> None:
        pass

    def shutdown(self, *, cancel: bool = False) -> None:
        pass

    def submit(self, chunk: Chunk) -> Future[ChunkResult]:
        return self.given.setdefault((chunk.sequence, chunk.lo, chunk.hi), Future())

    def slots(self) -> int:
        return self.most

    def progress(self, future: Any) -> Progress | None:
        return self.at.get(self._range_of(future))

    def evict(self, future: Any) -> bool:
        self.evicted.append(self._range_of(future))
        return self._kills

    def _range_of(self, future: Any) -> Range:
        return next(name for name, given in self.given.items() if given is future)


class Run:
    """A dispatcher on such an executor, with a clock that the test moves."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        replayable: bool = True,
        slots: int = 2,
        kills: bool = True,
        **run: Any,
    ) -> None:
        self.hands = Hands(slots=slots, kills=kills)
        self.events: list[Event] = []
        self.results: list[ChunkResult] = []
        self.written: list[Range] = []
        self.now = 100.0
        for module in (dispatch, watch):
            monkeypatch.setattr(module, "monotonic", lambda: self.now)
        self.dispatcher = Dispatcher(
            self.hands,
            RunOptions(**run),
            lambda chunk, lo, hi, error: ChunkResult(chunk.sequence, lo, hi),
            replayable=replayable,
            observers=Observers([self.events.append]),
            inbox=SimpleQueue(),
            on_result=self.results.append,
        )
        self._chunks: Iterable[Chunk] = iter(())

    def give(self, chunks: int) -> None:
        """Let so many chunks be read."""
        self._chunks = iter(
            [Chunk(n, n * SIZE, SIZE, ChunkKind.LIST, list(range(SIZE))) for n in range(chunks)],
        )
        self.step()

    def step(self, seconds: float = 0.0) -> None:
        """What the driver does between two waits, so much later."""
        self.now += seconds
        take: Callable[[], Chunk | None] = lambda: next(iter(self._chunks), None)  # noqa: E731
        self.dispatcher.submit_all(take)
        self.dispatcher.settle_all(0)
        self.dispatcher.submit_all(take)
        for entry in self.dispatcher.ledger.pop_complete():
            self.written += [(part.sequence, part.lo, part.hi) for part in entry.in_order()]

    def finish(self, *range_: int) -> None:
        """A range comes back, all of it ok."""
        sequence, lo, hi = range_
        self.hands.given[sequence, lo, hi].set_result(
            ChunkResult(sequence, lo, hi, ok=hi - lo, output=[{}] * (hi - lo))
        )  # type: ignore[typeddict-item]
        self.step()

    def fail(self, error: BaseException, *range_: int) -> None:
        """A range does not."""
        sequence, lo, hi = range_
        self.hands.given[sequence, lo, hi].set_exception(error)
        self.step()

    def be_at(self, index: int, call: int = 0, stage: str = "pre") -> None:
        """The worker of the first chunk is at this record."""
        self.hands.at[0, 0, SIZE] = Progress(stage, index, index + 1, call)

    @property
    def open(self) -> set[Range]:
        """What was submitted and is not settled."""
        return {name for name, future in self.hands.given.items() if not future.done()}

    @property
    def dead(self) -> list[tuple[int, str, str | None, int]]:
        return [(e.position, e.cause, e.stage, e.attempts) for e in self.events if isinstance(e, RecordDead)]

    @property
    def failed(self) -> list[tuple[int, int, int, bool]]:
        return [(e.sequence, e.lo, e.hi, e.began) for e in self.events if isinstance(e, ChunkFailed)]


def late_at_three(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Run:
    """A run whose first chunk was seen at record 3 for longer than a record may take."""
    run = Run(monkeypatch, record_timeout=1.0, **options)
    run.give(1)
    run.be_at(3)
    run.step(0.1)
    assert run.hands.evicted == []
    run.step(1.1)
    assert run.hands.evicted == [(0, 0, SIZE)]
    return run


KILLED = WorkerLost(signal=9, progress=Progress("pre", 3, 4))


def test_a_late_record_is_dead_once_its_worker_is_killed_and_the_others_run_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = late_at_three(monkeypatch)
    assert run.dead == []  # the kill is under way
    run.fail(KILLED, 0, 0, SIZE)
    assert run.dead == [(3, "timeout", "pre", 1)]
    assert run.open == {(0, 0, 3), (0, 4, SIZE)}
    run.finish(0, 4, SIZE)
    run.finish(0, 0, 3)
    assert run.written == [(0, 0, 3), (0, 3, 4), (0, 4, SIZE)]


def test_who_is_being_killed_is_not_killed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    run = late_at_three(monkeypatch)
    run.step(1.0)
    run.step(5.0)
    assert run.hands.evicted == [(0, 0, SIZE)]


@pytest.mark.parametrize("limit", ["record_timeout", "chunk_timeout"])
def test_what_was_seen_before_the_kill_is_told_though_nothing_is_seen_of_a_worker_that_is_gone(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(monkeypatch, replayable=False, **{limit: 1.0})
    run.give(1)
    run.be_at(3)
    run.step(0.1)
    run.step(1.1)
    del run.hands.at[0, 0, SIZE]
    run.step(0.1)
    assert run.hands.evicted == [(0, 0, SIZE)]
    run.fail(KILLED, 0, 0, SIZE)
    assert {(cause, stage) for _, cause, stage, _ in run.dead} == {("timeout", "pre")}


@pytest.mark.parametrize("then", [Progress("pre", 4, 5), Progress("pre", 3, 4, 1), Progress("post", 3, 4)])
def test_who_had_moved_on_when_the_kill_came_is_not_to_blame(then: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    run = late_at_three(monkeypatch)
    again = run.hands.given.pop((0, 0, SIZE))
    again.set_exception(WorkerLost(signal=9, progress=then))
    run.step()
    assert run.dead == []
    assert run.failed == [(0, 0, SIZE, True)]
    assert run.open == {(0, 0, SIZE)}
    run.finish(0, 0, SIZE)
    assert run.written == [(0, 0, SIZE)]


def test_a_result_that_was_there_before_the_kill_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    run = late_at_three(monkeypatch)
    run.finish(0, 0, SIZE)
    assert run.written == [(0, 0, SIZE)]
    assert run.dead == run.failed == []


def test_one_that_is_handed_back_instead_runs_again_uncharged(monkeypatch: pytest.MonkeyPatch) -> None:
    run = late_at_three(monkeypatch)
    run.hands.given.pop((0, 0, SIZE)).cancel()
    run.step()
    assert run.failed == [(0, 0, SIZE, False)]
    run.finish(0, 0, SIZE)
    assert run.written == [(0, 0, SIZE)]


def test_a_crash_at_the_same_time_is_still_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    run = late_at_three(monkeypatch)
    run.fail(WorkerLost(exitcode=3), 0, 0, SIZE)
    assert run.dead == [(3, "timeout", "pre", 1)]


def test_what_cannot_be_killed_is_judged_at_once_and_its_result_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    run = late_at_three(monkeypatch, kills=False)
    assert run.dead == [(3, "timeout", "pre", 1)]
    run.finish(0, 0, SIZE)  # late
    assert run.results == []
    for range_ in ((0, 0, 3), (0, 4, SIZE)):
        run.finish(*range_)
    assert run.written == [(0, 0, 3), (0, 3, 4), (0, 4, SIZE)]
    assert [(result.lo, result.hi) for result in run.results] == [(0, 3), (4, SIZE)]


def test_it_takes_up_a_slot_until_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    run = late_at_three(monkeypatch, kills=False, slots=2)
    assert run.open == {(0, 0, SIZE), (0, 0, 3)}
    run.finish(0, 0, SIZE)
    assert run.open == {(0, 0, 3), (0, 4, SIZE)}


def test_one_that_was_done_when_it_could_not_be_killed_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, kills=False, record_timeout=1.0)
    run.give(1)
    run.be_at(3)
    run.step(0.1)
    evict = run.hands.evict

    def finish_first(future: Any) -> bool:
        future.set_result(ChunkResult(0, 0, SIZE, ok=SIZE, output=[{}] * SIZE))
        return evict(future)

    monkeypatch.setattr(run.hands, "evict", finish_first)
    run.step(1.1)
    run.step()
    assert run.hands.evicted == [(0, 0, SIZE)]
    assert run.written == [(0, 0, SIZE)]
    assert run.dead == []


def test_a_chunk_that_is_late_runs_again_in_sixteenths(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, chunk_timeout=1.0, slots=20)
    run.give(1)
    run.be_at(3, stage="pack")
    run.step(0.1)
    run.step(1.1)
    run.fail(KILLED, 0, 0, SIZE)
    assert run.open == {(0, index, index + 1) for index in range(SIZE)}
    assert run.dead == []


def test_records_that_a_worker_says_were_late_are_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, record_timeout=1.0, slots=5)
    run.give(1)
    run.fail(RecordTimeout([(2, 3), (5, 6)], "post"), 0, 0, SIZE)
    assert run.dead == [(2, "timeout", "post", 1), (5, "timeout", "post", 1)]
    assert run.open == {(0, 0, 2), (0, 3, 5), (0, 6, SIZE)}
    assert run.hands.evicted == []


def test_where_nothing_may_run_twice_a_late_chunk_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    run = late_at_three(monkeypatch, replayable=False)
    run.fail(KILLED, 0, 0, SIZE)
    assert [position for position, *_ in run.dead] == list(range(SIZE))
    assert run.written == [(0, 0, SIZE)]


def test_a_wait_is_cut_short_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing arrives: without a look, the wait would not end."""
    run = Run(monkeypatch, record_timeout=0.1)
    run.give(1)
    before = monotonic()
    run.dispatcher.settle_all(None)
    assert monotonic() - before < 5


def test_the_same_range_waits_before_it_runs_again_and_others_do_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run(monkeypatch, slots=1)
    run.give(2)
    run.hands.given.pop((0, 0, SIZE)).set_exception(WorkerLost(signal=9))
    run.step()
    assert run.open == {(1, 0, SIZE)}
    run.finish(1, 0, SIZE)
    assert run.open == set()
    run.step(0.04)
    assert run.open == set()
    run.step(0.02)
    assert run.open == {(0, 0, SIZE)}
    run.finish(0, 0, SIZE)
    assert run.written == [(0, 0, SIZE), (1, 0, SIZE)]


def test_slots_are_asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, slots=1)
    run.give(5)
    assert len(run.open) == 1
    run.hands.most = 4
    run.step()
    assert len(run.open) == 4
    run.hands.most = 1
    for sequence in range(3):
        run.finish(sequence, 0, SIZE)
        assert len(run.open) == 3 - sequence
    run.finish(3, 0, SIZE)
    assert run.open == {(4, 0, SIZE)}


@pytest.mark.parametrize("slots", [0, -1, 2.0, "2", None])
def test_slots_that_are_no_number_break_the_contract(slots: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, slots=slots)
    with pytest.raises(ProtocolError, match="slots"):
        run.give(1)


def test_what_no_record_is_to_blame_for_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for error, raised in ((RecordsCancelled(), RunAborted), (WorkerInitError("no"), WorkerInitError)):
        run = Run(monkeypatch)
        run.give(1)
        with pytest.raises(raised):
            run.fail(error, 0, 0, SIZE)


def test_what_is_abandoned_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch)
    run.give(2)
    run.dispatcher.abandon()
    assert len(run.dispatcher.ledger) == 0
    for sequence in range(2):
        run.finish(sequence, 0, SIZE)
    assert run.written == []
    assert run.results == []


def test_results_are_told_as_they_come_and_given_out_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, slots=3)
    run.give(3)
    for sequence in (2, 0, 1):
        run.finish(sequence, 0, SIZE)
    assert [result.sequence for result in run.results] == [2, 0, 1]
    assert [event.sequence for event in run.events if isinstance(event, ChunkDone)] == [2, 0, 1]
    assert run.written == [(n, 0, SIZE) for n in range(3)]


def test_every_order_of_a_death_a_timeout_and_a_result_accounts_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three chunks end in three ways, in any order."""
    for order in itertools.permutations(range(3)):
        run = Run(monkeypatch, record_timeout=1.0, slots=20)
        run.give(3)
        run.be_at(3)
        run.step(0.1)
        run.step(1.1)
        for sequence in order:
            if sequence == 0:
                run.fail(KILLED, 0, 0, SIZE)
            elif sequence == 1:
                run.fail(WorkerLost(signal=9, progress=Progress("pre", 5, 6)), 1, 0, SIZE)
            else:
                run.finish(2, 0, SIZE)
        while run.open:
            for range_ in sorted(run.open):
                run.finish(*range_)
            run.step(0.1)
        assert run.written == sorted(run.written)
        assert sum(hi - lo for _, lo, hi in run.written) == 3 * SIZE
        assert [position for position, *_ in run.dead] == [3]
        submitted = [(e.sequence, e.lo, e.hi) for e in run.events if isinstance(e, ChunkSubmitted)]
        assert len(submitted) == len(set(submitted))
