"""The end of a run: workers that have nothing more to do run their teardown, those that are stuck are killed."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

import msgpack

from manyhands.errors import TeardownError, WorkerLost
from manyhands.worker.pickles import load_failure
from manyhands_ray.hand import Hand, State
from manyhands_ray.refusals import death_of

if TYPE_CHECKING:
    from manyhands_ray.crew import Crew
    from manyhands_ray.work import Work

_GRACE_SECONDS: Final = 1.0
_SETUP_GRACE_SECONDS: Final = 2.0


class Farewell:
    """It. Only the supervisor's thread calls it.

    Args:
        crew: the workers.
        work: what they have to do.
        hooked: the job has hooks, so that a teardown matters.

    Attributes:
        error: a teardown failed.
    """

    def __init__(self, crew: Crew, work: Work, *, hooked: bool) -> None:
        self._crew, self._work, self._hooked = crew, work, hooked
        self.error: TeardownError | None = None

    def begin(self, *, cancel: bool, aborted: bool) -> None:
        """No more chunks come.

        Args:
            cancel: as in `Executor.shutdown`.
            aborted: with that, no new record may begin.
        """
        self._work.ending = self._work.ending or monotonic()
        if cancel and not self._work.cancelled:
            self._work.ending, self._work.cancelled = monotonic(), True
            for hand in self._crew.hands:
                self._work.put_back(*hand.line.take_next())
            for hand in self._crew.hands if aborted else ():
                hand.cancel()

    def press(self) -> None:
        """Let who has nothing more to do run its teardown; kill who is stuck, and on an aborted run who is at work."""
        if self._work.ending is None:
            return
        since = monotonic() - self._work.ending
        for hand in [*self._crew.hands]:
            if hand.state is State.READY and self._work.is_over:
                hand.ask_tear_down(self._crew.when_answered(hand, self._see_off))
            elif self._is_stuck(hand, since):
                self._abandon(hand)

    def see_end(self, error: BaseException) -> None:
        """A worker has died in its teardown.

        Args:
            error: what Ray says of that.
        """
        if self._hooked and self._work.ending is not None:
            self._tell(f"a worker died in its teardown ({WorkerLost(reason=death_of(error)).cause})")

    def _is_stuck(self, hand: Hand, since: float) -> bool:
        if hand.state is State.STARTING and self._work.is_over:
            return True  # nothing of the job was called there
        if self._work.cancelled:
            return since > _GRACE_SECONDS
        return hand.state is State.SETTING_UP and since > _SETUP_GRACE_SECONDS and self._work.is_over

    def _abandon(self, hand: Hand) -> None:
        if hand.state is State.ENDING and hand.was_ready and self._hooked:
            self._tell("a worker's teardown did not end")
        task, progress, _ = self._crew.dismiss(hand)
        if task is not None:
            self._work.fail(task, WorkerLost(progress=progress, reason="the run was aborted", worker=hand.name))

    def _see_off(self, hand: Hand, answer: bytes) -> None:
        """It is through with its teardown."""
        failed, output, header, _ = msgpack.unpackb(answer)
        hand.log(output)
        if failed:
            error = load_failure(header)
            self._tell(error if isinstance(error, TeardownError) else str(error))
        self._crew.dismiss(hand)

    def _tell(self, what: TeardownError | str) -> None:
        """The first is the one to tell."""
        self.error = self.error or (TeardownError(what) if isinstance(what, str) else what)
