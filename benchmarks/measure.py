"""Runs one process at a time and says what it cost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

MALLOC_SETTINGS = ("MALLOC_", "GLIBC_TUNABLES", "PYTHONMALLOC", "PYTHONPATH")
"""Left out of the environment: they would tune, or change, what is measured."""
LIMIT_SECONDS = 900
"""A process that takes longer hangs: it is killed."""


class CaseFailed(Exception):
    """A measured process failed, or did not do its work."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one process cost.

    Attributes:
        seconds: from its start until it was gone, or what it measured itself.
        cpu_seconds: of itself and the processes it waited for.
        peak_mb: the most memory that it, or one of those processes, had resident.
        others: how many CPUs everything else on the machine kept busy meanwhile; None where the system does not say.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float
    others: float | None


def run(command: tuple[str, ...], folder: Path) -> Sample:
    """Run a command in `folder` to its end.

    The kernel counts the memory of the process that starts another one as part of the new one's peak. So the caller
    has to be smaller than what it measures: it must import neither pydantic nor manyhands.

    Raises:
        CaseFailed: it did not exit with 0; says what it printed.
    """
    log = folder / "output.log"
    with log.open("wb") as out:
        busy, started = _busy_seconds(), time.perf_counter()
        child = subprocess.Popen(command, cwd=folder, env=_environment(), stdout=out, stderr=subprocess.STDOUT)
        limit = threading.Timer(LIMIT_SECONDS, child.kill)
        limit.start()
        _, status, usage = os.wait4(child.pid, 0)
        seconds, busy_then = time.perf_counter() - started, _busy_seconds()
    limit.cancel()
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        printed = log.read_text(encoding="utf-8", errors="replace")[-4000:]
        raise CaseFailed(f"{' '.join(command)}: exit code {child.returncode}\n{printed}")
    cpu = usage.ru_utime + usage.ru_stime
    others = None if busy is None or busy_then is None else max(0.0, (busy_then - busy - cpu) / seconds)
    return Sample(seconds, cpu, _megabytes(usage.ru_maxrss), others)


def _environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(MALLOC_SETTINGS)}


def _megabytes(maxrss: int) -> float:
    return maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _busy_seconds() -> float | None:
    """CPU time that all processes of the machine have had so far."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=9)
    except OSError:
        return None
    user, nice, system, _idle, _iowait, irq, softirq, _steal = map(int, fields[1:9])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
