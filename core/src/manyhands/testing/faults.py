"""What code of a job can do to the process that runs it. Workers import this by its name."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NoReturn

from manyhands.errors import ProtocolError

_SPARED: Final[set[int]] = set()


def spare_this_process() -> None:
    """Keep lethal faults from ending the process that calls this; those that it starts are not spared.

    A backend may say that chunks leave the process and run them here all the same: that must not end the tests.
    """
    _SPARED.add(os.getpid())


def fail() -> NoReturn:
    """Raise an exception like any other."""
    raise RuntimeError("it fails")


def run_out_of_memory() -> NoReturn:
    """Raise what Python raises when there is no memory."""
    raise MemoryError("no memory")


def leave() -> NoReturn:
    """Raise what `sys.exit` raises."""
    sys.exit(3)


def leave_at_once() -> None:
    """End the process as C code does: nothing is cleaned up."""
    _check_worker()
    os._exit(3)


def crash() -> None:
    """Read memory that is not there."""
    _check_worker()
    with suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    ctypes.string_at(0)


def die() -> None:
    """Kill the process as the kernel does when memory runs out."""
    _check_worker()
    os.kill(os.getpid(), signal.SIGKILL)


def _check_worker() -> None:
    if os.getpid() in _SPARED:
        raise ProtocolError(
            "code of the job runs in the process that started the run: "
            "either the backend must not declare crosses_process, or it sends no chunk to a worker process"
        )


FAULTS: Final[dict[str, Callable[[], object]]] = {
    "raise": fail,
    "MemoryError": run_out_of_memory,
    "sys.exit": leave,
    "os._exit": leave_at_once,
    "SIGSEGV": crash,
    "SIGKILL": die,
}
"""By the names that cases give them."""

CAUSES: Final[dict[str, str]] = {"os._exit": "exit code 3", "SIGSEGV": "SIGSEGV", "SIGKILL": "SIGKILL"}
"""Those that no process survives, and what is said of it afterwards."""


def commit(fault: str | None) -> None:
    """Do it.

    Args:
        fault: its name; None does nothing.
    """
    if fault is not None:
        FAULTS[fault]()
