"""What is seen of the worker that runs a pipe: where it is, and whether it goes on.

One that says nothing is silent: its heartbeat has stopped, because something holds the interpreter, or the process is
stopped. One that says the same again and again may be stuck, such as in a call that never returns.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Final

from manyhands.engines.board import SILENT_SECONDS, Status
from manyhands.processes.owner import Owner

_LONGEST_STEP: Final = 0.5
"""So much of the time between two looks counts: this process may have been stopped meanwhile, and its workers too."""

_HOW_TO_FIND: Final = "to find the record that kills, let an executor run the pipe, such as multiprocessing"
_HOW_TO_LOSE_ONE: Final = (
    "if it was only slow, raise stuck_timeout; to lose only the record that hangs, let an executor run the pipe, "
    "such as multiprocessing, with record_timeout"
)

_log: Final = logging.getLogger("manyhands.engine")


@dataclass(slots=True)
class _Attempt:
    """A worker that had the pipe: where it was last, and why it was killed, if we did it."""

    pid: int
    position: int
    fault: str | None = None


class Lookout:
    """Sees the workers of one pipe, one after the other.

    Args:
        name: of the pipe.
        limit: seconds after which a worker that does not get on is killed; None: never.

    Attributes:
        path: of the pipe's input, once it is known.
        status: how far it is.
    """

    def __init__(self, name: str, limit: float | None) -> None:
        self.path: Path | None = None
        self.status: Status = Status()
        self._name = name
        self._limit = limit
        self._attempts: list[_Attempt] = []
        self._looked = monotonic()
        self._still = 0.0
        self._told = False
        self._known = 1

    def see(self, status: Status) -> None:
        """Take over what its worker said last."""
        now, before = monotonic(), self.status
        if status.pid != before.pid:
            self._attempts.append(_Attempt(status.pid, status.position))
        elif self._attempts:
            self._attempts[-1].position = status.position
        self._still = self._still + min(now - self._looked, _LONGEST_STEP) if _is_same_place(status, before) else 0.0
        self._looked = now
        self.status = status  # last: `check` may run in another thread

    def tell_lost(self) -> None:
        """Say it if another worker has had to begin the pipe since the last time."""
        attempts, known = list(self._attempts), self._known
        for lost, next_one in pairwise(attempts[known - 1 :]):
            place = self._place(lost.position)
            worker = f"worker {lost.pid}, which ran {self._name},"
            _log.warning("%s was lost, last seen %s; worker %d runs it from its beginning", worker, place, next_one.pid)
        self._known = max(known, len(attempts))

    def check(self) -> None:
        """Tell of a worker that has become silent; kill one that does not get on."""
        status = self.status  # first, see above
        if not status.heartbeat:
            return
        told, self._told = self._told, status.state == "silent"
        if self._told and not told and _lives(status):
            worker, place = self._worker(status), self._place(status.position)
            _log.warning("%s has said nothing for %g s; it was last seen %s", worker, SILENT_SECONDS, place)
        is_late = self._limit is not None and self._still > self._limit
        if is_late and not self._attempts[-1].fault and _lives(status):
            self._kill(status)

    def account(self, cause: str) -> str:
        """Why the pipe cannot be run, when its second worker is lost.

        Args:
            cause: of the death of that one.
        """
        faults = [attempt.fault for attempt in self._attempts]
        if not any(faults):
            return f"its worker died twice ({cause}){self._last_seen()}; {_HOW_TO_FIND}"
        first, last = (f"{fault} and was killed" if fault else "died" for fault in (faults[0], faults[-1]))
        before = "like the one before it" if first == last else f"and the one before it {first}"
        return f"its worker {last if faults[-1] else f'died ({cause})'}, {before}; {_HOW_TO_LOSE_ONE}"

    def _kill(self, status: Status) -> None:
        silent = status.silent_seconds > self._still / 2
        what = "said nothing for {:g} s, last seen {}" if silent else "made no progress for {:g} s {}"
        fault = self._attempts[-1].fault = what.format(self._limit, self._place(status.position))
        _log.warning("%s is killed: it %s", self._worker(status), fault)
        with suppress(ProcessLookupError):
            os.kill(status.pid, signal.SIGKILL)

    def _worker(self, status: Status) -> str:
        return f"worker {status.pid}, which runs {self._name},"

    def _place(self, *positions: int) -> str:
        """Where it was, or in the batch that begins there: a plain hook does not say which of its records it is at."""
        records = "record" if len(positions) == 1 else "records"
        of_input = f" of {self.path}" if self.path else ""
        return f"at or after {records} {' and '.join(map(str, positions))}{of_input}"

    def _last_seen(self) -> str:
        """As exact as is known: a worker says where it is ten times a second."""
        places = sorted({attempt.position for attempt in self._attempts})
        return f", last seen {self._place(*places)}" if places else ""


def _lives(status: Status) -> bool:
    """The worker is another process, which is there, and no other has its number by now."""
    worker = Owner.this()._replace(pid=status.pid, start=status.begun)
    return worker.pid != os.getpid() and worker.may_live()


def _is_same_place(one: Status, other: Status) -> bool:
    return _place(one) == _place(other)


def _place(status: Status) -> tuple[int, ...]:
    return status.pid, status.read, status.total_processed, status.reached, status.position
