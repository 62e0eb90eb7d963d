"""What workers print, as lines of a log."""

from __future__ import annotations

import logging
import sys
from typing import Final

_logger: Final = logging.getLogger("manyhands.worker")
_LIMIT: Final = 64 * 1024
"""Bytes of a line that is held until its end comes; a longer one is logged in pieces."""


_CONTINUES: Final = 0b10
"""The two highest bits of a byte that is not the first of its character."""


class WorkerLog:
    """Logs the output of one worker line by line, as INFO of the logger `manyhands.worker`.

    In a program that has not set up logging, where nobody would see them, the lines go to `sys.stderr` as they are.

    Args:
        pid: the worker's process id, which stands before each line.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._rest = bytearray()

    def feed(self, data: bytes) -> None:
        """Log the lines that these bytes complete."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._hold(line)
            self._log(self._rest.removesuffix(b"\r"))
            self._rest.clear()
        self._hold(rest)

    def close(self) -> None:
        """Log what came without an end of line."""
        if self._rest:
            self._log(self._rest)
            self._rest.clear()

    def _hold(self, data: bytes) -> None:
        self._rest += data
        while len(self._rest) > _LIMIT:
            end = _character_start(self._rest, _LIMIT)
            self._log(self._rest[:end])
            del self._rest[:end]

    def _log(self, line: bytes | bytearray) -> None:
        text = line.decode("utf-8", "backslashreplace")
        if _logger.hasHandlers():
            _logger.info("worker %d: %s", self._pid, text)
        elif sys.stderr is not None:
            sys.stderr.write(f"{text}\n")


def _character_start(data: bytearray, end: int) -> int:
    """The end, moved back so that it does not cut a UTF-8 character in two."""
    for start in range(end, end - 4, -1):
        if data[start] >> 6 != _CONTINUES:
            return start
    return end  # it is no UTF-8
