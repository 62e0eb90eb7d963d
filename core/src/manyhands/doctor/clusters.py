"""Whether something answers at the addresses of clusters that the job or the environment names."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from manyhands.doctor.finding import Finding, Level
from manyhands.doctor.jobfile import read_job
from manyhands.doctor.remedies import edit, shell

_SECONDS: Final = 3.0
"""How long a connection, with the look-up of its name, may take."""

_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class _System:
    """What is known of a kind of cluster.

    Attributes:
        variable: the environment variable in which its own tools look for an address.
        port: that of an address without one; by scheme, where the scheme has another.
        start: the command that starts one at a port; likewise.
    """

    variable: str
    port: Mapping[str, int]
    start: Mapping[str, str]


_SYSTEMS: Final[Mapping[str, _System]] = {
    "dask": _System("DASK_SCHEDULER_ADDRESS", {"": 8786}, {"": "dask scheduler --port {port}"}),
    "ray": _System(
        "RAY_ADDRESS",
        {"": 6379, "ray": 10001},
        {"": "ray start --head --port={port}", "ray": "ray start --head --ray-client-server-port={port}"},
    ),
}


@dataclass(frozen=True, slots=True)
class _Address:
    scheme: str
    host: str
    port: int


def check(job: Path | None) -> Iterator[Finding]:
    """Connect to every address; says nothing where there is none."""
    for name, system in _SYSTEMS.items():
        if text := os.environ.get(system.variable):
            # No error: of these a run looks only at that of Ray, and only for `auto`.
            yield _look(system.variable, name, text, "warning", f"unset {system.variable}")
    if job is not None:
        yield from _of_job(job)


def _of_job(job: Path) -> Iterator[Finding]:
    found = read_job(job)
    for where, table in (("executor", found.executor), ("engine", found.engine)):
        if table is not None and isinstance(text := table.options.get("address"), str):
            yield _look(f"{job}: [{where}] address", table.name, text, "error", _start(job, table.name, text))


def _look(subject: str, name: str, text: str, level: Level, remedy: str) -> Finding:
    try:
        address = _parse(text, name)
    except ValueError as error:
        return Finding("clusters", level, subject, f"{text!r} is no address: {error}", remedy)
    if address is None:
        return Finding("clusters", "ok", subject, f"{text}: no address to connect to")
    begun = time.monotonic()
    problem = _problem(address)
    if problem is not None:
        return Finding("clusters", level, subject, f"nothing answers at {text}: {problem}", remedy)
    return Finding("clusters", "ok", subject, f"{text} answers after {time.monotonic() - begun:.3f} s")


def _parse(text: str, name: str) -> _Address | None:
    """Where to connect to; None for words such as `auto`, and what is in this process.

    Raises:
        ValueError: it is none of that.
    """
    if text in ("auto", "local") or text.startswith("inproc:"):
        return None
    parts = urlsplit(text if "://" in text else f"//{text}")
    ports = _SYSTEMS[name].port if name in _SYSTEMS else {}
    port = parts.port or ports.get(parts.scheme) or ports.get("")
    if not parts.hostname or port is None:
        raise ValueError("expected host:port, or scheme://host:port")
    return _Address(parts.scheme, parts.hostname, port)


def _problem(address: _Address) -> str | None:
    """Why there is no connection. In a thread: looking up a name knows no time limit."""
    answers: list[str | None] = []
    thread = threading.Thread(target=_connect, args=(address, answers), name="manyhands-doctor", daemon=True)
    thread.start()
    thread.join(_SECONDS + 1)
    return answers[0] if answers else "its name is not found in time"


def _connect(address: _Address, answers: list[str | None]) -> None:
    try:
        socket.create_connection((address.host, address.port), timeout=_SECONDS).close()
    except (OSError, UnicodeError) as error:  # UnicodeError: no name of a host
        answers.append(getattr(error, "strerror", None) or str(error) or type(error).__name__)
    else:
        answers.append(None)


def _start(job: Path, name: str, text: str) -> str:
    """The command that starts what the job expects, on the machine where it expects it."""
    try:
        address = _parse(text, name)
    except ValueError:
        address = None
    if address is None or name not in _SYSTEMS:
        return edit(job)
    commands = _SYSTEMS[name].start
    command = commands.get(address.scheme, commands[""]).format(port=address.port)
    return command if address.host in _LOCAL else shell("ssh", address.host, command)
