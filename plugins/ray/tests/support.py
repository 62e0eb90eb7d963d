"""Heads of clusters, and runs on them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from time import monotonic, sleep
from typing import Any

import psutil

# Before anything imports Ray, which reads them once: heads and programs of the tests talk by the loopback address, and
# need no token, as nobody else can.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

RAY = str(Path(sys.executable).with_name("ray"))
_WITHOUT = ("--include-dashboard=false", "--include-log-monitor=false", "--disable-usage-stats")
LIMIT = 30.0
"""Seconds after which something that must happen has not."""


@dataclass(frozen=True)
class Head:
    """A head that runs.

    Attributes:
        port: of the head.
        client_port: of its server for clients.
        group: of its processes.
        folder: of its session.
    """

    port: int
    client_port: int
    group: int
    folder: Path

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def client_address(self) -> str:
        return f"ray://127.0.0.1:{self.client_port}"

    def actors(self) -> list[psutil.Process]:
        """The processes in which actors of ours run."""
        found = []
        for pid in self.pids("ray::Actor"):
            with suppress(psutil.Error):
                found.append(psutil.Process(pid))
        return found

    def pids(self, program: str) -> list[int]:
        """Its processes whose program is named so."""
        return [pid for pid, name in processes(self.group) if program in name]


@contextmanager
def head(cpus: int = 2, env: Mapping[str, str] | None = None, within: Sequence[str] = ()) -> Iterator[Head]:
    """A cluster of one node; it is no child of this process, as clusters of people are not.

    Args:
        cpus: how many it has.
        env: variables that it has beside those of this process.
        within: a command that starts the one behind it.
    """
    folder = Path(mkdtemp(prefix="mhr", dir="/tmp"))
    port, client_port = free_port(), free_port()
    flags = (f"--port={port}", f"--ray-client-server-port={client_port}", f"--temp-dir={folder}", f"--num-cpus={cpus}")
    anywhere = ("--min-worker-port=0", "--max-worker-port=0")  # else two heads of one machine give out the same ports
    command = [*within, RAY, "start", "--head", *_WITHOUT, *flags, *anywhere]
    with (folder / "output").open("wb") as output:
        starter = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | {"TMPDIR": str(folder), "GRPC_ENABLE_FORK_SUPPORT": "0"} | dict(env or {}),
        )
        try:
            assert starter.wait(100) == 0, (folder / "output").read_text()
            wait_for_port(client_port)
            yield Head(port, client_port, starter.pid, folder)
        finally:
            end(starter.pid)
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def connected(address: str) -> Iterator[None]:
    """The program itself is connected, and what Ray keeps from its first use on is there."""
    import ray

    from manyhands import IterableInputAdapter, MemoryOutputAdapter, Pipe
    from manyhands_ray import RayExecutor

    ray.init(address, log_to_driver=False, logging_level="ERROR")
    try:
        rows = IterableInputAdapter({"n": n} for n in range(20))
        Pipe(rows, MemoryOutputAdapter(), executor=RayExecutor(chunksize=1)).run()
        yield
    finally:
        ray.shutdown()


def end(group: int) -> None:
    """Kill what belongs to a head, and wait until it is gone."""
    deadline = monotonic() + LIMIT
    while found := processes(group):
        for pid, _ in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert monotonic() < deadline, f"these do not end: {found}"
        sleep(0.05)


def processes(group: int) -> list[tuple[int, str]]:
    """Id and command line of the processes of this session that run."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == group and state != "Z":
                found.append((int(folder.name), (folder / "cmdline").read_text().replace("\0", " ")))
    return found


def free_port() -> int:
    """One that nobody uses now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def wait_for_port(port: int) -> None:
    """Wait until something listens there."""
    end = monotonic() + LIMIT
    while True:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        assert monotonic() < end, f"nothing listens at port {port}"
        sleep(0.05)


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """A terminal: its keyboard, and the standard input of a program, which takes it over if it leads a session."""
    keyboard, end = os.openpty()
    try:
        yield keyboard, end
    finally:
        os.close(keyboard)
        os.close(end)


class Program:
    """A program that runs a pipe, in a folder of its own; see `programs.py`.

    Args:
        folder: an empty one.
        address: of the cluster, or `none`.
        env: variables that it has beside those of this process; None takes one away.
        terminal: that it is in; see `terminal`.
        options: of the executor, `count`, `pace` and `poison`.
    """

    def __init__(
        self,
        folder: Path,
        address: str,
        env: Mapping[str, str | None] | None = None,
        terminal: int | None = None,
        **options: Any,
    ) -> None:
        self.folder = folder
        shutil.copy(Path(__file__).with_name("programs.py"), folder / "program.py")
        (folder / "helper.py").write_text("def square(n):\n    return n * n\n")
        arguments = [address, str(folder), *(f"{name}={json.dumps(value)}" for name, value in options.items())]
        variables = {name: value for name, value in {**os.environ, **(env or {})}.items() if value is not None}
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error::ResourceWarning", str(folder / "program.py"), *arguments],
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=variables,
            cwd="/",
            start_new_session=True,
        )

    def end(self, seconds: float = 90.0) -> dict[str, Any]:
        """Wait for its end; what it said last. Nothing that it started may be left."""
        try:
            said, log = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self.log = log
        told: dict[str, Any] = json.loads(said.splitlines()[-1]) if said.strip() else {}
        return told | {"code": self.process.returncode}

    def kill(self) -> None:
        """End it, with all that it started."""
        end(self.process.pid)
        self.process.communicate()

    def wait_for_workers(self, count: int) -> None:
        """Wait until so many workers have had a record; that takes a while where Ray is started for it."""
        wait_until(lambda: len(self.workers) >= count or self.process.poll() is not None, f"{count} work", 180)
        assert self.process.poll() is None, (self.end(), self.log)

    @property
    def workers(self) -> list[int]:
        """Process ids of the workers that had a record."""
        return [int(path.name.partition("-")[2]) for path in self.folder.glob("worker-*")]

    @property
    def published(self) -> bool:
        """There is an output under its final name."""
        return (self.folder / "out.jsonl").exists()

    @property
    def rows(self) -> list[Any]:
        """What it has written."""
        return [json.loads(line) for line in (self.folder / "out.jsonl").read_text().splitlines()]


def wait_until(predicate: Callable[[], object], what: str, seconds: float = LIMIT) -> None:
    """Wait until something is so; fail if it never is."""
    deadline = monotonic() + seconds
    while not predicate():
        assert monotonic() < deadline, f"within {seconds:g} s it never happened that {what}"
        sleep(0.02)


def runs(pid: int) -> bool:
    """There is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
