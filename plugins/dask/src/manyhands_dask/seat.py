"""One seat of a desk: the thread of a Dask task, in which chunks run one at a time.

A chunk is announced before it begins, and begins only when the result of the one before has left the process: so what
is known of a worker that dies is what was.
"""

from __future__ import annotations

import asyncio
import decimal
import queue
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from manyhands.errors import ManyhandsError, TeardownError, WorkerInitError
from manyhands.worker.failures import as_init_error
from manyhands.worker.pickles import dump_failure, named
from manyhands.worker.remote import RemoteWorker

if TYPE_CHECKING:
    from manyhands_dask.desk import Desk

Message = dict[str, Any]

_here: Final = threading.local()


class Place:
    """For code that runs in a seat and has something to tell the program.

    Args:
        desk: of the seat.
        seat: number of it.
    """

    def __init__(self, desk: Desk, seat: int) -> None:
        self._desk = desk
        self._seat = seat

    def flags(self) -> tuple[bool, bool]:
        """Whether everything is to end, and whether somebody looks."""
        is_cancelled, is_watched = self._desk.flags
        return is_cancelled or self._desk.cancelled, is_watched

    @property
    def folder(self) -> Path:
        """The worker's own, which goes with it."""
        return self._desk.folder

    def tell(self, **message: Any) -> None:
        """Tell the program."""
        self._desk.seats[self._seat].post(self._desk, **message)


def here() -> Place:
    """The seat of this thread."""
    place: Place = _here.place
    return place


class Seat:
    """One chunk at a time. What is not said otherwise belongs to the thread of the event loop.

    Args:
        number: of it.
        word: says where it is.

    Attributes:
        is_at_work: its thread has begun, and is not through.
    """

    def __init__(self, number: int, word: memoryview) -> None:
        self.number = number
        self._word = word
        self._waiting: deque[Message | None] = deque()
        self._arrived = asyncio.Event()
        self._chunks: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._answer: asyncio.Future[Message] | None = None
        self._claim = threading.Lock()
        self.is_at_work: bool = False

    def end(self, desk: Desk) -> None:
        """Let it end when it has done what there is for it; if it has not begun, it never does."""
        if self._claim.acquire(blocking=False):
            desk.start(desk.tell(what="ended", seat=self.number, error=None))
        else:
            self.take(None)

    def take(self, message: Message | None) -> None:
        """A chunk for it, or None for the end."""
        self._waiting.append(message)
        self._arrived.set()

    def recall(self, chunk: int) -> bool:
        """Forget a chunk if it has not begun; whether that was so."""
        before = len(self._waiting)
        self._waiting = deque(each for each in self._waiting if each is None or each["id"] != chunk)
        return len(self._waiting) < before

    def close(self) -> None:
        """End it when it has done what it does."""
        self._waiting.clear()
        self._chunks.put(None)

    async def serve(self, desk: Desk) -> None:
        """Hand over one chunk after the other."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                message = self._waiting.popleft()
                if message is None:
                    self._chunks.put(None)
                    return
                self._answer = desk.loop.create_future()
                if not await desk.tell(what="begun", seat=self.number, id=message["id"]):
                    return
                self._chunks.put(message)
                await desk.tell(**await self._answer)

    def work(self, desk: Desk) -> None:
        """Set up, run chunks, tear down, unless it is to end by now. In a thread of its own."""
        if not self._claim.acquire(blocking=False):
            return
        self.is_at_work = True
        before = decimal.getcontext()
        _here.place = Place(desk, self.number)
        try:
            worker = self._set_up(desk)
            if worker is not None:
                self._run_all(desk, worker)
                self._tear_down(desk, worker)
        finally:
            del _here.place
            decimal.setcontext(before)
            self.is_at_work = False

    def _set_up(self, desk: Desk) -> RemoteWorker | None:
        self.post(desk, what="seated")
        try:
            worker = RemoteWorker(desk.job, lambda: desk.cancelled, self._word)
        except BaseException as error:  # noqa: BLE001  # it keeps this seat from starting, and ends nobody's worker
            self.post(desk, what="failed", error=dump_failure(_as_init_error(error)))
            return None
        self.post(desk, what="ready")
        desk.call(lambda: desk.start(self.serve(desk)))
        return worker

    def _run_all(self, desk: Desk, worker: RemoteWorker) -> None:
        while (message := self._chunks.get()) is not None:
            answer = self._run(message, worker)
            del message
            desk.call(lambda answer=answer: self._settle(answer))  # type: ignore[misc]  # it cannot be inferred
            del answer

    def _run(self, message: Message, worker: RemoteWorker) -> Message:
        about = {"seat": self.number, "id": message["id"]}
        try:
            header, parts = worker.run(message["header"], message["payload"])
        except BaseException as error:  # noqa: BLE001  # the driver decides what a failed chunk means
            return {"what": "error", "error": dump_failure(_as_exception(error)), **about}
        return {"what": "done", "header": header, "parts": parts, **about}

    def _settle(self, answer: Message) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def _tear_down(self, desk: Desk, worker: RemoteWorker) -> None:
        error = None
        try:
            worker.teardown()
        except ManyhandsError as caught:
            error = dump_failure(caught)
        except BaseException as caught:  # noqa: BLE001  # a hook may try to end the process, which is not ours
            error = dump_failure(TeardownError(f"teardown failed: {named(caught)}"))
        self.post(desk, what="ended", error=error)

    def post(self, desk: Desk, **message: Any) -> None:
        """Write to the program, from the seat's own thread."""
        desk.call(lambda: desk.start(desk.tell(seat=self.number, **message)))


def _as_init_error(error: BaseException) -> ManyhandsError:
    if isinstance(error, Exception):
        return as_init_error(error)
    return WorkerInitError(f"a worker process cannot load the job: {named(error)}")


def _as_exception(error: BaseException) -> Exception:
    """`SystemExit` would end the program, too."""
    return error if isinstance(error, Exception) else RuntimeError(named(error))
