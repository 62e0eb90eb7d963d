"""Forks of one interpreter that has our modules loaded: a worker is there in milliseconds.

The server has a single thread and no module of the user's, so that a fork of it is as good as a fresh interpreter, and
what it loaded is in memory once. It runs the code in `manyhands.processes.server`.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from manyhands.processes import interpreter, wire
from manyhands.processes.descriptors import Descriptors, open_pipe
from manyhands.processes.early import EarlyServer, take_server
from manyhands.processes.handle import Handle, as_exit, open_sentinel, wait_readable
from manyhands.processes.launch import Exit

_PATIENCE: Final = 60.0
"""Seconds that a server may take to answer; its first answer includes its start."""

_END: Final = 5.0
"""Seconds that a server may take to end its children."""

_LIVES: Final = 2
"""So many servers in a row are replaced that end before they have forked: killed, or unable to start."""

_DIRECTORY: Final[int] = os.O_DIRECTORY | getattr(os, "O_PATH", os.O_RDONLY)
_LOOK: Final = 0.002
"""Seconds between two looks at a child where its end cannot be waited for."""


class ServerLost(OSError):
    """The server has ended, or does not answer."""


class ForkServerLauncher:
    """Starts workers from a server, which is started with the first of them, and anew if it has died.

    If it dies, its children die with it. Limits, umask and the variables that an interpreter reads only at its start
    are those that this process had when the server was started.
    """

    def __init__(self) -> None:
        self._server: ForkServer | None = None

    def start(self, main: str, fds: Sequence[int]) -> ForkedChild:
        """See `Launcher.start`."""
        for _ in range(_LIVES):
            with suppress(ServerLost):
                return self._fork(main, fds)
            self.close()
        return self._fork(main, fds)

    def _fork(self, main: str, fds: Sequence[int]) -> ForkedChild:
        if self._server is None:
            self._server = ForkServer()
        return self._server.fork(main, fds)

    def close(self) -> None:
        """End the server, and the children that still run."""
        server, self._server = self._server, None
        if server is not None:
            server.close()


class ForkServer:
    """The server process, seen from its parent."""

    _process: EarlyServer | subprocess.Popen[bytes]

    def __init__(self) -> None:
        early = take_server()
        if early is not None:
            self._peer, self._process = early.peer, early
        else:
            self._peer, self._process = _start()
        self._peer.settimeout(_PATIENCE)
        self._is_asked = False

    def fork(self, main: str, fds: Sequence[int]) -> ForkedChild:
        """Start a child.

        Raises:
            ServerLost: there is no server any more.
            OSError: the child could not be started.
        """
        with Descriptors() as ours, Descriptors() as theirs:
            output, written = open_pipe(ours, theirs)
            directory = theirs.own(os.open(".", _DIRECTORY))  # as a descriptor: its path may lead elsewhere by now
            ended, held = open_sentinel(ours, theirs)
            reply, sent = self._ask(_request(main, held, fds), [written, directory, *held, *fds])
            for fd in sent:
                ours.own(fd)
            pid = int(reply["pid"])
            if ended is None and not sent:  # this process can open no more
                self._ask({"do": "drop", "pid": pid})
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            ours.keep()
        return ForkedChild(self, pid, output, sent[0] if ended is None else ended, is_pidfd=ended is None)

    def kill(self, pid: int, signal: int) -> None:
        """Send a signal to a child that was not reaped."""
        self._ask({"do": "kill", "pid": pid, "signal": signal})

    def reap(self, pid: int) -> Exit | None:
        """How a child ended; None: it runs.

        Raises:
            ServerLost: there is no server any more.
        """
        reply, _ = self._ask({"do": "reap", "pid": pid})
        if reply["runs"]:
            return None
        return Exit() if reply["status"] is None else as_exit(reply["status"])

    def close(self) -> None:
        """End it. Idempotent."""
        with suppress(OSError):  # it has ended
            self._peer.shutdown(socket.SHUT_RDWR)  # closing says nothing while a fork of this process has a copy
        self._peer.close()
        try:
            self._process.wait(_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, message: wire.Message, fds: Sequence[int] = ()) -> tuple[wire.Message, list[int]]:
        """Send a request and wait for the reply."""
        if self._is_asked:  # an earlier request was interrupted: its reply would be taken for this one's
            self.close()
        if self._peer.fileno() < 0:
            raise ServerLost("the fork server has ended")
        reply, sent = self._exchange(message, fds)
        if "errno" in reply:
            raise OSError(reply["errno"], os.strerror(reply["errno"]))
        return reply, sent

    def _exchange(self, message: wire.Message, fds: Sequence[int]) -> tuple[wire.Message, list[int]]:
        self._is_asked = True
        try:
            wire.send(self._peer, message, fds)
            reply, sent = wire.receive(self._peer)
        except (ConnectionError, TimeoutError, EOFError) as error:
            self.close()
            raise ServerLost(f"the fork server has ended (exit status {self._process.returncode})") from error
        except OSError:  # a descriptor that cannot be sent: nothing was
            self._is_asked = False
            raise
        self._is_asked = False
        return reply, sent


class ForkedChild(Handle):
    """A child of the server.

    Args:
        server: its parent.
        pid: see `Handle`.
        output: see `Handle`.
        sentinel: see `Handle`.
        is_pidfd: see `Handle`.
    """

    def __init__(self, server: ForkServer, pid: int, output: int, sentinel: int, *, is_pidfd: bool) -> None:
        super().__init__(pid, output, sentinel, is_pidfd=is_pidfd)
        self._server = server

    def _kill(self, signal: int) -> None:
        with suppress(ServerLost):  # then it has ended, or is about to
            self._server.kill(self.pid, signal)

    def _reap(self) -> Exit:
        if self._is_pidfd:
            wait_readable(self._sentinel)
        try:
            while (end := self._server.reap(self.pid)) is None:
                time.sleep(_LOOK)
        except ServerLost:
            return Exit()
        return end


def _start() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """A server, and the socket on which it takes requests."""
    with Descriptors() as ours, Descriptors() as theirs:
        peer, control = socket.socketpair()
        ours.callback(peer.close)
        theirs.callback(control.close)
        inherited = theirs.raise_above_stdio([control.fileno()])
        process = interpreter.start("manyhands.processes.server", os.getpid(), *inherited, fds=inherited)
        ours.keep()
    return peer, process


def _request(main: str, held: Sequence[int], fds: Sequence[int]) -> wire.Message:
    return {
        "do": "fork",
        "main": main,
        "environment": dict(os.environ),
        "path": [entry for entry in sys.path if isinstance(entry, str)],
        "held": len(held),
        "fds": 2 + len(held) + len(fds),
    }
