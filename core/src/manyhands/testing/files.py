"""Files that several processes write at a time."""

from __future__ import annotations

import os
from pathlib import Path


def append(path: Path, data: bytes) -> int:
    """Add to a file, in one write: nothing mixes, and nothing is lost at whatever death.

    Returns:
        How many bytes there were before.
    """
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, data)
        return os.fstat(file).st_size - len(data)
    finally:
        os.close(file)


def add_line(path: Path, line: object) -> None:
    """Add a line of text."""
    append(path, f"{line}\n".encode())


def lines(path: Path) -> list[str]:
    """The lines of a file; none if there is no such file."""
    return path.read_text().splitlines() if path.exists() else []
