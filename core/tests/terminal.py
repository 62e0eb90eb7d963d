"""A real pseudo-terminal with a real command in it."""

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyte
import pytest

from .jobs import environment

# Takes the terminal as its own, as a shell's child has it, and becomes the command.
_ENTER = """
import os, sys
terminal = os.open(sys.argv[1], os.O_RDWR)
for descriptor in (0, 1, 2):
    os.dup2(terminal, descriptor)
os.execv(sys.argv[2], sys.argv[2:])
"""
_CONTROL = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")
_SECONDS = 45.0
_ROUND_SECONDS = 0.5


def _rounds() -> Iterator[None]:
    """Until the time is up; that for which the whole machine stood still is not counted."""
    left, before = _SECONDS, time.monotonic()
    while left > 0:
        yield
        now = time.monotonic()
        left, before = left - min(now - before, _ROUND_SECONDS), now


class Terminal:
    """A command that runs in a terminal of some size.

    Attributes:
        raw: all that was written to it.
        screen: what it shows; `history` holds the lines that were scrolled away.
    """

    def __init__(self, process: subprocess.Popen[bytes], master: int, slave: int, columns: int, rows: int) -> None:
        self._process = process
        self._master = master
        self._slave = slave
        self.raw = ""
        self.screen = pyte.HistoryScreen(columns, rows, history=1000)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._stream = pyte.Stream(self.screen)

    @property
    def lines(self) -> list[str]:
        """Every line as it was ever drawn, without colours."""
        return [line for line in re.split(r"[\r\n]+", _CONTROL.sub("", self.raw)) if line.strip()]

    @property
    def settings(self) -> list[Any]:
        """How the terminal is set: echo, line mode, control characters."""
        return termios.tcgetattr(self._slave)

    def until(self, seen: Callable[["Terminal"], object]) -> None:
        """Read until something is seen."""
        for _ in _rounds():
            if seen(self):
                return
            assert self._read(0.05) or self._process.poll() is None, self.lines[-5:]
        pytest.fail(f"it does not come: {self._stacks()}")

    def resize(self, columns: int, rows: int) -> None:
        """Make it larger or smaller."""
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    @property
    def shown(self) -> list[str]:
        """The lines on the screen, without the empty ones below them."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip("\n").split("\n")

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self._master, keys)

    def watch(self, seconds: float) -> None:
        """Read for so long, or to the end."""
        end = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < end:
            self._read(0.01)

    def end(self) -> int:
        """Read to the end; the exit code."""
        for _ in _rounds():
            if self._process.poll() is not None:
                break
            self._read(0.01)
        else:
            pytest.fail(f"it does not end: {self._stacks()}")
        self._read_rest()
        return self._process.returncode

    def _stacks(self) -> list[str]:
        """End a command that hangs; what it had written, and where its threads were, if the kernel lets it tell."""
        lines = self.lines[-5:]
        self.raw = ""
        self._process.send_signal(signal.SIGABRT)
        self.watch(2.0)
        self._read_rest()
        return [*lines, *self.lines]

    def _read_rest(self) -> None:
        while self._read(0.0):
            pass

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], seconds)
        if ready:
            text = self._decoder.decode(os.read(self._master, 65536))
            self.raw += text
            self._stream.feed(text)
        return bool(ready)


def logs() -> list[Path]:
    """Where that is what was printed while a display had the terminal."""
    return list(Path(tempfile.gettempdir()).glob("manyhands_*.log"))


@contextmanager
def in_terminal(*line: object, cwd: Path, columns: int = 80, rows: int = 24) -> Iterator[Terminal]:
    """Start a command in a terminal of its own."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    enter = [sys.executable, "-c", _ENTER, os.ttyname(slave), *map(str, line)]
    process = subprocess.Popen(
        enter, cwd=cwd, env=environment(TERM="xterm-256color", PYTHONFAULTHANDLER="1"), start_new_session=True
    )
    try:
        yield Terminal(process, master, slave, columns, rows)
    finally:
        process.kill()
        process.wait()
        for log in logs():
            log.unlink()
        os.close(slave)
        os.close(master)
