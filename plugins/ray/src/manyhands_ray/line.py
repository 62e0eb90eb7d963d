"""The chunks that one worker has: those of the call that it is at, and those of one that waits for its answer."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic
from typing import Final

from manyhands.chunks import Chunk, ChunkResult
from manyhands_ray.board import Board

Task = tuple[Chunk, Future[ChunkResult]]

_SLOW_SECONDS: Final = 0.05


class Line:
    """They, in the order of their calls.

    Args:
        board: on which the worker reads which call may go on, and says how many chunks it has begun.

    Attributes:
        done: how many have run.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._parcel: list[Task | None] = []  # of the call that it is at; None: taken from it
        self._next: list[Task] = []
        self._calls = self._answers = 0
        self._since = 0.0
        self.done: int = 0

    @property
    def open_calls(self) -> int:
        """Calls that are not answered, one that is skipped among them."""
        return self._calls - self._answers

    @property
    def task(self) -> Task | None:
        """What runs, or is to run first."""
        parcel = self._parcel
        return parcel[min(max(self._begun, 1), len(parcel)) - 1] if parcel else None

    @property
    def sole(self) -> Task | None:
        """What runs, if it is all that its call has: of several, nobody but the supervisor can tell which it is."""
        tasks = [task for task in self._parcel if task is not None]
        return tasks[0] if len(tasks) == 1 else None

    @property
    def seconds(self) -> float:
        """Since its call may go on, and was sent."""
        return monotonic() - self._since

    @property
    def is_slow(self) -> bool:
        """What runs takes longer than another worker would take to begin what waits."""
        return bool(self._parcel) and self.seconds > _SLOW_SECONDS

    def add(self, tasks: list[Task]) -> int:
        """A call with them: it begins if there is no other, else it waits until `go_on`; its number."""
        self._calls += 1
        if self.open_calls > 1:
            self._next = tasks
        else:
            self._begin(tasks)
        return self._calls

    def settle(self, count: int) -> tuple[list[Task | None], list[Task]]:
        """A call is answered.

        Args:
            count: how many of its chunks have run; none, if it was skipped.

        Returns:
            Those, None for each that was taken from it meanwhile; and the others.
        """
        parcel, self._parcel = self._parcel, []
        self.done += count
        self._answers += 1
        return parcel[:count], [task for task in parcel[count:] if task is not None]

    def go_on(self, begin: Callable[[Task], bool]) -> list[Task]:
        """Let what waits begin, if it is still there and `begin` agrees to the first; else its call is skipped.

        Args:
            begin: whether it may.

        Returns:
            What is to go elsewhere.
        """
        if not self.open_calls:
            return []
        tasks = self.take_next()
        if tasks and begin(tasks[0]):
            self._begin(tasks)
            return []
        self._board.permit(self._answers + 1, skipped=True)
        return tasks[1:]

    def take_next(self) -> list[Task]:
        """What waits; the worker is not to have it any more."""
        tasks, self._next = self._next, []
        return tasks

    def take_others(self) -> list[Task]:
        """All but the one that runs; a call that has others ends with it. Idempotent."""
        return [*self._cut(), *self.take_next()]

    def cut(self) -> list[Task]:
        """Let a call of several chunks end with the one that runs, if it does not end soon by itself. Idempotent.

        Returns:
            The others: those that have run are to run again, as nobody knows when their results would come.
        """
        return self._cut() if self.is_slow else []

    def _cut(self) -> list[Task]:
        if not self._parcel[1:] or self.sole is not None:
            return []
        self._board.stop(self._answers + 1)
        begun, tasks = self._begun, self._parcel
        self._parcel = [task if number == begun else None for number, task in enumerate(tasks[:begun], 1)]
        return [task for number, task in enumerate(tasks, 1) if task is not None and number != begun]

    @property
    def _begun(self) -> int:
        """How many chunks of its call have begun. A worker that is being stopped says one too many for a moment."""
        return self._board.begun - self.done

    def _begin(self, tasks: list[Task]) -> None:
        self._parcel, self._since = [*tasks], monotonic()
        self._board.permit(self._answers + 1, skipped=False)
