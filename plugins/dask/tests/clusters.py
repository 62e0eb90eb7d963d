"""Real clusters on loopback: `dask scheduler` and `dask worker`, each a process of its own, ended by its id."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

SECONDS = 30.0

LAUNCHER = """
import subprocess, sys
log = sys.stderr
started = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
print(started.pid)
started.returncode = 0  # it is left alone
"""


class Cluster:
    """A scheduler and workers, which are ended with it.

    Args:
        folder: for their files, and where they are started.
        tls: the folder of a certificate, if it talks TLS.
    """

    def __init__(self, folder: Path, tls: Path | None = None) -> None:
        self.folder = folder
        files = {"ca-file": "cert.pem", "cert": "cert.pem", "key": "key.pem"}
        self.tls = [part for name, file in files.items() if tls for part in (f"--tls-{name}", str(tls / file))]
        self._security = _security(tls) if tls else None
        self.workers: list[psutil.Process] = []
        self._about = folder / "scheduler.json"
        listening = ["--host", f"{'tls' if tls else 'tcp'}://127.0.0.1", "--port", "0", "--no-dashboard"]
        self.scheduler = self._start("scheduler", *listening, "--scheduler-file", str(self._about))
        wait_until(lambda: self._about.exists() and self._about.read_text().endswith("}"), "the scheduler listens")
        self.address: str = json.loads(self._about.read_text())["address"]

    def add_worker(self, *options: str, folder: Path | None = None, **variables: str) -> psutil.Process:
        """Start a worker; it joins some time later."""
        where = [self.address, "--host", "127.0.0.1", "--no-dashboard", "--local-directory", str(self.folder)]
        threads = () if "--nthreads" in options else ("--nthreads", "1")
        if self.tls:
            where[2] = "tls://127.0.0.1"
        worker = self._start("worker", *where, *threads, *options, folder=folder, **variables)
        self.workers.append(worker)
        return worker

    def wait_for_workers(self, count: int) -> dict[str, dict]:
        """Wait until there are so many; what the scheduler says of them, by address."""
        wait_until(lambda: len(self.identity()) == count, f"there are {count} workers")
        return self.identity()

    def identity(self) -> dict[str, dict]:
        """The workers that the scheduler knows."""
        from distributed import Client

        with Client(self.address, security=self._security, timeout=10, set_as_default=False) as client:
            return client.sync(client.scheduler.identity)["workers"]

    def processes(self) -> list[psutil.Process]:
        """In which workers run, each of them started by a nanny."""
        found = []
        for nanny in self.workers:
            with suppress(psutil.Error):
                found += [child for child in nanny.children() if "multiprocessing.spawn" in " ".join(child.cmdline())]
        return found

    def close(self) -> None:
        """End all of it."""
        with ExitStack() as ending:  # each, also when one does not end
            for process in (self.scheduler, *self.workers):
                ending.callback(end, process)

    def _start(self, what: str, *arguments: str, folder: Path | None = None, **variables: str) -> psutil.Process:
        """No descendant of this process: somebody else's, as a cluster is."""
        command = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", "dask", what, *arguments, *self.tls]
        environment = {**os.environ, "TMPDIR": str(self.folder), **variables}
        with (self.folder / "log").open("ab") as log:
            started = subprocess.run(
                command, cwd=folder or self.folder, env=environment, stdout=subprocess.PIPE, stderr=log, check=True
            )
        return psutil.Process(int(started.stdout))


@contextmanager
def cluster(workers: int = 2, *options: str, tls: Path | None = None) -> Iterator[Cluster]:
    """A cluster with workers of one thread that have joined."""
    with TemporaryDirectory(prefix="dask", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        made = Cluster(Path(folder), tls)
        stack.callback(made.close)
        for _ in range(workers):
            made.add_worker(*options)
        if workers:
            made.wait_for_workers(workers)
        yield made


@contextmanager
def of_somebody() -> Iterator[dict[str, str]]:
    """The options with which two workers of a cluster are found."""
    with cluster() as made:
        yield {"address": made.address}


def _security(folder: Path) -> Any:
    from distributed.security import Security

    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    return Security(tls_ca_file=cert, tls_client_cert=cert, tls_client_key=key, require_encryption=True)


def end(process: psutil.Process) -> None:
    """By its id: first kindly, then with all that it started, which is in a session of its own."""
    with suppress(psutil.NoSuchProcess):
        process.terminate()
    wait_until(lambda: has_ended(process), "a process of the cluster ends", 15.0)
    with suppress(AssertionError):  # what tidies up behind it ends last
        wait_until(lambda: not any(map(_is_in(process.pid), psutil.pids())), "its session ends", 5.0)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _is_in(session: int) -> Any:
    def is_in(pid: int) -> bool:
        with suppress(OSError, psutil.Error):
            return os.getsid(pid) == session and not has_ended(psutil.Process(pid))
        return False

    return is_in


def has_ended(process: psutil.Process) -> bool:
    """It may stay a zombie, where nobody looks after orphans."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(seen, what: str, seconds: float = SECONDS) -> None:
    limit = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < limit, f"within {seconds:g} s it never happened that {what}"
        time.sleep(0.05)
