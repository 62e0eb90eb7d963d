"""^C and SIGTERM while a job runs: the first ends the run, the second the command."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any, Final, Self

_LAST_SECONDS: Final = 0.5
"""So long the command goes on after the second, for what it has to say; it may be that nobody reads it."""


class Interruption:
    """A context in which the first of both signals raises `KeyboardInterrupt`.

    The second raises nothing: it often comes when the run has just ended, and would cut off the summary. A handler that
    the person's code has for ^C stays, and so does ^C that is ignored, as in the background of a script. Entered by
    another than the main thread it does nothing.

    Attributes:
        count: how many signals have come.
    """

    def __init__(self) -> None:
        self.count: int = 0
        self._owner = os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._take)
            if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
                self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._take:  # else code of the person's has taken it
                signal.signal(number, handler)

    @property
    def again(self) -> bool:
        """A second one has come: nothing is waited for any more."""
        return self.count > 1

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._owner:
            _take_in_child(number)
            return
        self.count += 1
        if not self.again or sys.platform == "win32":
            raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, _leave)
        signal.setitimer(signal.ITIMER_REAL, _LAST_SECONDS)


def _take_in_child(number: int) -> None:
    """A child that a hook forked takes it as if it had never been ours."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _leave(*_: object) -> None:
    os._exit(1)
