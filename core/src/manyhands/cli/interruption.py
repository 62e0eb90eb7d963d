"""^C and SIGTERM while a job runs: the first ends the run, the second the wait for its end, the third the command."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any, Final, Self

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """A context in which both signals raise `KeyboardInterrupt`, all but the second.

    That one may come when the run has ended and is being summed up, which an exception would cut off. A signal that is
    ignored, as ^C in a script's background, stays so. Entered by another than the main thread it does nothing.

    Attributes:
        count: how many signals have come.
    """

    def __init__(self) -> None:
        self.count: int = 0
        self._owner = os.getpid()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None: not Python's own
                    self._before[number] = signal.signal(number, self._take)
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
            self._end_child(number)
            return
        self.count += 1
        if self.count != 2:  # noqa: PLR2004  # see above
            raise KeyboardInterrupt

    def _end_child(self, number: int) -> None:
        """A child that a hook forked ends as if it had never been ours."""
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
