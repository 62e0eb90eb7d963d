"""What the workers of a run are doing, in one form for all backends: what displays show."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker as it was a moment ago. Good for a display, not for accounts.

    Attributes:
        name: of the worker; the same in each view of it.
        state: `waiting`, `idle`, `running`, `silent` (it runs, and has said nothing for a while), a stage of its chunk
            such as `validate`, or how it ended.
        done: records that it is through with and that did not fail: ok or dropped.
        failed: records that were rejected or are dead.
        reached: records that it has come past in its chunk and that are not counted yet.
        position: of the record that it is at, in the input; None: not known.
        ram_bytes: resident memory of its process; 0: not known, or not its own.
        pid: of its process, if it is on this machine.
    """

    name: str
    state: str
    done: int = 0
    failed: int = 0
    reached: int = 0
    position: int | None = None
    ram_bytes: int = 0
    pid: int | None = None

    @property
    def records(self) -> int:
        """All that it is through with, or has come past."""
        return self.done + self.failed + self.reached


Look = Callable[[], Sequence[WorkerView]]
"""Gives the workers as they are now. Called in the display's thread."""


def resident(pid: int | None = None) -> int | None:
    """Resident memory of a process in bytes.

    Args:
        pid: which; None: this one.

    Returns:
        0 where that cannot be had; None: there is no such process any more.
    """
    try:
        return int(Path(f"/proc/{pid or 'self'}/statm").read_bytes().split()[1]) * _PAGE
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self/statm").exists() else 0
    except OSError:
        return 0
