"""Which seat gets which chunk, and what becomes of chunks that come back, with workers that only take notes."""

from __future__ import annotations

from concurrent.futures import Future, wait
from typing import Any

import pytest

from manyhands import Chunk, ChunkKind
from manyhands.errors import ExecutorBroken, WorkerLost
from manyhands_dask.dispatch import AHEAD, Dispatch
from manyhands_dask.tasks import Seat, State, Task


class Hand:
    """A worker whose seats are ready."""

    def __init__(self, *, to_blame: bool = True) -> None:
        self.seats = [Seat(0, State.READY)]
        self.recalled: list[int] = []
        self._to_blame = to_blame

    def give(self, task: Task, seat: Seat) -> None:
        task.hand, task.seat = self, seat
        seat.held.append(task)

    def recall(self, task: Task) -> None:
        self.recalled.append(task.chunk.sequence)

    def is_to_blame(self, task: Task) -> bool:
        return self._to_blame

    def lost(self, task: Task) -> WorkerLost:
        return WorkerLost(1)

    @property
    def held(self) -> list[int]:
        return [task.chunk.sequence for task in self.seats[0].held]


class Run:
    """Chunks, numbered from 0, and the workers that take them."""

    def __init__(self, chunks: int, *hands: Hand) -> None:
        self.hands: dict[str, Any] = {str(number): hand for number, hand in enumerate(hands)}
        self.chunks = Dispatch(self.hands)
        self.futures = [self.submit(number) for number in range(chunks)]

    def submit(self, number: int) -> Future[Any]:
        future: Future[Any] = Future()
        self.chunks.submit(Chunk(number, number, 1, ChunkKind.PACKED, b""), future)
        return future

    def task(self, number: int) -> Task:
        return self.chunks.tasks[self.futures[number]]

    def lose(self, hand: Hand) -> None:
        self.hands.pop(next(name for name, each in self.hands.items() if each is hand))
        self.chunks.lose(hand)


def was_told(future: Future[Any]) -> bool:
    """Whoever waits for a future that is cancelled wakes up."""
    return future.cancelled() and bool(wait([future], 0).done)


def test_seats_that_have_least_are_served_first_and_the_rest_waits() -> None:
    one, other = Hand(), Hand()
    run = Run(2 * (1 + AHEAD) + 1, one, other)
    assert (one.held, other.held) == ([0, 2], [1, 3])
    assert run.task(4).hand is None


def test_a_seat_without_work_is_given_what_waits_elsewhere() -> None:
    busy = Hand()
    run = Run(2, busy)
    run.hands["idle"] = Hand()
    run.chunks.hand_out()
    assert busy.recalled == [1]


def test_what_a_lost_worker_had_begun_is_lost_and_the_rest_keeps_its_order() -> None:
    lost, other = Hand(), Hand()
    run = Run(3, lost)
    run.task(0).begin()
    run.lose(lost)
    assert isinstance(run.futures[0].exception(0), WorkerLost)
    run.hands["other"] = other
    run.chunks.hand_out()
    assert other.held == [1, 2]


def test_what_is_not_to_blame_begins_a_second_time() -> None:
    lost, other = Hand(to_blame=False), Hand()
    run = Run(1, lost)
    run.task(0).begin()
    run.lose(lost)
    run.hands["other"] = other
    run.chunks.hand_out()
    assert other.held == [0]
    run.task(0).begin()
    run.lose(other)
    assert isinstance(run.futures[0].exception(0), WorkerLost)


def test_what_waits_is_cancelled_when_it_is_evicted() -> None:
    run = Run(1)
    run.chunks.evict(run.futures[0])
    assert was_told(run.futures[0])
    assert run.chunks.is_idle


def test_what_had_begun_elsewhere_cannot_be_cancelled_and_waits_on() -> None:
    lost = Hand(to_blame=False)
    run = Run(1, lost)
    run.task(0).begin()
    run.lose(lost)
    run.chunks.evict(run.futures[0])
    assert run.futures[0].running()
    assert run.task(0).hand is None


@pytest.mark.parametrize("begun", [True, False])
def test_a_chunk_that_somebody_has_cancelled_is_not_run_again(*, begun: bool) -> None:
    hand = Hand()
    run = Run(1, hand)
    assert run.futures[0].cancel()
    if begun:
        run.task(0).begin()
    run.lose(hand)
    assert was_told(run.futures[0])
    assert run.chunks.is_idle


def test_with_the_run_what_has_not_begun_is_cancelled_when_its_worker_says_so() -> None:
    hand = Hand()
    run = Run(3, hand)
    run.task(0).begin()
    run.chunks.cancel()
    assert was_told(run.futures[2])
    assert hand.recalled == [1]
    assert not run.futures[1].done()
    run.chunks.take_back(run.task(1))
    assert was_told(run.futures[1])
    assert run.futures[0].running()


def test_at_the_end_nothing_is_left_open() -> None:
    hand = Hand()
    run = Run(3, hand)
    run.task(0).begin()
    run.chunks.fail_all(ExecutorBroken("over"))
    late = run.submit(3)
    assert all(isinstance(future.exception(0), ExecutorBroken) for future in [*run.futures, late])
    assert run.chunks.is_idle
