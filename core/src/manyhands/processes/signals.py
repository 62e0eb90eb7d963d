"""^C and SIGTERM while processes start.

A terminal sends ^C to every process of its foreground group. An interpreter that starts would answer with a
traceback, so both signals are held back from before its first instruction until it can take them.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_HELD: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held() -> Iterator[None]:
    """Hold the signals back in this thread, and for good in the processes that it starts meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take() -> None:
    """Let a worker take signals: ^C does nothing, because its parent decides what ends; SIGTERM ends it."""
    signal.signal(signal.SIGINT, do_nothing)  # SIG_IGN would be inherited by whatever hooks start
    signal.siginterrupt(signal.SIGINT, False)  # system calls of extensions go on as if nothing had come
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def see_children() -> None:
    """Get the exit status of children, also where the parent ignores its own: that is inherited."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def do_nothing(*_: Any) -> None:
    """Take a signal."""
