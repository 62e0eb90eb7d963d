"""Keeps Ray from taking signals over: it lets SIGTERM end the program on the spot, and ends what `faulthandler` does.

Ray sets them in C++ when it is started, of which Python does not know, and to what the system does by default when it
is ended; which of the two is under way, nobody can see from outside.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_TAKEN: Final = ("SIGTERM", "SIGSEGV", "SIGABRT", "SIGFPE", "SIGILL")
_ACTION_BYTES: Final = 1024
"""More than a `struct sigaction` has anywhere."""

_LOOK_SECONDS: Final = 0.01


@contextmanager
def signals_kept() -> Iterator[None]:
    """What was to happen at these signals goes on to be what happens, unless the program itself sets something else."""
    if os.name != "posix":
        yield
        return
    kept, ended = [_Signal(getattr(signal, name)) for name in _TAKEN], threading.Event()
    watching = threading.Thread(target=_watch, args=(kept, ended), name="manyhands-signals", daemon=True)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()
        for each in kept:
            each.set_back()


def _watch(kept: list[_Signal], ended: threading.Event) -> None:
    while not ended.wait(_LOOK_SECONDS):
        for each in kept:
            each.put_back()


class _Signal:
    """What is to happen at a signal: as Python knows it, and as the system does.

    Args:
        number: of the signal.
    """

    def __init__(self, number: signal.Signals) -> None:
        self._number = number
        self._libc = ctypes.CDLL(None)
        self._handler = signal.getsignal(number)
        self._action = self._read(number)

    def set_back(self) -> None:
        """Undo also what Ray's own Python code has set, which it does in the main thread alone."""
        if threading.current_thread() is threading.main_thread() and self._handler is not None:
            signal.signal(self._number, self._handler)
        self.put_back()

    def put_back(self) -> None:
        """Let the system do what Python says."""
        now = signal.getsignal(self._number)
        if now is self._handler:
            self._libc.sigaction(self._number, self._action, None)
        elif callable(now) and (python := self._of_python()) is not None:
            self._libc.sigaction(self._number, python, None)
        elif not callable(now):  # by default, or to be ignored
            self._libc.signal(self._number, ctypes.c_void_p(int(now or 0)))

    def _of_python(self) -> Any:
        """The action by which Python calls a handler, which is one and the same for all."""
        if callable(self._handler):
            return self._action
        return self._read(signal.SIGINT) if callable(signal.getsignal(signal.SIGINT)) else None

    def _read(self, number: int) -> Any:
        action = ctypes.create_string_buffer(_ACTION_BYTES)
        self._libc.sigaction(number, None, action)
        return action
