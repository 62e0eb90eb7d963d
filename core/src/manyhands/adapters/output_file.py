"""Files that are written: gzip by the ending; they appear only when complete."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import stat
from collections import deque
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

from manyhands.adapters import aside
from manyhands.adapters.aside import BUFFER_BYTES, buffered, close_quietly, complete_bytes, is_at, lock, open_aside
from manyhands.adapters.following import Follower, copy_bytes
from manyhands.adapters.names import obstacle, partial_name, words
from manyhands.errors import OutputError, SinkError

_COPY_BYTES: Final = 1024 * 1024


class OutputFile:
    """A file that is written aside as `NAME.partial` and renamed when complete.

    Args:
        path: the final name; with `.gz` it is compressed.
        quotes: a line end within quotes ends no record, as in CSV.
        whole: the output of which this is a part, that is read at once and removed; else, when it is finished, it
            outlives a crash of the machine.

    Raises:
        OutputError: the folder is missing or read-only, the name is no regular file, or another run writes it.
    """

    def __init__(self, path: Path, *, quotes: bool = False, whole: Path | None = None) -> None:
        self.path: Path = path
        self._quotes = quotes
        self._whole = whole
        self._ends = deque([0])  # of what was given to `write`, back to what must be out of the buffer
        try:
            self.path = Path(os.path.realpath(path))
            if self.path.exists() and not self.path.is_file():
                raise OutputError(f"cannot write {path}: it is not a regular file")
            self.partial: Path = partial_name(self.path)
            found = open_aside(self.partial)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise OutputError(f"cannot write {path}: {_reason(error, self.path)}") from error
        if found is None:
            raise OutputError(f"cannot write {path}: another run is writing it")
        self._raw = found
        self._follower: Follower | None = None
        self._keep_mode()
        self._file: Any = self._compressed() if path.suffix == ".gz" else self._raw

    def write(self, data: bytes) -> None:
        """Append.

        Raises:
            SinkError: the disk is full, over quota, or gone.
        """
        try:
            self._file.write(data)
        except OSError as error:
            raise self._failed(error) from error
        ends = self._ends
        ends.append(ends[-1] + len(data))
        while ends[1] <= ends[-1] - BUFFER_BYTES:
            ends.popleft()

    def follow(self, other: Path) -> None:
        """Append what has been written so far of a file that is appended next, if it need be copied at all.

        What cannot be read or written is left for `append`, which says so if it is still so.
        """
        if not aside.HAS_LOCKS or self._file is not self._raw or not self._raw.tell():
            return
        try:
            if self._follower is None:
                self._raw.flush()
                self._follower = Follower(partial_name(other), self._raw.fileno())
            self._follower.go_on()
        except OSError:  # nobody has begun it, or it was removed on another machine, or the disk is full
            self._end_following(None)

    def append(self, other: Path) -> None:
        """Append another file, which may be gone then.

        Raises:
            SinkError: it cannot be read, or the disk is full, over quota, or gone.
        """
        try:
            if not self._end_following(other) and not self._adopt(other):
                self._copy(other)
            self._ends = deque([self._raw.tell()])
            if self._whole is None and os.fstat(self._raw.fileno()).st_size > _COPY_BYTES:
                os.fsync(self._raw.fileno())  # `finish` has less to wait for; until the next comes there is time
        except OSError as error:
            self._take_back()
            raise self._failed(error) from error

    def _take_back(self) -> None:
        """Leave nothing of what could not be appended whole: somebody may append it once more."""
        if self._file is self._raw and os.fstat(self._raw.fileno()).st_size > self._ends[-1]:
            with suppress(OSError):
                os.ftruncate(self._raw.fileno(), self._ends[-1])
                self._raw.seek(self._ends[-1])

    def _end_following(self, other: Path | None) -> bool:
        """Whether the other file is the one that was followed; if not, nothing of what was copied is left."""
        follower, self._follower = self._follower, None
        if follower is None:
            return False
        is_in = follower.end(other)
        self._raw.seek(0, os.SEEK_END)
        return is_in

    def _adopt(self, other: Path) -> bool:
        """Go on with the other file in place of this one, if nothing is in this one: no byte needs to be copied."""
        if not aside.HAS_LOCKS or self._file is not self._raw or self._raw.tell():
            return False
        with ExitStack() as opened:
            found = opened.enter_context(buffered(os.open(other, os.O_RDWR | os.O_NOFOLLOW)))
            if os.fstat(found.fileno()).st_nlink > 1 or not lock(found.fileno()):
                return False
            os.fchmod(found.fileno(), stat.S_IMODE(os.fstat(self._raw.fileno()).st_mode))
            found.seek(0, os.SEEK_END)
            other.replace(self.partial)
            opened.pop_all()
        close_quietly(self._raw)  # not before: its lock keeps others from the name
        self._raw = self._file = found
        return True

    def _copy(self, other: Path) -> None:
        with other.open("rb") as file:
            if self._file is self._raw:
                self._raw.flush()
                copy_bytes(file.fileno(), self._raw.fileno())
                self._raw.seek(0, os.SEEK_END)
            else:
                shutil.copyfileobj(file, self._file, _COPY_BYTES)

    def finish(self, *, durable: bool = True) -> None:
        """Flush and close; the file keeps its partial name.

        Args:
            durable: it is to outlive a crash of the machine, which takes slow disks seconds. For a part it is not done.

        Raises:
            SinkError: the rest could not be written.
        """
        try:
            self._end_following(None)
            if self._file is not self._raw:
                self._file.close()
            self._raw.flush()
            if durable and self._whole is None:
                os.fsync(self._raw.fileno())  # or a crash after the renaming leaves a complete name on an empty file
        except OSError as error:
            raise self._failed(error) from error

    def publish(self) -> None:
        """Give it its final name and let go of the lock.

        Raises:
            SinkError: it could not be renamed.
        """
        if self.partial.exists() and not is_at(self._raw, self.partial):
            raise self._failed(OSError(f"{self.partial} is no longer the file that was written"))
        try:
            self._let_go()
            self.partial.replace(self.path)
        except OSError as error:
            raise self._failed(error) from error
        finally:
            close_quietly(self._raw)

    def discard(self) -> None:
        """Close it and leave what is complete under its partial name; an empty one is removed. Idempotent."""
        with suppress(SinkError, ValueError):  # what cannot be written any more is lost either way; or closed already
            self.finish(durable=False)
        if not self._raw.closed:
            self._cut_back()
            empty = not os.fstat(self._raw.fileno()).st_size and is_at(self._raw, self.partial)
            if not aside.HAS_LOCKS:  # see `_let_go`
                close_quietly(self._raw.raw)
            if empty:
                self.partial.unlink(missing_ok=True)
            close_quietly(self._raw.raw)  # not what is around it, which would write behind the cut what it still has

    def _cut_back(self) -> None:
        """Leave no half of a record that could not be written whole."""
        if self._file is self._raw:
            size = os.fstat(self._raw.fileno()).st_size
            end = max((end for end in self._ends if end <= size), default=0)
            with suppress(OSError):
                self._raw.raw.seek(end)
                end += complete_bytes(self._raw.raw.read(size - end) or b"", quotes=self._quotes)
                self._raw.raw.truncate(end)

    def _keep_mode(self) -> None:
        """Whoever could not read the output before must not read the new one."""
        if hasattr(os, "fchmod") and self.path.exists():
            with suppress(OSError):  # the file is another user's
                os.fchmod(self._raw.fileno(), stat.S_IMODE(self.path.stat().st_mode))

    def _let_go(self) -> None:
        """Close it where an open file cannot be renamed or removed; elsewhere the lock is kept until that is done."""
        if not aside.HAS_LOCKS:
            close_quietly(self._raw)

    def _compressed(self) -> Any:
        # No name and no time in the header: the same run gives the same bytes.
        raw: Any = gzip.GzipFile(filename="", fileobj=self._raw, mode="wb", mtime=0)
        return io.BufferedWriter(raw, 1 << 18)

    def _failed(self, error: OSError) -> SinkError:
        if self._whole is None:
            return SinkError(f"cannot write {self.path}: {words(error)}; what is complete so far is in {self.partial}")
        kept_in = partial_name(Path(os.path.realpath(self._whole)))
        kept = f"parts that are complete from its beginning on, if any, are in {kept_in}"
        return SinkError(f"cannot write {self._whole}, part {self.path}: {words(error)}; {kept}")


def _reason(error: OSError | ValueError, path: Path) -> str:
    folder = path.parent
    if isinstance(error, FileNotFoundError):
        is_there = os.path.isdir(folder)  # noqa: PTH112  # of a folder that may not be looked into pathlib raises
        return f"{folder} takes no files" if is_there else f"the folder {folder} does not exist; create it first"
    if isinstance(error, PermissionError) and folder.is_dir() and not folder.stat().st_mode & stat.S_IWUSR:
        return f"the folder {folder} is read-only"
    return obstacle(partial_name(path)) or words(error)
