"""The workers of a run: who is there, who is free, who takes the place of one that has ended."""

from __future__ import annotations

import logging
import selectors
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Final

from manyhands.errors import ManyhandsError, TeardownError, WorkerInitError, WorkerLost
from manyhands_multiprocessing.hand import Hand, State, Workshop

if TYPE_CHECKING:
    from manyhands.processes.launch import Exit

_log: Final = logging.getLogger("manyhands")

_FUTILE_LIVES: Final = 3
"""So many workers in a row that died before they did anything, and no more are started."""

_EXIT_SECONDS: Final = 0.5

Heard = Callable[[Hand], object]


class Crew:
    """Starts workers and replaces them. Only for the supervisor's own thread.

    Args:
        selector: told of what to wait for; the data of its keys is a function without arguments.
        shop: where the workers work.
        on_message: a worker has written.
        on_end: a worker has ended.
    """

    def __init__(self, selector: selectors.BaseSelector, shop: Workshop, on_message: Heard, on_end: Heard) -> None:
        self._selector = selector
        self._shop = shop
        self._on_message = on_message
        self._on_end = on_end
        self._futile = 0
        self.hands: dict[int, Hand] = {}
        self.start_error: ManyhandsError | None = None
        self.teardown_error: TeardownError | None = None

    def hire(self, number: int) -> None:
        """Start a worker; a failure is remembered, nobody takes the place."""
        try:
            hand = Hand(number, self._shop)
        except OSError as error:
            self._give_up(WorkerInitError(f"a worker process cannot be started: {error}"))
            return
        self.hands[number] = hand
        for source, heard in (
            (hand.child, self._on_end),
            (hand.child.output, self._listen),
            (hand.inbox, self._on_message),
        ):
            self._selector.register(source, selectors.EVENT_READ, self._unless_gone(hand, heard))
        self.write(hand)

    def write(self, hand: Hand) -> None:
        """Send what there is for a worker; go on when its pipe takes more."""
        hand.write()
        if hand.wants_to_write is not hand.is_watched:
            hand.is_watched = hand.wants_to_write
            if hand.is_watched:
                self._selector.register(hand.outbox, selectors.EVENT_WRITE, self._unless_gone(hand, self.write))
            else:
                self._selector.unregister(hand.outbox)

    def take_error(self, hand: Hand, error: ManyhandsError) -> None:
        """A worker says why it could not start, or that a teardown failed."""
        if hand.state is State.STARTING:
            self._give_up(error)
        elif isinstance(error, TeardownError):
            self.teardown_error = self.teardown_error or error
        hand.be_ended()

    def dismiss(self, hand: Hand) -> Exit:
        """Release everything of a worker; how it ended."""
        for source in (hand.child, hand.child.output, hand.inbox, hand.outbox):
            with suppress(KeyError):
                self._selector.unregister(source)
        del self.hands[hand.number]
        return hand.bury()

    @property
    def has_leaving(self) -> bool:
        """A worker is through, or has closed its pipe, and its process has not ended."""
        return any(hand.leaving_since is not None for hand in self.hands.values())

    def see_out(self) -> None:
        """End workers of which nothing more can come, and that do not end by themselves."""
        for hand in self.hands.values():
            if hand.leaving_since is not None and monotonic() - hand.leaving_since > _EXIT_SECONDS:
                hand.fault = "it closed its pipe to the program"
                if hand.state is State.ENDED:
                    _log.warning("worker %d has left a thread behind that does not end; it is killed", hand.child.pid)
                hand.child.kill()
                hand.leaving_since = None

    def stop_reading(self, hand: Hand) -> None:
        """Its pipe is closed: for the selector, that is something to read for ever."""
        with suppress(KeyError):
            self._selector.unregister(hand.inbox)

    def replace(self, hand: Hand, ended: Exit, *, wanted: bool) -> None:
        """Put another worker in the place of one that has ended.

        Args:
            hand: which one.
            ended: how.
            wanted: there is, or may be, still work.
        """
        # It held nothing when it was told to stop: all that it can have missed is a teardown.
        if hand.state is State.ENDING and hand.was_ready and self._shop.hooked:
            cause = WorkerLost(ended.code, ended.signal).cause
            self.teardown_error = self.teardown_error or TeardownError(f"a worker died in its teardown ({cause})")
        if hand.done:
            self._futile = 0
        elif hand.state in (State.STARTING, State.READY) and hand.begun is None:
            self._count_futile(hand, ended)
        refused = hand.state is State.ENDED and not hand.was_ready
        if wanted and not refused and self._futile < _FUTILE_LIVES:
            self.hire(hand.number)

    def _count_futile(self, hand: Hand, ended: Exit) -> None:
        self._futile += 1
        if self._futile < _FUTILE_LIVES:
            return
        cause = WorkerLost(ended.code, ended.signal).cause
        when = "while they have nothing to do" if hand.was_ready else "before they are ready"
        hint = "see the hooks' setup, and what the modules of the job do when they are imported"
        self._give_up(WorkerInitError(f"worker processes die {when} ({cause}); {hint}"))

    def _give_up(self, error: ManyhandsError) -> None:
        self.start_error = self.start_error or error
        if self.hands:
            _log.warning("there will be fewer workers: %s", error)

    def _unless_gone(self, hand: Hand, heard: Heard) -> Callable[[], object]:
        """One look at the selector may tell several things of a worker, and the first that it has ended."""
        return lambda: heard(hand) if self.hands.get(hand.number) is hand else None

    def _listen(self, hand: Hand) -> None:
        if not hand.listen():
            self._selector.unregister(hand.child.output)
