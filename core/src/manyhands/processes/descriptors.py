"""File descriptors that are closed whatever happens."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Self


class Descriptors(ExitStack):
    """Closes, at the end of its `with` block, the descriptors that it was given and not asked to keep."""

    def own(self, fd: int) -> int:
        """Close this one as well."""
        self.callback(os.close, fd)
        return fd

    def raise_above_stdio(self, fds: Iterable[int]) -> list[int]:
        """The same files under numbers from 3: lower ones are free where a parent runs without stdin and stdout."""
        return [fd if fd > 2 else self.own(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)) for fd in fds]  # noqa: PLR2004

    def keep(self) -> Self:
        """Leave all of them open, in the hands of whoever calls this."""
        return self.pop_all()


def open_pipe(reader: Descriptors, writer: Descriptors) -> tuple[int, int]:
    """A pipe, and who closes its ends."""
    read, write = os.pipe()
    return reader.own(read), writer.own(write)
