"""A block of lines that stands where it is in the terminal and changes."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len

if TYPE_CHECKING:
    from typing import TextIO

_HIDE: Final = "\x1b[?25l"
_SHOW: Final = "\x1b[?25h"
_CLEAR_LINE: Final = "\x1b[K"
_CLEAR_BELOW: Final = "\x1b[J"
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_USUAL: Final = os.terminal_size((80, 24))


class Screen:
    """The lines at the end of what a terminal shows. The cursor is behind the last of them, and hidden.

    Args:
        terminal: where they are drawn.
    """

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._lines: list[str] = []
        self._columns = 0
        self._closed = False

    @property
    def size(self) -> os.terminal_size:
        """Of the terminal, now."""
        with suppress(OSError):
            size = os.get_terminal_size(self._terminal.fileno())
            if size.columns and size.lines:
                return size
        return _USUAL

    def draw(self, lines: list[str]) -> None:
        """Put these in the place of those that are there.

        Args:
            lines: each shorter than the terminal is wide, with its colours.
        """
        columns = self.size.columns
        home = self._home(columns)
        same = columns == self._columns and len(lines) == len(self._lines)
        begin = home if same else f"{home}{_CLEAR_BELOW}"
        self._lines, self._columns = lines, columns
        self._put(_HIDE + begin + "\r\n".join(f"{line}{_CLEAR_LINE}" for line in lines))

    def close(self) -> None:
        """Take the lines away, or what was typed where they would have been, and show the cursor. Idempotent."""
        if not self._closed:
            self._closed = True
            with suppress(OSError):  # it is gone
                self._put(f"{self._home(self.size.columns)}{_CLEAR_BELOW}{_SHOW}")

    def _home(self, columns: int) -> str:
        """To the first line. In a terminal that has become narrower, it has broken those that are now too long."""
        rows = len(self._lines)
        if columns < self._columns:
            rows = sum(max(-(-cell_len(_COLOUR.sub("", line)) // columns), 1) for line in self._lines)
        return f"\r\x1b[{rows - 1}A" if rows > 1 else "\r"

    def _put(self, text: str) -> None:
        self._terminal.write(text)
        self._terminal.flush()
