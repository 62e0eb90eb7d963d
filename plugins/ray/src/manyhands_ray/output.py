"""What code of the job prints in a worker, on its way to the program's log."""

from __future__ import annotations

import io
import sys
import threading
from typing import Final

_MOST_BYTES: Final = 1 << 20
_PATIENCE_SECONDS: Final = 1.0


class Output(io.TextIOBase):
    """Takes the place of `sys.stdout` and `sys.stderr` in a worker.

    What is written with neither, by C code or by other processes, goes where Ray puts it: into the logs of its session.
    """

    encoding: str = "utf-8"
    errors: str | None = "backslashreplace"

    def __init__(self) -> None:
        super().__init__()
        self._held = bytearray()
        self._changed = threading.Condition()

    def fileno(self) -> int:
        """That of Ray's own output, for those who ask."""
        return 2

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Hold it until the program takes it; one that takes nothing loses the beginning."""
        data = text.encode("utf-8", "backslashreplace")
        with self._changed:
            self._changed.wait_for(lambda: len(self._held) < _MOST_BYTES, _PATIENCE_SECONDS)
            self._held += data
            del self._held[: max(len(self._held) - 2 * _MOST_BYTES, 0)]
            self._changed.notify_all()
        return len(text)

    def take(self, seconds: float = 0.0) -> bytes:
        """What was written since the last time.

        Args:
            seconds: to wait until there is something.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._held, seconds)
            data = bytes(self._held)
            self._held.clear()
            self._changed.notify_all()
        return data

    def take_over(self) -> None:
        """Let all that is printed from now on come here."""
        sys.stdout = sys.stderr = self
