"""A writer of encoded records into a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manyhands.adapters.output_file import OutputFile

if TYPE_CHECKING:
    from manyhands.worker.encode import Encoder


class FileWriter:
    """A writer of encoded records into a file.

    Args:
        file: the file, opened aside.
        encoder: what makes the bytes; None where the subclass does.
    """

    def __init__(self, file: OutputFile, encoder: Encoder | None) -> None:
        self.encoder = encoder
        self.path: Path = file.path
        self._file = file

    def write(self, records: Any) -> None:
        """Append encoded records."""
        self._file.write(records)

    def append(self, part: Path) -> None:
        """Append a part."""
        self._file.append(part)

    def follow(self, part: Path) -> None:
        """Append what has been written so far of the part that comes next."""
        self._file.follow(part)

    def finish(self) -> None:
        """Flush and close."""
        self._file.finish()

    def late_encoder(self, entries: Sequence[Any]) -> Encoder | None:  # noqa: ARG002  # for subclasses
        """None: it is known from the start."""
        return None

    def publish(self) -> None:
        """Give the file its final name."""
        self._file.publish()

    def discard(self) -> None:
        """Leave the file under its partial name."""
        self._file.discard()
