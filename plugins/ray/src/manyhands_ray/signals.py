"""Keeps Ray from taking SIGTERM over: it lets it end the program on the spot, and print a stack of its own."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_ACTION_BYTES: Final = 1024
"""More than a `struct sigaction` has anywhere."""


@contextmanager
def signals_kept() -> Iterator[None]:
    """What was to happen at SIGTERM is to happen again afterwards.

    Ray sets it in Python where it is called by the main thread, and in C++ in any case, which Python does not know of;
    when it ends, it sets what the system does by default.
    """
    if os.name != "posix":
        yield
        return
    libc, action = ctypes.CDLL(None), ctypes.create_string_buffer(_ACTION_BYTES)
    handler, is_main = signal.getsignal(signal.SIGTERM), threading.current_thread() is threading.main_thread()
    libc.sigaction(signal.SIGTERM, None, action)
    try:
        yield
    finally:
        if is_main and handler is not None:  # None: it was not set from Python
            signal.signal(signal.SIGTERM, handler)
        libc.sigaction(signal.SIGTERM, action, None)
