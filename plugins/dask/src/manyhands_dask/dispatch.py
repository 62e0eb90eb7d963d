"""The chunks of a run: which seat gets the next one, and what becomes of those that come back."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

from manyhands_dask.tasks import Seat, State, Task

if TYPE_CHECKING:
    from manyhands.chunks import Chunk, ChunkResult
    from manyhands.errors import ManyhandsError
    from manyhands_dask.hand import Hand

AHEAD: Final = 1
"""Chunks that wait in a worker for each seat, so that it is never idle."""


class Dispatch:
    """Only for the thread of the event loop, but for `tasks`, which others may look into.

    Args:
        hands: the workers, as of now.
    """

    def __init__(self, hands: Mapping[str, Hand]) -> None:
        self._hands = hands
        self._queue: deque[Task] = deque()
        self._is_cancelled = False
        self._error: ManyhandsError | None = None
        self.tasks: dict[Future[ChunkResult], Task] = {}

    @property
    def is_idle(self) -> bool:
        """Every chunk is settled."""
        return not self.tasks

    def submit(self, chunk: Chunk, future: Future[ChunkResult]) -> None:
        """Run a chunk as soon as a seat is free."""
        task = Task(chunk, future)
        if self._error is not None:
            task.fail(self._error)
            return
        self.tasks[future] = task
        self._queue.append(task)
        self.hand_out()

    def hand_out(self) -> None:
        """Give chunks to those seats that have least."""
        while self._queue and not self._is_cancelled:
            place = self._freest()
            if place is None:
                return
            task = self._queue.popleft()
            if task.future.cancelled():
                self._drop(task)
            else:
                place[0].give(task, place[1])
        self._share()

    def evict(self, future: Future[ChunkResult]) -> None:
        """Kill what runs a chunk; one that has not begun is cancelled."""
        task = self.tasks.get(future)
        if task is None or future.done():
            return
        if task.hand is not None:
            task.hand.evict(task)
            return
        if not task.future.running():
            self._queue.remove(task)
            self._drop(task)

    def cancel(self) -> None:
        """Run nothing that has not begun."""
        self._is_cancelled = True
        for task in [*self.tasks.values()]:
            if task.hand is None:
                self._drop(task)
            elif not task.has_begun:
                task.hand.recall(task)
        self._queue.clear()

    def fail_all(self, error: ManyhandsError) -> None:
        """Nothing runs any more, and nothing ever will."""
        self._error = error
        for task in [*self.tasks.values()]:
            if not (self._is_cancelled and not task.has_begun and task.cancel()):
                task.fail(error)
        self.tasks.clear()
        self._queue.clear()

    def lose(self, hand: Hand) -> None:
        """A worker has ended: what it is not to be blamed on goes to others."""
        for seat in hand.seats:
            for task in reversed(seat.held):
                if task.has_begun and hand.is_to_blame(task):
                    self.forget(task)
                    task.fail(hand.lost(task))
                else:
                    self.take_back(task)
            seat.held.clear()

    def take_back(self, task: Task) -> None:
        """A chunk is no more where it was, and nothing has come of it there."""
        task.leave()
        if not task.is_wanted:
            self.forget(task)
            return
        if (task.is_evicted or self._is_cancelled or task.future.cancelled()) and self._drop(task):
            return
        task.is_evicted = False
        self._queue.appendleft(task)
        self.hand_out()

    def forget(self, task: Task) -> None:
        """It is settled."""
        self.tasks.pop(task.future, None)

    def _drop(self, task: Task) -> bool:
        if not task.cancel():
            return False
        self.forget(task)
        return True

    def _freest(self) -> tuple[Hand, Seat] | None:
        place = min(self._places(), key=lambda place: len(place[1].held), default=None)
        return None if place is None or len(place[1].held) > AHEAD else place

    def _share(self) -> None:
        """A seat has nothing to do while another has a chunk that waits."""
        places = self._places()
        if any(not seat.held for _, seat in places):
            for hand, seat in places:
                if len(seat.held) > 1 and not seat.held[-1].has_begun:
                    hand.recall(seat.held[-1])

    def _places(self) -> list[tuple[Hand, Seat]]:
        return [(hand, seat) for hand in self._hands.values() for seat in hand.seats if seat.state is State.READY]
