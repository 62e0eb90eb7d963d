"""Runs one process at a time and says what it cost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.proc import CpuTime

if TYPE_CHECKING:
    import resource
    from collections.abc import Callable

MALLOC_SETTINGS = ("MALLOC_", "GLIBC_TUNABLES", "PYTHONMALLOC", "PYTHONPATH")
"""Left out of the environment: they would tune, or change, what is measured."""
LIMIT_SECONDS = 900
"""A process that takes longer hangs: it is killed."""
END_SECONDS = 5.0
"""An interrupted one may take so long to end."""


class CaseFailed(Exception):
    """A measured process failed, or did not do its work."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one process cost.

    Attributes:
        seconds: from its start until it was gone, or what it measured itself.
        cpu_seconds: of itself, the processes it waited for, and the cluster that it used.
        peak_mb: the most memory that it, or one of those processes, had resident.
        others: how many CPUs everything else on the machine kept busy meanwhile; None where the system does not say.
    """

    seconds: float
    cpu_seconds: float
    peak_mb: float
    others: float | None


@dataclass(frozen=True, slots=True)
class Cluster:
    """What runs beside the measured process and works for it.

    Attributes:
        variables: of the environment, which say where it is.
        pids: its processes, now.
    """

    variables: dict[str, str]
    pids: Callable[[], set[int]]


def run(command: tuple[str, ...], folder: Path, cluster: Cluster | None = None) -> Sample:
    """Run a command in `folder` to its end.

    The kernel counts the memory of the process that starts another one as part of the new one's peak. So the caller
    has to be smaller than what it measures: it must import neither pydantic nor manyhands.

    Raises:
        CaseFailed: it did not exit with 0; says what it printed.
    """
    log = folder / "output.log"
    variables, beside = (cluster.variables, CpuTime(cluster.pids())) if cluster else ({}, CpuTime())
    with log.open("wb") as out, beside:
        busy, started = _busy_seconds(), time.perf_counter()
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=environment() | variables,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        status, usage = _wait(child)
        seconds, busy_then = time.perf_counter() - started, _busy_seconds()
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        printed = log.read_text(encoding="utf-8", errors="replace")[-4000:]
        raise CaseFailed(f"{' '.join(command)}: exit code {child.returncode}\n{printed}")
    cpu = usage.ru_utime + usage.ru_stime + beside.seconds
    others = None if busy is None or busy_then is None else max(0.0, (busy_then - busy - cpu) / seconds)
    return Sample(seconds, cpu, _megabytes(usage.ru_maxrss), others)


def environment() -> dict[str, str]:
    """That of measured processes."""
    return {key: value for key, value in os.environ.items() if not key.startswith(MALLOC_SETTINGS)}


def _wait(child: subprocess.Popen[bytes]) -> tuple[int, resource.struct_rusage]:
    """Wait for its end; nothing of it is left when that is interrupted, or takes too long."""
    limit = threading.Timer(LIMIT_SECONDS, _signal, (child, signal.SIGKILL))
    limit.start()
    try:
        _, status, usage = os.wait4(child.pid, 0)
    except BaseException:
        _end(child)
        raise
    finally:
        limit.cancel()
    return status, usage


def _end(child: subprocess.Popen[bytes]) -> None:
    """Interrupt it, as ^C would in a terminal, and kill what then is there."""
    try:
        _signal(child, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(END_SECONDS)
    finally:
        _signal(child, signal.SIGKILL)
        child.wait()


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To it and what it has started."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)


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
