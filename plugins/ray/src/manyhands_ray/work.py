"""What a run has to do: the chunks that wait for a worker, and those that one has."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from manyhands.errors import ExecutorBroken
from manyhands.worker.pickles import load_failure
from manyhands.worker.transport import load_result

if TYPE_CHECKING:
    from concurrent.futures import Future

    from manyhands.chunks import ChunkResult
    from manyhands_ray.hand import Hand, Task


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

    def take(self, hand: Hand) -> Task | None:
        """The next one, which this worker is to have from now on."""
        while self._waiting and not self.cancelled:
            task = self._waiting.popleft()
            if task[1].running() or task[1].set_running_or_notify_cancel():  # running: it was lost before it began
                self._places[task[1]] = hand
                return task
        return None

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
        self._leave(task).set_exception(error)

    def put_back(self, task: Task) -> None:
        """It had not begun: another is to have it, before all others."""
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
    return ExecutorBroken(f"there are no workers any more: {error}")
