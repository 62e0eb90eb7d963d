"""Outputs written in parts, one by each shard, and put together in order."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from manyhands.adapters.base import BaseOutputAdapter, Writer
from manyhands.adapters.file_writer import FileWriter
from manyhands.adapters.names import partial_name
from manyhands.errors import SinkError

if TYPE_CHECKING:
    from collections.abc import Sequence


_SHARED: Final = "do all workers and this program see the same folder under this name?"
_APPEARS_SECONDS: Final = 3.0
_LOOK_SECONDS: Final = 0.1


class PartOutput(BaseOutputAdapter):
    """A part of an output.

    Args:
        whole: the output.
        number: of the part, from 0.
    """

    def __init__(self, whole: BaseOutputAdapter, number: int) -> None:
        self._whole = whole
        self.path: Path | None = None if whole.path is None else part_path(whole.path, number)

    def open(self, columns: tuple[str, ...] | None) -> Writer:
        """Create the part.

        Raises:
            OutputError: it cannot be created, or the output cannot be written in parts.
        """
        if self.path is None:
            return self._whole.open(columns)
        with suppress(OSError):  # another user's; opening says so
            partial_name(self.path).unlink()  # of a worker that died: whoever follows it is to see a new file
        return self._whole.open_part(self.path, columns)


def part_path(path: Path, number: int) -> Path:
    """Where a part of an output is until it is put into the whole: beside it, under a name that says so."""
    final = Path(os.path.realpath(path))
    return final.with_name(f"{final.name}.part-{number:04}")


def _appears(part: Path) -> bool:
    """Whether it is there: a network file system may say for a while that it is not, until the folder is read."""
    end = time.monotonic() + _APPEARS_SECONDS
    while not part.exists():
        if time.monotonic() > end:
            return False
        with suppress(OSError):  # the folder is not there either
            os.listdir(part.parent)  # noqa: PTH208  # to have the folder read is all
        time.sleep(_LOOK_SECONDS)
    return True


class WholeOutput:
    """An output that is put together from parts.

    Args:
        adapter: the output.
        columns: the names of its fields, if they are known.

    Raises:
        OutputError: it cannot be created, or another run is writing it.
    """

    def __init__(self, adapter: BaseOutputAdapter, columns: Sequence[str] | None) -> None:
        self._path = adapter.path
        self._writer = adapter.open(None if columns is None else tuple(columns))
        self._remove(self._parts())  # of a run that was killed

    def follow(self, number: int) -> None:
        """Take over what is written so far of the part that comes next."""
        if self._path is not None and isinstance(self._writer, FileWriter):
            self._writer.follow(part_path(self._path, number))

    def append(self, number: int) -> None:
        """Take over a part; it is gone then.

        Raises:
            SinkError: it cannot be read, or the output not be written.
        """
        if self._path is not None:
            part = part_path(self._path, number)
            if not _appears(part):
                raise SinkError(f"{part}, which a worker has written, is not there: {_SHARED}")
            self._take(part)

    def _take(self, part: Path) -> None:
        self._writer.append(part)
        part.unlink(missing_ok=True)

    def finish(self) -> None:
        """Everything is in it. Raises `SinkError`."""
        self._writer.finish()

    def publish(self) -> None:
        """Let it appear under its final name. Raises `SinkError`."""
        self._writer.publish()

    def discard(self, number: int) -> None:
        """Keep what is complete from the beginning aside, under a name that says so.

        Args:
            number: of the first part that has not been taken over.
        """
        with suppress(SinkError, FileNotFoundError):  # what could not be written is lost either way
            while self._path is not None and (part := part_path(self._path, number)).exists():
                self._take(part)
                number += 1
        self._remove(self._parts())
        self._writer.discard()

    def _parts(self) -> Iterable[Path]:
        if self._path is None:
            return ()
        final = Path(os.path.realpath(self._path))
        name = re.compile(rf"{re.escape(final.name)}\.part-\d{{4,}}(\.partial)?")
        return [path for path in final.parent.iterdir() if name.fullmatch(path.name)]

    def _remove(self, paths: Iterable[Path]) -> None:
        for path in paths:
            with suppress(OSError):  # another user's
                path.unlink()
