"""Handlers of signals, held back while the main thread has locks that other threads need.

Python runs them in the main thread between any two instructions, and one that raises, as that of ^C does, may leave a
lock locked: the methods of a `Future` and of a `Condition` are not proof against it.
"""

from __future__ import annotations

# What `signal` wraps: its enums make it ten times as slow, and this is done for every batch.
import _signal  # type: ignore[import-not-found]
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

Handler = Callable[[int, FrameType | None], Any]


class Interrupts:
    """A context in which handlers wait until its end, or until `release`. One thread at a time may be in it.

    In threads other than the main one, where no handler runs, it does nothing.

    Args:
        enabled: False: it never does anything.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self._main = threading.main_thread().ident if enabled else None
        self._numbers: list[int] | None = None
        self._held = False
        self._replaced: dict[int, Handler] = {}
        self._waiting: list[tuple[int, Handler]] = []
        self._stand_in: Handler = self._handle

    def __enter__(self) -> Self:
        self._held = True
        if threading.get_ident() == self._main:
            try:
                self._replace()
            except BaseException:  # of a handler that was not yet replaced
                self._restore()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._replaced:
            try:
                self._restore()
            except BaseException:  # of a handler that is back already
                self._restore()
                raise
        self.release()

    def hold(self) -> None:
        """Let handlers wait again."""
        self._held = True

    def release(self) -> None:
        """Let them run, and those that wait at once: whatever they raise comes from here."""
        self._held = False
        while self._waiting:
            number, handler = self._waiting.pop(0)
            handler(number, None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        handler = self._replaced.get(number)
        if handler is None:
            return
        if self._held:
            self._waiting.append((number, handler))
        else:
            handler(number, frame)

    def _replace(self) -> None:
        if self._numbers is None:
            self._numbers = [number for number in range(1, signal.NSIG) if callable(_signal.getsignal(number))]
        for number in self._numbers:
            handler = _signal.getsignal(number)
            if callable(handler):
                self._replaced[number] = handler
                _signal.signal(number, self._stand_in)

    def _restore(self) -> None:
        for number, handler in list(self._replaced.items()):
            found = _signal.signal(number, handler)
            if found is not self._stand_in:
                _signal.signal(number, found)  # it was set meanwhile, by code of the person's
            del self._replaced[number]
