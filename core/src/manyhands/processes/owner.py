"""Names for what is put where it outlives a process that is killed: files, sockets and folders in the temporary folder,
segments in shared memory.

The name says whose it is, so that nobody takes what is in use for what was left behind: the process by its id, and by
what another process that gets the same id later does not share: the time of its start, and the namespace of its id.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Final, NamedTuple, Self

_NAME: Final = re.compile(r"manyhands-(\d+)-(\d+)-(\d+)-.")
_GONE: Final = ("Z", "X")
_STATE: Final = 0
_START: Final = 19
"""Where state and start time stand in `/proc/PID/stat`, behind the name of the program."""


class Owner(NamedTuple):
    """A process, as its names have it.

    Attributes:
        pid: its id.
        start: when it started, in ticks since the machine did; 0 where that cannot be had.
        namespace: in which its id counts; 0 where there is but one.
    """

    pid: int
    start: int
    namespace: int

    @classmethod
    def this(cls) -> Self:
        """This process."""
        fields = _stat(os.getpid())
        return cls(os.getpid(), int(fields[_START]) if fields else 0, _namespace())

    def may_live(self) -> bool:
        """Whether it lives, or nobody here can know."""
        if self.namespace != _namespace():
            return True
        if sys.platform != "linux":
            return _exists(self.pid)
        fields = _stat(self.pid)
        return bool(fields) and fields[_STATE] not in _GONE and int(fields[_START]) == self.start


def owned_name(what: str) -> str:
    """A name that says that this process owns it.

    Args:
        what: tells it from the others of this process; letters and digits. The whole has about 40 characters more.
    """
    return "-".join(("manyhands", *map(str, Owner.this()), what))


def owner_of(name: str) -> Owner | None:
    """Who owns what has this name; None: it says nothing of that."""
    found = _NAME.match(name)
    return Owner(*map(int, found.groups())) if found else None


def _stat(pid: int) -> list[str]:
    try:
        # The name of the program is in brackets and may hold anything.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:  # no such process, or no such folder
        return []


def _namespace() -> int:
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True
