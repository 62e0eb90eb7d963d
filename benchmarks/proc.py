"""What Linux says of processes, and the CPU time of those that work for a measured one without being its children."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

LOOK_SECONDS = 0.05


def in_sessions(leaders: Collection[int]) -> set[int]:
    """The processes that run in the sessions of these."""
    pids = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
    return {pid for pid in pids if (stat := _stat(pid)) and stat[0] not in "XZ" and int(stat[3]) in leaders}


class CpuTime:
    """The CPU time of processes, and of those that they start, while its `with` block runs.

    It looks again and again: what a process has had since the last look, and then ends, is missed.

    Args:
        pids: the first of them.
    """

    def __init__(self, pids: Iterable[int] = ()) -> None:
        self._before = {pid: _cpu_seconds(pid) or 0.0 for pid in pids}
        self._now = {**self._before}
        self._ended = threading.Event()
        self._looking = threading.Thread(target=self._look_again)

    @property
    def seconds(self) -> float:
        """So much, until now or the end of the block."""
        if not self._ended.is_set():
            self._look()
        return sum(self._now.values()) - sum(self._before.values())

    def _look_again(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        for pid in [*self._now]:
            for child in _children(pid):
                self._now.setdefault(child, 0.0)
        for pid in [*self._now]:
            if (seconds := _cpu_seconds(pid)) is not None:
                self._now[pid] = seconds

    def __enter__(self) -> Self:
        if self._before:
            self._looking.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._look()
        self._ended.set()
        if self._before:
            self._looking.join()


def _cpu_seconds(pid: int) -> float | None:
    """What it has had; None if it is gone."""
    stat = _stat(pid)
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK") if stat else None


def _stat(pid: int) -> list[str]:
    """What stands in /proc/PID/stat, from the state on; nothing if it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return []


def _children(pid: int) -> list[int]:
    """Those that its main thread has started."""
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    return []
