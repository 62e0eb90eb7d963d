"""How much of the machine a control group leaves to this process: a container's limits, for example."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

_ROOT: Final = Path("/sys/fs/cgroup")
_OWN: Final = Path("/proc/self/cgroup")

N = TypeVar("N", int, float)


def cpu_limit() -> float | None:
    """So many processors' time; None: no limit that can be seen."""
    return min((*_values("cpu.max", _quota), *_old_cpu()), default=None)


def memory_limit() -> int | None:
    """Bytes; None: no limit that can be seen."""
    found = [*_values("memory.max", int), *_read(_ROOT / "memory/memory.limit_in_bytes", int)]
    return min((limit for limit in found if limit < _memory()), default=None)


def _memory() -> int:
    """What the machine has: the old interface writes an absurd number for no limit."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not POSIX
        return 1 << 62


def _values(name: str, parse: Callable[[str], N]) -> Iterator[N]:
    """Of the group and all that it is in: each limits what is below it."""
    own = next((line[3:] for line in _lines(_OWN) if line.startswith("0::")), "/")
    group = _ROOT / own.strip("/")
    while group.is_relative_to(_ROOT):
        yield from _read(group / name, parse)
        group = group.parent


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _read(file: Path, parse: Callable[[str], N]) -> Iterator[N]:
    for line in _lines(file)[:1]:
        try:
            yield parse(line)
        except ValueError:  # "max"
            return


def _quota(line: str) -> float:
    quota, period = line.split()
    return int(quota) / int(period)


def _old_cpu() -> Iterator[float]:
    period = next(_read(_ROOT / "cpu/cpu.cfs_period_us", int), 0)
    for quota in _read(_ROOT / "cpu/cpu.cfs_quota_us", int):
        if quota > 0 and period > 0:
            yield quota / period
