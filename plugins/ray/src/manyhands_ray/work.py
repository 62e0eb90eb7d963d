"""What a run has to do: the chunks that wait for a worker, and those that one has."""

from __future__ import annotations

from collections import deque
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Final

from manyhands.errors import ExecutorBroken
from manyhands.worker.pickles import load_failure
from manyhands.worker.transport import load_result

if TYPE_CHECKING:
    from concurrent.futures import Future

    from manyhands.chunks import ChunkResult
    from manyhands_ray.hand import Hand
    from manyhands_ray.line import Task


_CALL_BYTES: Final = 1 << 20
"""What several chunks in one call have at most."""


class Work:
    """It. Only the supervisor's thread calls it, but for `place`.

    Attributes:
        ending: since when there will be no more, by `monotonic`; None: there may be.
        cancelled: nothing more may begin.
    """

    def __init__(self) -> None:
        self.ending: float | None = None
        self.cancelled: bool = False
        self._waiting: deque[Task] = deque()
        self._places: dict[Future[ChunkResult], Hand] = {}

    @property
    def is_over(self) -> bool:
        """Nothing more is to begin."""
        return self.cancelled or (self.ending is not None and not self._waiting)

    def add(self, task: Task) -> None:
        """Let it wait."""
        self._waiting.append(task)

    @property
    def waiting(self) -> int:
        """How many are to be given to a worker."""
        return 0 if self.cancelled else len(self._waiting)

    def take(self, hand: Hand, count: int) -> list[Task]:
        """The next ones, of which this worker is to begin the first now.

        Args:
            hand: the worker.
            count: how many at most; there are fewer where they are long, or cancelled.
        """
        tasks: list[Task] = []
        count = self._fitting(count)
        while self.waiting and len(tasks) < count:
            task = self._waiting.popleft()
            self._places[task[1]] = hand
            if tasks or self.begin(task):
                tasks.append(task)
        return tasks

    def take_ahead(self, hand: Hand, count: int) -> list[Task]:
        """The next ones, which are to wait at this worker: so many, fewer where they are long, or none.

        None of them was lost before it began: that counts as running, and whoever finds that it takes too long would
        have the worker killed.

        Args:
            hand: the worker.
            count: how many.
        """
        if self.waiting < count:
            return []
        count = self._fitting(count)
        if any(self._waiting[k][1].running() for k in range(count)):
            return []
        tasks = [self._waiting.popleft() for _ in range(count)]
        self._places.update((future, hand) for _, future in tasks)
        return tasks

    def _fitting(self, count: int) -> int:
        """How many of the next ones may go in one call; one at least."""
        lengths = accumulate(chunk.nbytes for chunk, _ in islice(self._waiting, count))
        return max(sum(length <= _CALL_BYTES for length in lengths), 1)

    def begin(self, task: Task) -> bool:
        """From now on it cannot be cancelled; False: somebody has cancelled it before."""
        future = task[1]
        if future.running():  # it was lost before it began
            return True
        has_left = future.cancelled() and future not in self._places
        if not has_left and future.set_running_or_notify_cancel():
            return True
        self._leave(task)
        return False

    def place(self, future: Future[ChunkResult]) -> Hand | None:
        """The worker that has it."""
        return self._places.get(future)

    def settle(self, task: Task, header: bytes, parts: list[bytes], *, failed: bool) -> None:
        """Its worker has answered.

        Args:
            task: which.
            header: of the result, or the exception.
            parts: of the result.
            failed: it is an exception.
        """
        if not self.begin(task):
            return
        future = self._leave(task)
        if failed:
            future.set_exception(load_failure(header))
            return
        try:
            result = load_result(header, parts)
        except Exception as error:  # noqa: BLE001  # an Enum, say, of a module that only the worker could import
            future.set_exception(error)
        else:
            future.set_result(result)

    def fail(self, task: Task, error: BaseException) -> None:
        """Nobody goes on with it."""
        if self.begin(task):
            self._leave(task).set_exception(error)

    def put_back(self, *tasks: Task) -> None:
        """They are to begin elsewhere, before all others."""
        for task in reversed(tasks):
            self._leave(task)
            self._waiting.appendleft(task)

    def fail_waiting(self, error: BaseException | None) -> None:
        """What nobody will run: cancelled, or failed if there should have been workers, or if it cannot be cancelled.

        Args:
            error: why there are none; None: there need not be.
        """
        while self._waiting:
            _, future = self._waiting.popleft()
            if error is None:
                future.cancel()
            if future.running() or future.set_running_or_notify_cancel():  # running: it was lost before it began
                future.set_exception(no_workers(error))

    def _leave(self, task: Task) -> Future[ChunkResult]:
        self._places.pop(task[1], None)
        return task[1]


def no_workers(error: BaseException | None) -> ExecutorBroken:
    """What a chunk fails with that comes too late."""
    if isinstance(error, ExecutorBroken):
        return error
    if error is None:
        return ExecutorBroken("the workers were ended")
    return ExecutorBroken(f"there are no workers: {error}")
