"""Clusters on the loopback address, for groups that compare programs on one: each run has a new one."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.measure import CaseFailed, Cluster, environment
from benchmarks.proc import CpuTime, in_sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHILDREN = Path(__file__).parent / "children"
WORKERS = 2
SECONDS = 60.0
"""What is not up, or not gone, after so long will never be."""
KIND_SECONDS = 5.0
LOOK_SECONDS = 0.05
REST_SECONDS = 0.5


@contextmanager
def dask(python: Path) -> Iterator[Cluster]:
    """`dask scheduler`, and so many `dask worker` of one thread, each with its nanny."""
    port = _free_port()
    address, dask = f"tcp://127.0.0.1:{port}", (str(python), "-m", "dask")
    # The scheduler reads nothing for long while ten thousand tasks come at once: its client gives up after 30 s.
    variables = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "600s"}
    with _processes(variables) as (processes, folder):
        processes.start(*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
        processes.wait_until(lambda: _listens(port))
        place = ("--host", "127.0.0.1", "--no-dashboard", "--local-directory", folder)
        for _ in range(WORKERS):
            processes.start(*dask, "worker", address, *place, "--nthreads", "1")
        processes.settle()
        yield Cluster(variables | {"DASK_SCHEDULER_ADDRESS": address}, processes.pids)


@contextmanager
def ray(python: Path) -> Iterator[Cluster]:
    """`ray start --head` with so many CPUs, which asks for a token."""
    port = _free_port()
    variables = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # where Ray has no clusters, it listens at the loopback address
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    with _processes(variables) as (processes, folder):
        ports = (f"--port={port}", f"--ray-client-server-port={_free_port()}")
        anywhere = ("--min-worker-port=0", "--max-worker-port=0")  # else those of another head on this machine
        flags = (*ports, *anywhere, f"--num-cpus={WORKERS}", f"--temp-dir={folder}", "--include-dashboard=false")
        starter = processes.start(str(python.with_name("ray")), "start", "--head", *flags)
        processes.wait_until(lambda: starter.poll() == 0)
        processes.settle()
        yield Cluster(variables | {"RAY_ADDRESS": f"127.0.0.1:{port}"}, processes.pids)


@contextmanager
def _processes(variables: dict[str, str]) -> Iterator[tuple[Processes, str]]:
    """Those of a cluster, and a folder for its files; none of it is left."""
    with TemporaryDirectory(prefix="mhb", ignore_cleanup_errors=True) as folder:
        processes = Processes(Path(folder), variables)
        try:
            yield processes, folder
        finally:
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # another ^C must not keep it from ending
            processes.end()
            signal.signal(signal.SIGINT, before)


class Processes:
    """The processes of a cluster: each that is started has a session of its own, in which what it starts stays.

    Args:
        folder: for their files.
        variables: of the environment.
    """

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self._folder = folder
        self._log = folder / "log"
        # They find the modules of the measured programs, as if those were installed there.
        self._environment = environment() | variables | {"PYTHONPATH": str(CHILDREN), "TMPDIR": str(folder)}
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a program. ^C in a terminal is not for it."""
        with self._log.open("ab") as log:
            started = subprocess.Popen(
                command,
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._started.append(started)
        return started

    def wait_until(self, is_up: Callable[[], bool]) -> None:
        """Wait until the cluster is up.

        Raises:
            CaseFailed: it never will be; says what it printed.
        """
        limit = time.monotonic() + SECONDS
        while not is_up():
            if time.monotonic() > limit or any(process.poll() for process in self._started):
                raise CaseFailed(f"a cluster does not start\n{self._log.read_text(errors='replace')[-4000:]}")
            time.sleep(LOOK_SECONDS)

    def settle(self) -> None:
        """Wait until all are up, which is when they come to rest."""
        self.wait_until(self._rests)

    def _rests(self) -> bool:
        pids = self.pids()
        with CpuTime(pids) as spent:
            time.sleep(REST_SECONDS)
        return self.pids() == pids and spent.seconds < REST_SECONDS / 5

    def pids(self) -> set[int]:
        """Those that run."""
        return in_sessions({process.pid for process in self._started})

    def end(self) -> None:
        """End all of them, by their ids: first kindly, then not.

        Raises:
            CaseFailed: they do not end.
        """
        begun, asked = time.monotonic(), set[int]()
        while pids := self.pids():
            waited = time.monotonic() - begun
            if waited > SECONDS:
                raise CaseFailed(f"processes of a cluster do not end: {sorted(pids)}")
            is_late = waited > KIND_SECONDS
            for pid in pids if is_late else pids - asked:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if is_late else signal.SIGTERM)
            asked |= pids
            time.sleep(LOOK_SECONDS)
        for process in self._started:
            process.wait()


def _listens(port: int) -> bool:
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
