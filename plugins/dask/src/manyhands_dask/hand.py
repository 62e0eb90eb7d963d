"""One Dask worker, as the program sees it: a connection, and the seats that it has for the run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from manyhands.errors import WorkerLost
from manyhands.worker.cell import read_progress
from manyhands.worker.failures import as_init_error
from manyhands.worker.pickles import load_failure
from manyhands.worker.transport import dump_chunk, load_result
from manyhands.worker.versions import check_versions, versions
from manyhands_dask.desk import occupy, open_desk
from manyhands_dask.keeper import Keeper, call, connected
from manyhands_dask.tasks import Seat, State, Task, somewhere_after

if TYPE_CHECKING:
    from distributed.comm import Comm

    from manyhands.executor import Progress
    from manyhands_dask.shop import Heard, Shop

_DISTRIBUTION: Final = "manyhands-dask"
_END_SECONDS: Final = 4.0
_ANSWER_SECONDS: Final = 10.0
"""So long a worker may take to say whether a chunk has begun there."""

_SILENT_SECONDS: Final = 0.4
"""A worker that has said nothing for so long cannot: it does otherwise every `desk._BEAT_SECONDS`."""


class Hand:
    """A worker.

    Args:
        address: of it.
        info: what the scheduler says of it.
        seats: how many.
        shop: see there.
        heard: see there.
    """

    def __init__(self, address: str, info: Mapping[str, Any], seats: int, shop: Shop, heard: Heard) -> None:
        self.address = address
        self.seats: list[Seat] = [Seat(number) for number in range(seats)]
        self.is_examined: bool = False
        self.is_given_up: bool = False
        self.flags: tuple[bool, bool, bool] = (False, False, False)
        self._shop = shop
        self._heard = heard
        self._nanny: str | None = info.get("nanny")
        self._keeper: Keeper | None = None
        self._comm: Comm | None = None
        self._code: int | None = None
        self._words: list[int] = []
        self._heard_at = monotonic()
        self._outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._killing: asyncio.Task[None] | None = None
        self._culprits: set[Task] = set()
        self._has_ended = asyncio.Event()

    @property
    def is_at_work(self) -> bool:
        """A seat of it has begun and has not ended."""
        return any(seat.state not in (State.WAITING, State.ENDED) for seat in self.seats)

    @property
    def is_out(self) -> bool:
        """No seat of it is at work, or may be about to be: it has answered to the end, unless it cannot."""
        if self._is_silent:
            return not self.is_at_work
        return all(seat.state is State.ENDED or seat.asked is None for seat in self.seats)

    async def open(self) -> None:
        """Connect, and hand over the job.

        Raises:
            WorkerInitError: it has other versions of something, or cannot be reached from here.
            OSError: it is gone.
        """
        client, run = self._shop.client, self._shop.run
        check_versions(await call(client, self.address, versions, _DISTRIBUTION), self.address, _DISTRIBUTION)
        opened = await call(client, self.address, open_desk, run, len(self.seats))
        self.is_examined = True
        if self._nanny is not None and opened["path"] is not None:
            keeper = Keeper(client, self._nanny, run, opened["pid"])
            self._keeper = keeper if await keeper.can_watch(opened["path"]) else None
        self._comm = await connected(client, self.address)
        await self._comm.write({"op": run, "reply": False})
        await self._comm.write({"what": "job", "job": self._shop.job})

    async def serve(self) -> None:
        """Ask for the seats, and hear what it says, until the connection ends."""
        assert self._comm is not None  # noqa: S101  # for type checkers: it was opened
        self._heard_at = monotonic()
        for seat in self.seats:
            self._occupy(seat)
        helpers = [asyncio.create_task(self._write(self._comm)), asyncio.create_task(self._ask_keeper())]
        try:
            while True:
                self._hear(await self._comm.read())
                self._heard_at = monotonic()
        except OSError:
            pass
        finally:
            for each in helpers:
                each.cancel()
            self._comm.abort()
            self._has_ended.set()

    def give(self, task: Task, seat: Seat) -> None:
        """Send a chunk to a seat."""
        task.hand, task.seat = self, seat
        seat.held.append(task)
        header, payload = dump_chunk(task.chunk)
        self.tell(what="chunk", seat=seat.number, id=id(task), header=header, payload=bytes(payload))

    def recall(self, task: Task) -> None:
        """Ask for a chunk that has not begun; it comes back, or its begin is told."""
        assert task.seat is not None  # noqa: S101  # for type checkers: it was given to one of ours
        self.tell(what="recall", seat=task.seat.number, id=id(task))

    def dismiss(self, seat: Seat) -> None:
        """Let a seat end that has nothing to do."""
        seat.state = State.LEAVING
        self.tell(what="leave", seat=seat.number)

    def evict(self, task: Task) -> None:
        """Take a chunk off this worker. Whether it has begun, only the worker knows: what it says may be under way."""
        task.is_evicted = True
        if task.has_begun:
            self.kill(task)
            return
        self.recall(task)
        asyncio.get_running_loop().call_later(_ANSWER_SECONDS, self._insist, task)

    def tell(self, **message: Any) -> None:
        """Send a message."""
        self._outbox.put_nowait(message)

    def close(self) -> None:
        """Close the connection; nothing more is heard."""
        if self._comm is not None:
            self._comm.abort()

    def kill(self, culprit: Task | None = None) -> None:
        """Kill its process, by its nanny if it has one: it may hold the interpreter lock. Idempotent.

        Args:
            culprit: for which chunk; others that it runs then are not to blame.
        """
        if culprit is not None:
            self._culprits.add(culprit)
        if self._killing is None and not self._has_ended.is_set():
            self._killing = asyncio.create_task(self._kill())

    async def bury(self) -> None:
        """After its end: take its last words from the nanny, and give up its Dask tasks."""
        for seat in self.seats:
            self._release(seat)
        self._words, self._code = await self._keeper.report() if self._keeper is not None else ([], None)

    async def leave(self) -> None:
        """The run has ended well: leave nothing there."""
        self.close()
        for seat in self.seats:
            self._release(seat)
        if self._keeper is not None:
            await self._keeper.forget()

    def progress(self, task: Task) -> Progress | None:
        """Where it is in a chunk that has begun; where nobody can tell, all that may be under way."""
        told = self._told(task)
        if self._keeper is None and self._is_silent:
            return somewhere_after(told, task.chunk, self.address)
        return told

    @property
    def _is_silent(self) -> bool:
        """Code that holds the interpreter lock keeps it from saying anything."""
        return monotonic() - self._heard_at > _SILENT_SECONDS

    def _told(self, task: Task) -> Progress | None:
        seat, words = task.seat, self._words  # once: another thread may ask
        if seat is None or seat.number >= len(words):
            return None
        return read_progress(words[seat.number], task.chunk, self._shop.batch_size, self.address)

    def lost(self, task: Task | None = None) -> WorkerLost:
        """What a chunk that had begun fails with, after the end."""
        code, progress = self._code, self._told(task) if task is not None else None
        if code is None or code >= 0:
            return WorkerLost(code, progress=progress, worker=self.address)
        return WorkerLost(signal=-code, progress=progress, worker=self.address)

    def is_to_blame(self, task: Task) -> bool:
        """Whether its end is to be laid at the door of a chunk that had begun, after the end."""
        if not self._culprits or task in self._culprits:
            return True
        # We have killed it for another. Nobody is to blame, but hooks may have seen it.
        progress = self._told(task)
        return not self._shop.replayable and (progress is None or progress.stage != "unpack")

    def _insist(self, task: Task) -> None:
        """It has not answered: code that holds the interpreter lock keeps it from that, or it is stopped."""
        if task.hand is self and task.is_evicted and not task.has_begun:
            self.kill(task)

    async def _kill(self) -> None:
        """See that nothing more is heard of it, even where its process cannot be killed."""
        if self._keeper is None:
            self.tell(what="die")
        else:
            await self._keeper.kill()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self._has_ended.wait()
        except TimeoutError:
            self.is_given_up = True
            self.close()

    async def _ask_keeper(self) -> None:
        """Who holds the interpreter lock says nothing, but its nanny sees where it is."""
        while self._keeper is not None:
            await asyncio.sleep(_SILENT_SECONDS / 2)
            if self._is_silent and any(task.has_begun for seat in self.seats for task in seat.held):
                self._words = await self._keeper.words() or self._words

    def _occupy(self, seat: Seat) -> None:
        seat.asked = monotonic()
        seat.job = self._shop.client.submit(
            occupy,
            self._shop.run,
            seat.number,
            key=f"{self._shop.run}-{self.address}-{seat.number}",
            workers=[self.address],
            allow_other_workers=False,
            resources=dict(self._shop.resources) or None,
            retries=0,
            pure=False,
        )

    def _release(self, seat: Seat) -> None:
        if seat.job is not None:
            with suppress(Exception):  # of a client that has lost its scheduler
                seat.job.release()
            seat.job = None

    async def _write(self, comm: Comm) -> None:
        with suppress(OSError):  # the reader notices it, too
            while True:
                await comm.write(await self._outbox.get())

    def _hear(self, message: dict[str, Any]) -> None:
        what = message["what"]
        if what == "words":
            self._words = message["words"]
        elif what == "news":
            self._heard.news(message["number"], message["status"])
        elif "id" in message:
            self._hear_of_chunk(what, self.seats[message["seat"]], message)
        else:
            self._hear_of_seat(what, self.seats[message["seat"]], message)

    def _hear_of_chunk(self, what: str, seat: Seat, message: dict[str, Any]) -> None:
        task = next(task for task in seat.held if id(task) == message["id"])
        if what == "begun":
            task.begin()
            if task.is_evicted:
                self.kill(task)
            return
        seat.held.remove(task)
        if what == "recalled":
            self._heard.recalled(task)
            return
        seat.done += 1
        self._heard.free(task)  # first: there may be more to do for it while this is read
        if what == "error":
            task.fail(load_failure(message["error"]))
        elif task.is_wanted:
            self._settle(task, message)

    def _hear_of_seat(self, what: str, seat: Seat, message: dict[str, Any]) -> None:
        if what == "seated":
            seat.state = State.STARTING
        elif what == "ready":
            seat.state = State.READY
            self._heard.ready(self, seat)
        elif what == "failed":
            seat.state = State.ENDED
            self._heard.refused(as_init_error(load_failure(message["error"]), f"the worker at {self.address}"))
        elif what == "ended":
            seat.state = State.ENDED
            self._heard.ended(load_failure(message["error"]) if message["error"] else None)

    def _settle(self, task: Task, message: dict[str, Any]) -> None:
        try:
            result = load_result(message["header"], message["parts"])
        except Exception as error:  # noqa: BLE001  # its values are of classes whose code may raise anything
            task.fail(error)
        else:
            result.worker = self.address
            task.future.set_result(result)
