"""What ends a process when its parent ends, whatever either of them is doing.

On Linux the kernel does it, so that code that holds the interpreter lock ends as well: by the signal that a process
can ask for at its parent's death, and by the signal that the end of a pipe can send. Each alone has a gap: the first
follows the parent's *thread* and is lost when that had ended before, the second is lost when somebody else inherited
the other end. Elsewhere a thread reads the pipe.

Not covered are processes that the worker starts itself.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import threading
from contextlib import suppress
from typing import Any, Final

_PR_SET_PDEATHSIG: Final = 1
_IOLBF: Final = 1
_F_SETSIG: Final[int | None] = getattr(fcntl, "F_SETSIG", None)


def _load_libc() -> Any:
    with suppress(ImportError, OSError):  # Python can be built without ctypes: the pipe alone must do then
        import ctypes

        return ctypes.CDLL(None)
    return None


libc: Final[Any] = _load_libc()
"""The C library; None where it cannot be called."""


def flush_lines() -> None:
    """Let what C code prints go out line by line: into a pipe it would otherwise wait until there are 4 KiB of it."""
    with suppress(ImportError, AttributeError, ValueError):  # another C library, or none that can be called
        import ctypes

        libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, _IOLBF, 0)


def die_with(parent: int) -> None:
    """End when the parent's thread that started this process ends, or now if the parent has already.

    Args:
        parent: its process id. Where the kernel cannot do it, only the check is made.
    """
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        _die()


def hang_on(life: int) -> None:
    """End when the other end of a pipe is closed, or now if it is.

    Args:
        life: the read end of a pipe of this process alone, in which nobody writes.
    """
    if _F_SETSIG is None:
        _start_watch(life)
        return
    fcntl.fcntl(life, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(life, _F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(life, fcntl.F_SETFL, fcntl.fcntl(life, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()  # select cannot take descriptors from 1024
    poll.register(life, select.POLLIN)
    if poll.poll(0):
        _die()


def _start_watch(life: int) -> None:
    threading.Thread(target=_watch, args=(life,), name="manyhands-lifeline", daemon=True).start()


def _watch(life: int) -> None:
    with suppress(OSError):  # the worker closed it: then there is nothing to see
        if not os.read(life, 1):
            _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
