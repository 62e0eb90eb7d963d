"""The parent's side of a child process."""

from __future__ import annotations

import errno
import os
import select
import signal as signals
from abc import ABC, abstractmethod
from contextlib import suppress
from functools import cache

from manyhands.processes.descriptors import Descriptors, open_pipe
from manyhands.processes.launch import Exit


@cache
def has_pidfd() -> bool:
    """Whether this system has descriptors of processes: they never mean another process that got the same id.

    Raises:
        OSError: this process can open no more.
    """
    try:
        os.close(os.pidfd_open(os.getpid()))
    except AttributeError:  # not Linux
        return False
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):  # an old kernel, a strict sandbox
            raise
        return False
    return True


def open_sentinel(ours: Descriptors, theirs: Descriptors) -> tuple[int | None, list[int]]:
    """What shows the end of a child that is about to start, where a pidfd cannot.

    Returns:
        The read end of a pipe, and in a list the other end, which only the child may hold; None and nothing where
        there are pidfds.
    """
    if has_pidfd():
        return None, []
    read, write = open_pipe(ours, theirs)
    return read, [write]


class Handle(ABC):
    """A child, apart from who its parent is.

    Args:
        pid: its process id.
        output: read end of its output.
        sentinel: a descriptor that becomes readable at its end: its pidfd, or a pipe whose other end only it holds.
        is_pidfd: which of them.

    The descriptors belong to the handle.
    """

    def __init__(self, pid: int, output: int, sentinel: int, *, is_pidfd: bool) -> None:
        os.set_blocking(output, False)
        self.pid = pid
        self.output = output
        self._sentinel = sentinel
        self._is_pidfd = is_pidfd
        self._exit: Exit | None = None
        self._closed = False

    def fileno(self) -> int:
        """See `Child.fileno`."""
        return self._sentinel

    def kill(self, signal: int = signals.SIGKILL) -> None:
        """See `Child.kill`."""
        if self._exit is not None:
            return
        with suppress(ProcessLookupError):
            if self._is_pidfd:
                signals.pidfd_send_signal(self._sentinel, signal)
            else:
                self._kill(signal)

    def wait(self) -> Exit:
        """See `Child.wait`."""
        if self._exit is None:
            self._exit = self._reap()
        return self._exit

    def close(self) -> None:
        """See `Child.close`."""
        if self._closed:
            return
        self._closed = True
        self.kill()
        self.wait()
        self._release()

    def _release(self) -> None:
        os.close(self.output)
        os.close(self._sentinel)

    @abstractmethod
    def _kill(self, signal: int) -> None:
        """Send a signal by the process id, which is still the child's as long as it was not reaped."""

    @abstractmethod
    def _reap(self) -> Exit:
        """Wait for the end of the process and take its exit status."""


def wait_readable(fd: int, seconds: float | None = None) -> bool:
    """Whether it becomes readable in time. By poll: select cannot take descriptors from 1024."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if seconds is None else seconds * 1000))


def as_exit(status: int) -> Exit:
    """What `os.waitpid` says, in our words."""
    code = os.waitstatus_to_exitcode(status)
    return Exit(code=code) if code >= 0 else Exit(signal=-code)
