"""The workers of one run: how many there are to be, how they start, and who is gone."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgpack

from manyhands.errors import ManyhandsError, WorkerInitError
from manyhands.worker.failures import as_init_error
from manyhands.worker.pickles import load_failure
from manyhands.worker.versions import check_versions
from manyhands_ray.actor import DISTRIBUTION
from manyhands_ray.hand import Hand, State, new_actor
from manyhands_ray.refusals import reason_of

if TYPE_CHECKING:
    from manyhands.executor import Progress
    from manyhands_ray.line import Task
    from manyhands_ray.needs import Needs
    from manyhands_ray.work import Work
    from manyhands_ray.workshop import Workshop

_log: Final = logging.getLogger("manyhands")

_FUTILE_LIVES: Final = 3
"""So many workers in a row that died before they did anything, and no more are started."""

Answer = bytes | BaseException


@dataclass(frozen=True, slots=True)
class Staffing:
    """What the person wants of the workers.

    Attributes:
        needs: what each of them needs.
        max_workers: how many at most; None: as many as there is room for.
        max_inflight: chunks in flight at most; None: what the cluster can use.
        runtime_env: of the actors.
    """

    needs: Needs
    max_workers: int | None
    max_inflight: int | None
    runtime_env: dict[str, Any] | None


class Crew:
    """They. Only the supervisor's thread calls it.

    Args:
        shop: where they work.
        staffing: what the person wants of them.
        work: what they have to do.
        address: of the cluster, for messages.
        run_aside: calls a function in a thread that may be given up.
        on_ready: called with one that can have its first chunk.
        on_end: called with one that is gone, and with what Ray says of that.

    Attributes:
        hands: those there are.
        wanted: how many there are to be.
        started: one was ready, or none will be.
        error: why there are none, and will be none.
    """

    def __init__(
        self,
        shop: Workshop,
        staffing: Staffing,
        work: Work,
        address: str,
        *,
        run_aside: Callable[[Callable[[], object]], None],
        on_ready: Callable[[Hand], None],
        on_end: Callable[[Hand, BaseException], None],
    ) -> None:
        self._shop, self._staffing, self._work, self._address = shop, staffing, work, address
        self._run_aside, self._on_ready, self._on_end = run_aside, on_ready, on_end
        self._hiring = 0
        self._numbers = 0
        self._futile = 0
        self._refused = 0
        self._why_fewer: ManyhandsError | None = None
        self._buried: list[Hand] = []
        self.hands: list[Hand] = []
        self.wanted: int = 0
        self.started: threading.Event = threading.Event()
        self.error: ManyhandsError | None = None

    def resize(self, room: int) -> None:
        """So many workers there is room for now."""
        most = self._staffing
        limits = [n for n in (most.max_workers, most.max_inflight, room) if n is not None]
        self.wanted = max(min(limits) - self._refused, 0)
        if not room and not self.hands and not self.started.is_set():
            self._give_up(WorkerInitError(self._no_room()))
        self.hire_all()

    def hire_all(self) -> None:
        """Start those that are missing; if none are started any more and the last is gone, that is an error."""
        while len(self.hands) + self._hiring < self.wanted and self._may_hire:
            self._hiring += 1
            self._run_aside(self._hire)
        if self._futile >= _FUTILE_LIVES and not self.hands and not self._hiring:
            self.error = self.error or self._why_fewer

    def when_answered(self, hand: Hand, then: Callable[[Hand, bytes], None]) -> Callable[[Answer], None]:
        """What to do with the answer to a call.

        Args:
            hand: who is asked.
            then: called with the answer, unless that is that the worker is gone, or it is dismissed by then.
        """

        def hear(answer: Answer) -> None:
            if hand.state is State.GONE:
                return
            if isinstance(answer, BaseException):
                self._on_end(hand, answer)
            else:
                then(hand, answer)

        return hear

    def succeed(self) -> None:
        """One has done what it is there for."""
        self._futile = 0

    def count_futile(self, hand: Hand, error: BaseException) -> None:
        """One is gone without having done anything; after a few in a row no more are started.

        Args:
            hand: which.
            error: what Ray says of that.
        """
        self._futile += 1
        if self._futile >= _FUTILE_LIVES:
            when = "while they have nothing to do" if hand.was_ready else "before they are ready"
            self._give_up(WorkerInitError(f"workers die {when}: {reason_of(error)}"))

    def dismiss(self, hand: Hand) -> tuple[Task | None, Progress | None, bool]:
        """End one, at once; all but what it runs goes to others.

        Returns:
            That, where it is in it, and whether it has begun.
        """
        self._work.put_back(*hand.line.take_others())  # first: it may go on until it is stopped
        last = hand.line.task, hand.last_progress(), hand.has_begun
        self.hands = [other for other in self.hands if other is not hand]
        hand.bury()
        self._buried.append(hand)
        return last

    def finish_off(self) -> bool:
        """See that those end that were told to; whether some have not."""
        self._buried = [hand for hand in self._buried if hand.is_alive]
        for hand in (*self._buried, *self.hands):
            hand.finish_off()
        return bool(self._buried)

    @property
    def is_gone(self) -> bool:
        """There is none, and none comes."""
        return not self.hands and (self.error is not None or not self._hiring)

    @property
    def _may_hire(self) -> bool:
        return self._futile < _FUTILE_LIVES and self.error is None and not self._work.is_over

    def _hire(self) -> None:
        """In the thread that may be given up."""
        try:
            actor = new_actor(self._shop.options)
        except Exception as error:  # noqa: BLE001  # Ray's own have no common base
            refused = error
            self._shop.answered(lambda: self._miss(refused))
        else:
            self._shop.answered(lambda: self._receive(actor))

    def _receive(self, actor: Any) -> None:
        self._hiring -= 1
        if self.error is not None or self._work.is_over:
            return  # Ray ends an actor that nobody knows
        self._numbers += 1
        try:
            hand = Hand(self._numbers, self._shop, actor)
        except OSError as error:
            self._give_up_hiring(error)
            return
        self.hands.append(hand)
        hand.ask_hello(self.when_answered(hand, self._meet))

    def _miss(self, error: Exception) -> None:
        self._hiring -= 1
        self._give_up_hiring(error)

    def _give_up_hiring(self, error: Exception) -> None:
        self._futile = _FUTILE_LIVES
        self._give_up(WorkerInitError(f"a worker cannot be started: {error}"))

    def _meet(self, hand: Hand, answer: bytes) -> None:
        try:
            check_versions(hand.meet(answer), hand.host, DISTRIBUTION)
        except WorkerInitError as error:
            self._refuse(hand, error)
            return
        if self._work.is_over:
            self.dismiss(hand)
            return
        hand.attend(self.when_answered(hand, self._heed))
        hand.ask_set_up(self.when_answered(hand, self._welcome))

    def _heed(self, hand: Hand, answer: bytes) -> None:
        hand.take_heed(answer)
        hand.attend(self.when_answered(hand, self._heed))

    def _welcome(self, hand: Hand, answer: bytes) -> None:
        failed, output, header, _ = msgpack.unpackb(answer)
        hand.log(output)
        if failed:
            self._refuse(hand, as_init_error(load_failure(header), f"the node {hand.host}"))
            return
        hand.be_ready(header.decode())
        self.started.set()
        self._on_ready(hand)

    def _refuse(self, hand: Hand, error: ManyhandsError) -> None:
        """It says why it cannot start; nobody takes its place."""
        self._refused += 1
        self.wanted = max(self.wanted - 1, 0)
        self.dismiss(hand)
        self._give_up(error)

    def _give_up(self, error: ManyhandsError) -> None:
        self._why_fewer = error
        if self.hands:
            _log.warning("there will be fewer workers: %s", error)
        else:
            self.error = self.error or error

    def _no_room(self) -> str:
        return (
            f"no node of the Ray cluster at {self._address} has what a worker needs ({self._staffing.needs}): "
            "start nodes that have, or ask for less by the option resources"
        )
