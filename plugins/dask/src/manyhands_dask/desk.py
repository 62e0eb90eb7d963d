"""What runs in a Dask worker: a desk for each run, with seats, each of which runs one chunk at a time.

    program ── client.run ──▶ open_desk          the worker gets an operation with the name of the run
    program ◀─ connection ──▶ Desk               chunks and results, and what happens to them
    program ── client.submit ▶ occupy ─▶ Seat    a Dask task, so that the scheduler knows that the worker is busy

Where a seat is in its chunk stands in a file that the nanny can read, too.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
from array import array
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from distributed.core import Status

from manyhands.errors import WorkerInitError
from manyhands.worker import shipping
from manyhands.worker.surroundings import Surroundings
from manyhands.worker.tuning import tune_process
from manyhands_dask.seat import Message, Seat

if TYPE_CHECKING:
    from distributed.comm import Comm
    from distributed.worker import Worker

_TELL_SECONDS: Final = 0.05
_BEAT_SECONDS: Final = 0.1
_WAIT_SECONDS: Final = 30.0
_ORPHAN_SECONDS: Final = 1.0

_desks: Final[dict[str, Desk]] = {}
_restoring: Final = ExitStack()
"""Brings back what was in force when the first of these desks was opened."""


def open_desk(run: str, seats: int, *, dask_worker: Worker) -> Message:
    """Make a desk for a run; called by `client.run`.

    Args:
        run: its name.
        seats: how many.
        dask_worker: the worker.

    Returns:
        The process id, and the file in which the nanny can read where the seats are.
    """
    desk = Desk(run, seats, dask_worker)
    return {"pid": os.getpid(), "path": desk.path and str(desk.path)}


def occupy(run: str, seat: int) -> None:
    """Run the chunks of a seat until it is told to end; a Dask task.

    Args:
        run: which.
        seat: number of it.
    """
    desk = _desks.get(run)
    if desk is not None:  # or the run has ended meanwhile
        desk.seats[seat].work(desk)


class Desk:
    """A run's place in a worker process. Its methods belong to the thread of the worker's event loop.

    Args:
        run: its name.
        seats: how many.
        worker: whose.
    """

    def __init__(self, run: str, seats: int, worker: Worker) -> None:
        self.run = run
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.job: bytes = b""
        self.cancelled: bool = False
        self.flags: tuple[bool, bool] = (False, False)
        self.path: Path | None = None
        self.folder: Path = Path(worker.local_directory)
        self._worker = worker
        self._words = self._open_words(seats)
        self.seats: list[Seat] = [Seat(number, self._words[number : number + 1]) for number in range(seats)]
        self._comm: Comm | None = None
        self._writing = asyncio.Lock()
        _change_process()
        self._tasks: set[asyncio.Task[object]] = set()
        worker.handlers[run] = self.serve
        _desks[run] = self
        self.start(self._close_if_forgotten())

    def _open_words(self, count: int) -> memoryview:
        if self._worker.nanny is None:
            return memoryview(array("Q", [0] * count))
        # Not in its own folder, which the nanny removes when the worker dies.
        self.path = self.folder.parent / f"{self.run}-{os.getpid()}"
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            os.write(file, bytes(8 * count))
            return memoryview(mmap.mmap(file, 0)).cast("Q")
        finally:
            os.close(file)

    async def serve(self, comm: Comm) -> Status:
        """Hold the connection with the program until it ends."""
        self._comm = comm
        self.start(self._tell_words())
        try:
            while True:
                self._heed(await comm.read())
        except OSError:  # the program has closed it, or is gone
            pass
        finally:
            self.close()
            self.loop.call_later(_ORPHAN_SECONDS, self._end_orphans)
        return Status.dont_reply

    def _end_orphans(self) -> None:
        """The program is gone, so nobody wants what is still done for it; the nanny starts another worker."""
        if self._worker.nanny is not None and any(seat.is_at_work for seat in self.seats):
            os.kill(os.getpid(), signal.SIGKILL)

    def _heed(self, message: Message) -> None:
        match message["what"]:
            case "job":
                self.job = message["job"]
                self._unlink()
            case "chunk":
                self.seats[message["seat"]].take(message)
            case "recall":
                if self.seats[message["seat"]].recall(message["id"]):
                    self.start(self.tell(what="recalled", seat=message["seat"], id=message["id"]))
            case "flags":
                self.cancelled, *flags = message["flags"]
                self.flags = flags[0], flags[1]
            case "leave":
                self.seats[message["seat"]].take(None)
            case "end":
                for seat in self.seats:
                    seat.end(self)
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)

    async def tell(self, **message: Any) -> bool:
        """Write to the program, and wait until that has left the process; whether it has."""
        comm = self._comm
        if comm is None:
            return False
        try:
            async with self._writing:
                await comm.write(message)
                stream = getattr(comm, "stream", None)
                if stream is not None and stream.writing():
                    await stream.write(b"")
        except OSError:  # who reads notices it, too
            return False
        return True

    def call(self, function: Callable[[], object]) -> None:
        """Call a function in the thread of the event loop, from another."""
        with suppress(RuntimeError):  # the worker has ended
            self.loop.call_soon_threadsafe(function)

    def start(self, work: Coroutine[Any, Any, object]) -> None:
        """Let something run in the event loop until the desk is closed."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """End everything; seats end when they have done what they are doing. Idempotent."""
        if _desks.pop(self.run, None) is None:
            return
        self.cancelled = True
        self._worker.handlers.pop(self.run, None)
        for seat in self.seats:
            seat.close()
        for task in self._tasks:
            task.cancel()
        self._unlink()
        if not _desks:
            shipping.remove()
            _restoring.close()

    def _unlink(self) -> None:
        """Who has the file mapped keeps it."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    async def _close_if_forgotten(self) -> None:
        """The program may die before it has connected."""
        await asyncio.sleep(_WAIT_SECONDS)
        if self._comm is None:
            self.close()

    async def _tell_words(self) -> None:
        """From time to time also where there is nothing new, so that it is noticed if nothing can be told."""
        told: list[int] = []
        told_at = 0.0
        while True:
            await asyncio.sleep(_TELL_SECONDS)
            now = self._words.tolist()
            if now != told or self.loop.time() - told_at > _BEAT_SECONDS:
                told, told_at = now, self.loop.time()
                await self.tell(what="words", words=now)


def _change_process() -> None:
    """Once for runs that overlap: the second finds what the first has changed."""
    if not _desks:
        _restoring.callback(_restore, Surroundings.here())
        _restoring.callback(tune_process())


def _restore(surroundings: Surroundings) -> None:
    with suppress(WorkerInitError):  # the locale was in force before
        surroundings.enter_process()
