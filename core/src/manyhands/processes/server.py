"""The fork server process: forks a worker for each request, and says how those that ended did.

It never has a second thread, and never imports what is the user's.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import signal as signals
import socket
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, NoReturn

from manyhands.processes import child, lifeline, wire
from manyhands.processes.descriptors import Descriptors, open_pipe
from manyhands.processes.signals import see_children

_PRELOADED: Final = (
    "cloudpickle",
    "lz4.frame",
    "manyhands.adapters.csv",
    "manyhands.adapters.json",
    "manyhands.worker.cell",
    "manyhands.worker.context",
    "manyhands.worker.pipeline",
    "manyhands.worker.tuning",
    "msgpack",
    "pydantic",
)
"""What workers import anyway."""

Reply = tuple[wire.Message, list[int]]


def main() -> NoReturn:
    """Where the server's interpreter begins."""
    parent, control = map(int, sys.argv[1:])
    run(parent, control)


def run(parent: int, control: int, modules: Sequence[str] = ()) -> NoReturn:
    """Serve until the other end of the socket is closed.

    Args:
        parent: the process id of the parent.
        control: the socket.
        modules: what workers need besides.
    """
    os.set_inheritable(control, False)
    lifeline.die_with(parent)
    _fill_stdio()
    see_children()
    gc.disable()  # what is imported stays: looking through it for garbage would be a tenth of the time
    for module in (*_PRELOADED, *modules):
        importlib.import_module(module)
    gc.freeze()  # the collector of a child would write into all that it shares with the server
    gc.enable()
    Server(socket.socket(fileno=control)).serve()
    os._exit(0)


def _fill_stdio() -> None:
    """Open what the parent had closed, or the next files would get the numbers of stdin, stdout and stderr."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


class Server:
    """Answers requests.

    Args:
        peer: where they come from.
    """

    def __init__(self, peer: socket.socket) -> None:
        self._peer = peer
        self._pid = os.getpid()
        self._alive: dict[int, int] = {}  # the children that were not reaped, and the write ends of their life pipes

    def serve(self) -> None:
        """Answer until the peer has gone, then end the children."""
        with suppress(EOFError, ConnectionError):
            while True:
                self._send(*self._answer(*wire.receive(self._peer)))
        for pid in list(self._alive):
            self._drop(pid)

    def _send(self, reply: wire.Message, fds: Sequence[int]) -> None:
        with Descriptors() as sent:
            wire.send(self._peer, reply, [sent.own(fd) for fd in fds])

    def _answer(self, message: wire.Message, fds: Sequence[int]) -> Reply:
        with Descriptors() as received:
            for fd in fds:
                received.own(fd)
            try:
                return self._do(message, fds)
            except OSError as error:
                return {"errno": error.errno}, []

    def _do(self, message: wire.Message, fds: Sequence[int]) -> Reply:
        if message["do"] == "fork":
            return self._fork(message, fds)
        pid = message["pid"]
        if message["do"] == "reap":
            return self._reap(pid), []
        if message["do"] == "drop":
            self._drop(pid)
        elif pid in self._alive:
            os.kill(pid, message["signal"])
        return {}, []

    def _fork(self, message: wire.Message, fds: Sequence[int]) -> Reply:
        if len(fds) < message["fds"]:
            raise OSError(errno.EMFILE, "this process can open no more")
        with Descriptors() as ours, Descriptors() as theirs:
            life, alive = open_pipe(theirs, ours)
            pid = os.fork()
            if pid == 0:
                self._live(message, fds, life, alive)
            ours.keep()
        self._alive[pid] = alive
        if message["held"]:
            return {"pid": pid}, []
        try:
            return {"pid": pid}, [os.pidfd_open(pid)]
        except OSError:
            self._drop(pid)
            raise

    def _live(self, message: wire.Message, fds: Sequence[int], life: int, alive: int) -> NoReturn:
        """Be the child."""
        try:
            output, directory, *given = fds
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.fchdir(directory)
            self._peer.close()
            for fd in (output, directory, alive, *self._alive.values()):
                os.close(fd)
            _take_over(message["environment"], message["path"])
            child.live(message["main"], given[message["held"] :], life=life, parent=self._pid)
        except BaseException:  # noqa: BLE001  # it must not go back to the server's loop
            traceback.print_exc()
        finally:
            os._exit(1)

    def _reap(self, pid: int) -> wire.Message:
        if pid not in self._alive:
            return {"runs": False, "status": None}
        reaped, status = os.waitpid(pid, os.WNOHANG)
        if reaped:
            os.close(self._alive.pop(pid))
        return {"runs": not reaped, "status": status}

    def _drop(self, pid: int) -> None:
        os.kill(pid, signals.SIGKILL)
        os.waitpid(pid, 0)
        os.close(self._alive.pop(pid))


def _take_over(environment: Mapping[str, str], path: Sequence[str]) -> None:
    """Make the surroundings those that the parent has now: the server has those of its own start."""
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
    time.tzset()
    sys.path[:] = path
    importlib.invalidate_caches()
