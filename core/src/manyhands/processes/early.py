"""A fork server that is a fork of this process, while this process is as good as a fresh interpreter.

The command line asks for it when it has loaded manyhands and nothing of the person's yet. The server is then
there in a millisecond instead of a quarter of a second. Where it could do harm, because there is a second thread whose
locks a fork would inherit, nothing happens, and the server starts as always.
"""

from __future__ import annotations

import atexit
import os
import signal as signals
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NoReturn

from manyhands.processes import server
from manyhands.processes.descriptors import Descriptors
from manyhands.processes.signals import held

_LOOK: Final = 0.002
_TASKS: Final = Path("/proc/self/task")


class EarlyServer:
    """A server that was forked and that nobody uses yet; it ends when its socket is closed.

    Args:
        pid: its process id.
        peer: where it takes requests.
    """

    def __init__(self, pid: int, peer: socket.socket) -> None:
        self.pid = pid
        self.peer = peer
        self.returncode: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, as `subprocess.Popen.wait` has it.

        Raises:
            subprocess.TimeoutExpired: it has not ended.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            pid, status = os.waitpid(self.pid, 0 if end is None else os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("fork server", timeout or 0.0)
            else:
                time.sleep(_LOOK)
        return self.returncode

    def kill(self) -> None:
        """End it at once."""
        if self.returncode is None:
            os.kill(self.pid, signals.SIGKILL)


_waiting: list[EarlyServer] = []


@contextmanager
def early_server(*modules: str) -> Iterator[None]:
    """Have a server for the first launcher that wants one, if that is safe; nobody may start one when this ends.

    Args:
        modules: what its workers need besides; it imports them while this process goes on.
    """
    if os.name == "posix" and _is_alone() and not _waiting:
        _waiting.append(_fork_server(modules))
    try:
        yield
    finally:
        unused = take_server()
        if unused is not None:
            unused.peer.shutdown(socket.SHUT_RDWR)  # a fork of this process may have it open
            unused.peer.close()
            unused.wait()


def _fork_server(modules: Sequence[str]) -> EarlyServer:
    with Descriptors() as ours, Descriptors() as theirs:
        peer, control = socket.socketpair()
        ours.callback(peer.close)
        theirs.callback(control.close)
        parent = os.getpid()
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()  # or the fork would have it too
        with held():
            pid = os.fork()
            if pid == 0:
                _serve(parent, control, modules)
        ours.keep()
    return EarlyServer(pid, peer)


def take_server() -> EarlyServer | None:
    """The server, for its one user."""
    return _waiting.pop() if _waiting else None


def _is_alone() -> bool:
    """No second thread, not even one that Python does not know."""
    if threading.active_count() > 1:
        return False
    return not _TASKS.is_dir() or len(list(_TASKS.iterdir())) == 1


def _serve(parent: int, control: socket.socket, modules: Sequence[str]) -> NoReturn:
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stdio in (0, 1):
            os.dup2(nowhere, stdio)
        kept = os.dup2(control.detach(), 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        atexit._clear()  # noqa: SLF001  # what this program wants done at its end is not for its workers
        server.run(parent, kept, modules)
    finally:
        os._exit(1)
