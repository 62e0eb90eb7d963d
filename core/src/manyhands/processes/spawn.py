"""A fresh interpreter for each worker."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from manyhands.processes import interpreter
from manyhands.processes.descriptors import Descriptors, open_pipe
from manyhands.processes.handle import Handle, as_exit, open_sentinel
from manyhands.processes.launch import Exit


class SpawnLauncher:
    """Starts each worker from nothing: nothing of this process is in it but what it is handed on."""

    def start(self, main: str, fds: Sequence[int]) -> SpawnedChild:
        """See `Launcher.start`."""
        with Descriptors() as ours, Descriptors() as theirs:
            output, written = open_pipe(ours, theirs)
            life, alive = open_pipe(theirs, ours)
            ended, held = open_sentinel(ours, theirs)
            inherited = theirs.raise_above_stdio([life, *held, *fds])
            process = interpreter.start(
                "manyhands.processes.child", main, os.getpid(), len(held), *inherited, fds=inherited, output=written
            )
            ours.callback(_abandon, process)
            sentinel = ours.own(os.pidfd_open(process.pid)) if ended is None else ended
            ours.keep()
        return SpawnedChild(process, output, sentinel, alive, is_pidfd=ended is None)

    def close(self) -> None:
        """Nothing is shared by the children."""


class SpawnedChild(Handle):
    """A child of this process.

    Args:
        process: it.
        output: see `Handle`.
        sentinel: see `Handle`.
        alive: the write end of its life pipe.
        is_pidfd: see `Handle`.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], output: int, sentinel: int, alive: int, *, is_pidfd: bool
    ) -> None:
        super().__init__(process.pid, output, sentinel, is_pidfd=is_pidfd)
        self._process = process
        self._alive = alive

    def _release(self) -> None:
        super()._release()
        os.close(self._alive)

    def _kill(self, signal: int) -> None:
        os.kill(self.pid, signal)

    def _reap(self) -> Exit:
        return _reap(self._process)


def _reap(process: subprocess.Popen[bytes]) -> Exit:
    try:
        _, status = os.waitpid(process.pid, 0)
    except ChildProcessError:  # somebody else reaped it, or this process ignores SIGCHLD
        process.returncode = 0  # Popen complains of processes that it has not seen end
        return Exit()
    process.returncode = os.waitstatus_to_exitcode(status)
    return as_exit(status)


def _abandon(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    _reap(process)
