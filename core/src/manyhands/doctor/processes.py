"""Whether worker processes start and answer, and what they need of the system."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from manyhands.doctor.finding import Finding
from manyhands.doctor.isolated import NoAnswer, ask
from manyhands.doctor.remedies import shell
from manyhands.processes.launch import START_METHODS, Child, StartMethod, make_launcher

_PATIENCE: Final = 20.0
"""Seconds that a worker may take to start and answer."""

_SHM: Final = Path("/dev/shm")  # noqa: S108  # where Linux has shared memory
_LITTLE_SHM: Final = 64 << 20
"""Bytes of shared memory: what containers have by default, which is too little for most that use it."""

_WORDS: Final = 400
"""Characters of what a worker wrote before it ended."""

_FILES: Final = 1024
_PROCESSES: Final = 512


def check(job: Path | None) -> Iterator[Finding]:
    """Start methods, shared memory, semaphores, limits. Says nothing where there are no worker processes."""
    if os.name != "posix":
        return
    yield from _start_methods(job)
    if sys.platform == "linux":
        yield from _shared_memory()
    yield _semaphores()
    yield from _limits()


def answer_of(method: StartMethod) -> float:
    """Start a worker process as backends do, and hear from it; how many seconds that took.

    Raises:
        OSError: it could not be started, or ended without a word.
    """
    from manyhands.processes.descriptors import Descriptors  # not on every system

    begun = time.monotonic()
    with ExitStack() as opened:
        launcher = make_launcher(method)
        opened.callback(launcher.close)
        heard, said = os.pipe()
        opened.callback(os.close, heard)
        with Descriptors() as ours:
            child = launcher.start("manyhands.doctor.processes:say_something", [ours.own(said)])
        opened.callback(child.close)
        if not os.read(heard, 1):
            raise OSError(f"the worker ended ({_last_words(child)})")
        return time.monotonic() - begun


def say_something(fds: list[int]) -> None:
    """Be the worker."""
    os.write(fds[0], b"!")


def _last_words(child: Child) -> str:
    end = child.wait()
    text = os.read(child.output, 1 << 16).decode(errors="replace")
    return f"exit code {end.code}, signal {end.signal}: {' '.join(text.split())[-_WORDS:]}"


def _start_methods(job: Path | None) -> Iterator[Finding]:
    with ThreadPoolExecutor(len(START_METHODS)) as pool:
        answers = dict(zip(START_METHODS, pool.map(_try, START_METHODS), strict=True))
    for method, answer in answers.items():
        if isinstance(answer, float):
            yield _ok(method, f"a worker answers after {answer:.2f} s")
        else:
            yield Finding("processes", "error", method, f"no worker starts: {answer}", _other_way(answers, job))


def _try(method: StartMethod) -> float | str:
    try:
        return float(ask("manyhands.doctor.processes:answer_of", method, seconds=_PATIENCE))
    except NoAnswer as error:
        return str(error)


def _other_way(answers: Mapping[StartMethod, float | str], job: Path | None) -> str:
    healthy = [method for method, answer in answers.items() if isinstance(answer, float)]
    way = f"--set executor.start_method={healthy[0]}" if healthy else "--executor threads"
    return f"{shell('manyhands', 'run', job or 'JOB')} {way}"


def _shared_memory() -> Iterator[Finding]:
    mount = "sudo mount -t tmpfs -o mode=1777,size=1g shm /dev/shm"
    if not _SHM.is_dir():
        yield _warning(str(_SHM), "it is missing", f"sudo mkdir {_SHM} && {mount}")
    elif not os.access(_SHM, os.W_OK):
        yield _warning(str(_SHM), "it cannot be written to", "sudo chmod 1777 /dev/shm")
    elif (free := shutil.disk_usage(_SHM).free) <= _LITTLE_SHM:
        message = f"{free >> 20} MiB are free (a container gets more by --shm-size=1g)"
        yield _warning(str(_SHM), message, "sudo mount -o remount,size=1g /dev/shm")
    else:
        yield _ok(str(_SHM), f"{free >> 20} MiB free")


def _semaphores() -> Finding:
    """No backend here needs them, but most libraries that use processes do."""
    try:
        multiprocessing.get_context("fork").Semaphore()  # of the kinds, the one that leaves no name and no process
    except (ImportError, OSError) as error:
        message = f"there are none: {error}"
        return _warning("semaphores", message, "sudo mount -t tmpfs -o mode=1777 shm /dev/shm")
    return _ok("semaphores", "can be made")


def _limits() -> Iterator[Finding]:
    import resource

    yield _limit("open files", "n", resource.getrlimit(resource.RLIMIT_NOFILE), _FILES)
    if hasattr(resource, "RLIMIT_NPROC"):
        yield _limit("processes", "u", resource.getrlimit(resource.RLIMIT_NPROC), _PROCESSES)


def _limit(name: str, flag: str, limits: tuple[int, int], enough: int) -> Finding:
    """-1 means that there is none."""
    soft, hard = limits
    if soft < 0 or soft >= enough:
        return _ok(name, f"{'no limit' if soft < 0 else soft}")
    if 0 <= hard < enough:
        option = "nofile" if flag == "n" else "nproc"
        return _warning(name, f"at most {soft}", f"sudo prlimit --pid $$ --{option}={4 * enough}:{4 * enough}")
    return _warning(name, f"at most {soft}", f"ulimit -{flag} {enough}")


def _ok(subject: str, message: str) -> Finding:
    return Finding("processes", "ok", subject, message)


def _warning(subject: str, message: str, remedy: str) -> Finding:
    return Finding("processes", "warning", subject, message, remedy)
