"""The workers of a run: which there are, and when there is no hope of any."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from manyhands.errors import ExecutorBroken, ManyhandsError, TeardownError, WorkerInitError
from manyhands_dask.dispatch import Dispatch
from manyhands_dask.hand import Hand
from manyhands_dask.shop import Heard, Shop
from manyhands_dask.tasks import Seat, State, Task

if TYPE_CHECKING:
    from manyhands_dask.engine import Relay

_log: Final = logging.getLogger("manyhands")

_LOOK_SECONDS: Final = 0.5
_SILENT_SECONDS: Final = 15.0
"""So long the scheduler may say nothing."""

_PARTING_SECONDS: Final = 3.0
_ALONE_SECONDS: Final = 60.0
"""So long there may be no worker."""

_STUCK_SECONDS: Final = 20.0
"""So long all workers may be busy with somebody else's tasks before that is told."""

_FUTILE_LIVES: Final = 3
"""So many workers in a row that died before they did anything, and no more are asked."""


class Crew:
    """Only for the thread of the event loop.

    Args:
        shop: what the workers have in common.
        most: seats at most; None: as many as there are threads.
        relay: passes on what pipes tell, where they run.
        hooked: the job has hooks, so a worker that dies at its end misses their `teardown`.
    """

    def __init__(self, shop: Shop, most: int | None, relay: Relay | None, *, hooked: bool) -> None:
        self._shop = shop
        self._most = most
        self._hooked = hooked
        self.hands: dict[str, Hand] = {}
        self.chunks: Dispatch = Dispatch(self.hands)
        self.error: ManyhandsError | None = None
        self.refusal: ManyhandsError | None = None
        self._has_looked = False
        self.teardown_error: ManyhandsError | None = None
        self.changed: asyncio.Event = asyncio.Event()
        self.is_closing: bool = False
        self.is_over: bool = False
        self.is_ending: bool = False
        self._refused: set[str] = set()
        self._hiring: dict[str, asyncio.Task[None]] = {}
        self._futile = 0
        news = relay.take if relay is not None else _ignore
        self._heard = Heard(self._be_ready, self._be_free, self.chunks.take_back, self._refuse, self._hear_end, news)
        self._alone_since = monotonic()
        self._told = False
        self._was_ready = False

    @property
    def seats(self) -> list[Seat]:
        """All that have not ended."""
        return [seat for hand in [*self.hands.values()] for seat in hand.seats if seat.state is not State.ENDED]

    @property
    def ready(self) -> int:
        """Seats that take chunks."""
        return sum(seat.state is State.READY for seat in self.seats)

    @property
    def is_surveyed(self) -> bool:
        """All workers that were there at first run versions that fit, or something else does not: see `refusal`."""
        return self._has_looked and all(hand.is_examined for hand in [*self.hands.values()])

    async def watch(self) -> None:
        """Look who is there, until something ends the run.

        Raises:
            ExecutorBroken: the scheduler is lost, or there are no workers.
            WorkerInitError: no worker can be set up.
        """
        heard = monotonic()
        while True:
            try:
                async with asyncio.timeout(_SILENT_SECONDS):
                    await self._look()
                heard = monotonic()
            except (TimeoutError, OSError) as error:
                if monotonic() - heard > _SILENT_SECONDS:
                    lost = f"the Dask scheduler at {self._shop.client.scheduler.address} is lost"
                    raise ExecutorBroken(f"{lost}: {str(error) or 'no answer'}") from error
            self._check()
            await asyncio.sleep(_LOOK_SECONDS)

    async def close(self) -> None:
        """Give up all that is left."""
        self.is_over = self.is_ending = True
        if self._hiring:  # to cancel who is just connecting would leave a socket open
            await asyncio.wait([*self._hiring.values()], timeout=_PARTING_SECONDS)
        while hiring := [*self._hiring.values()]:
            for each in hiring:
                each.cancel()
            await asyncio.wait(hiring, timeout=1.0)
            self._hiring = {address: each for address, each in self._hiring.items() if not each.done()}

    def kill_those_at_work(self) -> None:
        """Not those whose seats have ended, or have never begun because somebody else's task runs there."""
        for hand in self.hands.values():
            if hand.is_at_work:
                hand.kill()

    async def _look(self) -> None:
        identity = await self._shop.client.scheduler.identity()
        workers: Mapping[str, Any] = identity["workers"]
        for address, hand in [*self.hands.items()]:
            if address not in workers:
                hand.close()
        for address, info in workers.items():
            if self._may_hire(address, info) and (seats := self._seats_of(info)):
                hand = self.hands[address] = Hand(address, info, seats, self._shop, self._heard)
                self._hiring[address] = asyncio.create_task(self._employ(hand))
        self._has_looked = True

    def _may_hire(self, address: str, info: Mapping[str, Any]) -> bool:
        known = address in self._hiring or address in self._refused
        return not known and not self.is_ending and info.get("status") == "running"

    def _seats_of(self, info: Mapping[str, Any]) -> int:
        """How many a worker may have. Some are asked in place of those that are stuck, and may be too many later."""
        room = None if self._most is None else self._most - sum(_is_counted(seat) for seat in self.seats)
        counts = [info["nthreads"]] if room is None else [info["nthreads"], max(room, 0)]
        has = info.get("resources") or {}
        counts += [int(float(has.get(name, 0)) // amount) for name, amount in self._shop.resources.items()]
        return int(min(counts))

    async def _employ(self, hand: Hand) -> None:
        """A worker's time with us."""
        try:
            await hand.open()
            if not self.is_over:
                await hand.serve()
        except ManyhandsError as error:
            self._refused.add(hand.address)
            self.refusal = self.refusal or error
            self._refuse(error)
        except (OSError, TimeoutError) as error:
            _log.debug("the worker at %s is gone before it began: %r", hand.address, error)
        finally:
            self.hands.pop(hand.address, None)
            if hand.is_given_up:
                self._refused.add(hand.address)
            await self._lose(hand)
            self._hiring.pop(hand.address, None)
            self.chunks.hand_out()
            self.changed.set()

    async def _lose(self, hand: Hand) -> None:
        """A worker has ended, or its connection has."""
        if not hand.is_at_work:
            await hand.leave()
            return
        await hand.bury()
        self._count_futile(hand)
        if self.is_ending and self._hooked:
            lost = TeardownError(f"a worker died in its teardown ({hand.lost().cause})")
            self.teardown_error = self.teardown_error or lost
        self.chunks.lose(hand)

    def _be_free(self, task: Task) -> None:
        self.chunks.forget(task)
        self.chunks.hand_out()
        if self.is_closing:
            self.changed.set()

    def _be_ready(self, hand: Hand, seat: Seat) -> None:
        if self._most is not None and self.ready > self._most:  # see `_seats_of`
            hand.dismiss(seat)
            return
        self._alone_since, self._told, self._was_ready = monotonic(), False, True
        self.error = None
        self.chunks.hand_out()
        self.changed.set()

    def _refuse(self, error: ManyhandsError) -> None:
        """A worker cannot be set up. As long as others can, the run goes on with fewer."""
        self.error = self.error or error
        if self.ready:
            _log.warning("there will be fewer workers: %s", error)
        self.changed.set()

    def _hear_end(self, error: ManyhandsError | None) -> None:
        self.teardown_error = self.teardown_error or error
        self.changed.set()

    def _count_futile(self, hand: Hand) -> None:
        if any(seat.done for seat in hand.seats):
            self._futile = 0
            return
        if any(task.has_begun for seat in hand.seats for task in seat.held):
            return
        if any(seat.state is not State.WAITING for seat in hand.seats):
            self._futile += 1

    def _check(self) -> None:
        """Give up where it is hopeless.

        Raises:
            WorkerInitError: no worker can be set up.
            ExecutorBroken: there are none.
        """
        if self.ready or self.is_ending:
            self._alone_since = monotonic()
            return
        if self._futile >= _FUTILE_LIVES:
            hint = "see the hooks' setup, and what the modules of the job do when they are imported"
            raise WorkerInitError(f"workers die before they have done anything; {hint}")
        if self.error is not None and not self.seats and not self._was_ready:  # or others are about to be replaced
            raise self.error
        self._wait_for_workers()

    def _wait_for_workers(self) -> None:
        alone = monotonic() - self._alone_since
        if self.seats:  # they are being set up, or busy with somebody else's tasks
            self._alone_since = monotonic()
            self._tell_if_stuck()
            return
        asked = " ".join(f"{name}={amount:g}" for name, amount in self._shop.resources.items())
        needs = f" that was started with --resources {asked!r}" if asked else ""
        what = f"the Dask cluster at {self._shop.client.scheduler.address} has no worker{needs}"
        if alone > _ALONE_SECONDS:
            raise ExecutorBroken(f"{what} since {alone:.0f} s{self._why}")
        if alone > _ALONE_SECONDS / 12 and not self._told:
            self._told = True
            _log.warning("%s; waiting for one", what)

    def _tell_if_stuck(self) -> None:
        asked = [seat.asked for seat in self.seats if seat.is_stuck and seat.asked is not None]
        if len(asked) == len(self.seats) and monotonic() - max(asked) > _STUCK_SECONDS and not self._told:
            self._told = True
            _log.warning("every worker that is asked is busy with somebody else's tasks; waiting for one%s", self._why)

    @property
    def _why(self) -> str:
        return f"; one could not be set up: {self.error}" if self.error is not None else ""


def _is_counted(seat: Seat) -> bool:
    return seat.state is not State.LEAVING and not seat.is_stuck


def _ignore(number: int, status: tuple[int, ...]) -> None:
    """Nobody asked."""
