"""The interface of whatever starts worker processes, and the choice between the start methods.

A launcher and its children are used by one thread, which lives as long as they do: on Linux the kernel ends a child
when the *thread* that started it ends.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from manyhands.errors import OptionsError

StartMethod = Literal["spawn", "forkserver"]
"""`spawn`: a fresh interpreter per worker. `forkserver`: forks of one fresh interpreter that has our modules loaded."""

START_METHODS: Final[tuple[StartMethod, ...]] = ("spawn", "forkserver")

_WHY_NO_FORK: Final = (
    "a run has threads, whose locks a forked process may inherit locked and wait for without end; "
    "forkserver starts workers as fast"
)


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended.

    Attributes:
        code: its exit status, 0 to 255, if it exited by itself.
        signal: the number of the signal that killed it, if one did.

    Both are None when nobody can know: who could have asked the kernel is gone.
    """

    code: int | None = None
    signal: int | None = None


class Child(Protocol):
    """A process that was started.

    Attributes:
        pid: its process id.
        output: non-blocking read end of a pipe: what it and its own children write to stdout and stderr. Its end of
            file says nothing about this process, because they may hold the other end.
    """

    pid: int
    output: int

    def fileno(self) -> int:
        """A descriptor for `select` that becomes readable, and stays so, when the process has ended."""

    def kill(self, signal: int = 9) -> None:
        """Send a signal, by default SIGKILL. Does nothing if the process has ended; never hits another one."""

    def wait(self) -> Exit:
        """How it ended. Blocks until it has; may be called again."""

    def close(self) -> None:
        """Release what belongs to it, `output` included; a process that has not ended is killed. Idempotent."""


class Launcher(Protocol):
    """Starts processes."""

    def start(self, main: str, fds: Sequence[int]) -> Child:
        """Start a process that calls a function and ends when it returns.

        It has the environment, current directory and `sys.path` that this process has now, nothing to read on stdin,
        no descriptor but those given, and is killed when this process ends, however that happens. ^C does not end it.

        Args:
            main: `module:function`; the function is called with the list of the inherited descriptors.
            fds: what it inherits, in order; the numbers may be others there. The caller's own stay open here.

        Raises:
            OSError: it could not be started; nothing is left of it.
        """

    def close(self) -> None:
        """Release everything. Close the children first: those that still run may be killed. Idempotent."""


def known_start_method(start_method: object) -> StartMethod:
    """The start method, if it is one.

    Raises:
        OptionsError: there is no such method, or it is `fork`; says why.
    """
    for known in START_METHODS:
        if start_method == known:
            return known
    why = f": {_WHY_NO_FORK}" if start_method == "fork" else ""
    raise OptionsError(f"start_method must be one of {', '.join(START_METHODS)}, not {start_method!r}{why}")


def make_launcher(start_method: StartMethod) -> Launcher:
    """The launcher for a start method. Starts nothing yet.

    Raises:
        OptionsError: this system has none, or there is no such method.
    """
    if os.name != "posix":
        raise OptionsError('worker processes need a POSIX system, such as Linux or macOS; use executor "threads" here')
    if known_start_method(start_method) == "spawn":
        from manyhands.processes.spawn import SpawnLauncher

        return SpawnLauncher()
    from manyhands.processes.forkserver import ForkServerLauncher

    return ForkServerLauncher()
