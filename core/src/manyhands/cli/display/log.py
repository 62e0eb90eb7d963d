"""Where what workers and hooks print goes while a display has the terminal."""

from __future__ import annotations

import io
import os
import tempfile
import threading
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from typing import BinaryIO

_LINES: Final = 50
_LINE_BYTES: Final = 1024


class PrintLog(io.RawIOBase):
    """A file in the temporary folder that only its user may read; it is made when something is printed.

    Args:
        name: of the job, to be in that of the file.
        descriptor: what children of a hook that inherit "this stream" get: no log of ours has one that is fit.

    Attributes:
        path: of the file; None: nothing was printed.
    """

    def __init__(self, name: str, descriptor: int) -> None:
        super().__init__()
        self._name = "".join(letter if letter.isalnum() else "_" for letter in name)
        self._descriptor = descriptor
        self._lock = threading.RLock()  # a signal's handler may print while its thread does
        self._file: BinaryIO | None = None
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._rest = b""
        self.path: Path | None = None

    def stream(self) -> io.TextIOWrapper:
        """What stands for `sys.stdout` or `sys.stderr`."""
        # A raw file does all that the wrapper asks of a buffered one, and nothing printed is held back.
        raw: Any = self
        return io.TextIOWrapper(raw, "utf-8", "backslashreplace", line_buffering=False, write_through=True)

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The terminal's."""
        return self._descriptor

    def isatty(self) -> bool:
        """It is none."""
        return False

    def write(self, data: Any) -> int:
        """Keep it. That it cannot be stored is no reason to fail."""
        printed = bytes(data)
        with self._lock:
            with suppress(OSError):
                self._store(printed)
            *lines, rest = (self._rest + printed).split(b"\n")
            self._lines.extend(map(_shown, lines))
            self._rest = rest[-_LINE_BYTES:]
        return len(printed)

    def close(self) -> None:
        """Nothing: others may still print to it. The file is closed by `end`."""

    def end(self) -> None:
        """Close the file. Idempotent; what is printed later opens it again."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def last(self, count: int) -> list[str]:
        """The last lines that were printed, ready to be shown."""
        with self._lock:
            lines = [*self._lines, _shown(self._rest)] if self._rest else list(self._lines)
        return lines[-count:] if count > 0 else []

    def _store(self, data: bytes) -> None:
        if self._file is None:
            self._file = self._open()
        self._file.write(data)

    def _open(self) -> BinaryIO:
        if self.path is not None:
            return self.path.open("ab", buffering=0)
        descriptor, path = tempfile.mkstemp(prefix=f"manyhands_{self._name}_", suffix=".log")
        self.path = Path(path)
        return os.fdopen(descriptor, "wb", buffering=0)


def _shown(line: bytes) -> str:
    """On one line of a terminal, harmless to it."""
    text = line[:_LINE_BYTES].decode("utf-8", "replace").expandtabs()
    return "".join(letter for letter in text if letter.isprintable())
