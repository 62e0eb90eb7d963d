"""What the tests of worker processes share with the scripts that they run as parents."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from manyhands.processes import handle
from manyhands.processes.forkserver import ForkServerLauncher
from manyhands.processes.launch import Child, Exit, Launcher, make_launcher

__all__ = [  # what scripts get by a star
    "HERE",
    "LIMIT",
    "ended",
    "everything",
    "flat",
    "json",
    "make_launcher",
    "os",
    "pipe",
    "said",
    "server_of",
    "surroundings",
    "worker",
]

LIMIT = 20.0
"""Seconds after which something that must happen has not."""

HERE = Path(__file__).parent


@contextmanager
def worker(launcher: Launcher, main: str, fds: Sequence[int] = ()) -> Iterator[Child]:
    child = launcher.start(f"process_mains:{main}", fds)
    try:
        yield child
    finally:
        child.close()


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    try:
        yield read, write
    finally:
        for fd in (read, write):
            with suppress(OSError):
                os.close(fd)


def ended(child: Child) -> Exit:
    """How it ended, seen as a supervisor sees it."""
    assert handle.wait_readable(child.fileno(), LIMIT)
    return child.wait()


def said(pipe: int, times: int = 1) -> None:
    """Wait until so many processes said that they are there."""
    for _ in range(times):
        assert handle.wait_readable(pipe, LIMIT)
        assert os.read(pipe, 1) == b"!"


def everything(fd: int) -> bytes:
    """What a non-blocking pipe holds now."""
    data = b""
    with suppress(BlockingIOError):
        while part := os.read(fd, 1 << 16):
            data += part
    return data


def surroundings(launcher: Launcher) -> dict[str, Any]:
    """What a worker finds."""
    with pipe() as (read, write), worker(launcher, "describe", [write]) as child:
        os.close(write)
        with os.fdopen(os.dup(read)) as stream:
            text = stream.read()
        assert ended(child) == Exit(0), everything(child.output)
    found: dict[str, Any] = json.loads(text)
    return found


def server_of(launcher: Launcher) -> int:
    assert isinstance(launcher, ForkServerLauncher)
    assert launcher._server is not None
    return launcher._server._process.pid


def flat(code: str) -> str:
    lines = code.strip("\n").splitlines()
    return "\n".join(line[8:] for line in lines)
