"""Files of inputs and outputs: gzip by the ending, outputs that appear only when complete."""

from __future__ import annotations

import codecs
import errno
import gzip
import io
import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from manyhands.adapters.following import Follower, copy_bytes
from manyhands.errors import InputError, OutputError, SinkError, SourceError

if TYPE_CHECKING:
    from manyhands.worker.encode import Encoder

try:
    import fcntl
except ImportError:  # Windows has no flock: there, two runs into one output at a time go unnoticed
    fcntl = None  # type: ignore[assignment]


_SKIP_BYTES: Final = 64 * 1024
_COPY_BYTES: Final = 1024 * 1024


class InputFile:
    """A file to read.

    Args:
        path: the file; `.gz` is decompressed.

    Raises:
        InputError: it is missing, a folder, or may not be read.
    """

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        try:
            self._raw: IO[bytes] = path.open("rb", buffering=0)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise InputError(f"cannot read {path}: {_words(error)}") from error
        self._total = os.fstat(self._raw.fileno()).st_size
        self._file: Any = gzip.GzipFile(fileobj=self._raw) if path.suffix == ".gz" else self._raw

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end; where records are cut must not depend on how a pipe is filled.

        Raises:
            SourceError: reading failed, or the compressed data is damaged or cut off.
        """
        parts = []
        try:
            while size > 0 and (data := self._file.read(size)):
                parts.append(data)
                size -= len(data)
        except (OSError, EOFError, gzip.zlib.error) as error:  # type: ignore[attr-defined]  # not in the stubs
            raise SourceError(f"cannot go on reading {self.path}: {error}") from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def skip(self, size: int) -> bytes:
        """Pass over so many bytes; what was read of those behind.

        Raises:
            SourceError: as for `read`.
        """
        try:
            self._file.seek(size, os.SEEK_CUR)
        except (OSError, EOFError, gzip.zlib.error) as error:  # type: ignore[attr-defined]  # not in the stubs
            raise SourceError(f"cannot go on reading {self.path}: {error}") from error
        return b""

    def left(self) -> int | None:
        """How many bytes there are still to read; None where only reading them tells."""
        return self._total - self._raw.tell() if self._file is self._raw and self._total else None

    def consumed(self) -> float | None:
        """The fraction read so far; None for what has no length."""
        if self._raw.closed:
            return 1.0
        return min(self._raw.tell() / self._total, 1.0) if self._total else None

    def close(self) -> None:
        """Close it. Idempotent."""
        self._file.close()
        self._raw.close()


class TranscodedFile(InputFile):
    """A file in an encoding whose bytes do not tell where lines end, read as UTF-8.

    Args:
        file: the opened file.
        encoding: its encoding.
    """

    def __init__(self, file: InputFile, encoding: str) -> None:
        self.path: Path = file.path
        self._inner = file
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()

    def read(self, size: int) -> bytes:
        """The next bytes in UTF-8; none at the end.

        Raises:
            SourceError: the file is not text in its encoding.
        """
        while True:
            data = self._inner.read(size)
            try:
                text = self._decoder.decode(data, final=not data)
            except UnicodeError as error:  # of some codecs not a UnicodeDecodeError
                reason = getattr(error, "reason", error)
                raise SourceError(f"{self.path} is not valid {self._encoding}: {reason}") from error
            if text or not data:
                return text.encode()

    def skip(self, size: int) -> bytes:
        """Pass over so many bytes; what was read of those behind."""
        data = b""
        while len(data) < size:
            size -= len(data)
            data = self.read(_SKIP_BYTES)
            if not data:
                return b""
        return data[size:]

    def left(self) -> int | None:
        """Only reading tells."""
        return None

    def consumed(self) -> float | None:
        """The fraction read so far."""
        return self._inner.consumed()

    def close(self) -> None:
        """Close it. Idempotent."""
        self._inner.close()


class OutputFile:
    """A file that is written aside as `NAME.partial` and renamed when complete.

    Args:
        path: the final name; with `.gz` it is compressed.
        durable: when it is finished it outlives a crash of the machine; what is read at once and removed need not.

    Raises:
        OutputError: the folder is missing or read-only, the name is no regular file, or another run writes it.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self.path: Path = path
        self._durable = durable
        try:
            self.path = Path(os.path.realpath(path))
            if self.path.exists() and not self.path.is_file():
                raise OutputError(f"cannot write {path}: it is not a regular file")
            self.partial: Path = partial_name(self.path)
            found = _open_aside(self.partial)
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

    def follow(self, other: Path) -> None:
        """Append what has been written so far of a file that is appended next, if it need be copied at all.

        What cannot be read or written is left for `append`, which says so if it is still so.
        """
        if fcntl is None or self._file is not self._raw or not self._raw.tell():
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
            if self._durable and os.fstat(self._raw.fileno()).st_size > _COPY_BYTES:
                os.fsync(self._raw.fileno())  # `finish` has less to wait for; until the next comes there is time
        except OSError as error:
            raise self._failed(error) from error

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
        if fcntl is None or self._file is not self._raw or self._raw.tell():
            return False
        with ExitStack() as opened:
            found = opened.enter_context(os.fdopen(os.open(other, os.O_RDWR | os.O_NOFOLLOW), "r+b"))
            if os.fstat(found.fileno()).st_nlink > 1 or not _lock(found.fileno()):
                return False
            os.fchmod(found.fileno(), stat.S_IMODE(os.fstat(self._raw.fileno()).st_mode))
            found.seek(0, os.SEEK_END)
            other.replace(self.partial)
            opened.pop_all()
        _close_quietly(self._raw)  # not before: its lock keeps others from the name
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

    def finish(self) -> None:
        """Flush and close; the file keeps its partial name.

        Raises:
            SinkError: the rest could not be written.
        """
        try:
            self._end_following(None)
            if self._file is not self._raw:
                self._file.close()
            self._raw.flush()
            if self._durable:
                os.fsync(self._raw.fileno())  # or a crash after the renaming leaves a complete name on an empty file
        except OSError as error:
            raise self._failed(error) from error

    def publish(self) -> None:
        """Give it its final name and let go of the lock.

        Raises:
            SinkError: it could not be renamed.
        """
        if self.partial.exists() and not _is_at(self._raw, self.partial):
            raise self._failed(OSError(f"{self.partial} is no longer the file that was written"))
        try:
            self._let_go()
            self.partial.replace(self.path)
        except OSError as error:
            raise self._failed(error) from error
        finally:
            _close_quietly(self._raw)

    def discard(self) -> None:
        """Close it and leave it under its partial name; an empty one is removed. Idempotent."""
        with suppress(SinkError, ValueError):  # what cannot be written any more is lost either way; or closed already
            self.finish()
        if not self._raw.closed:
            empty = not os.fstat(self._raw.fileno()).st_size and _is_at(self._raw, self.partial)
            self._let_go()
            if empty:
                self.partial.unlink(missing_ok=True)
            _close_quietly(self._raw)

    def _keep_mode(self) -> None:
        """Whoever could not read the output before must not read the new one."""
        if hasattr(os, "fchmod") and self.path.exists():
            with suppress(OSError):  # the file is another user's
                os.fchmod(self._raw.fileno(), stat.S_IMODE(self.path.stat().st_mode))

    def _let_go(self) -> None:
        """Close it where an open file cannot be renamed or removed; elsewhere the lock is kept until that is done."""
        if fcntl is None:
            _close_quietly(self._raw)

    def _compressed(self) -> Any:
        # No name and no time in the header: the same run gives the same bytes.
        raw: Any = gzip.GzipFile(filename="", fileobj=self._raw, mode="wb", mtime=0)
        return io.BufferedWriter(raw, 1 << 18)

    def _failed(self, error: OSError) -> SinkError:
        return SinkError(f"cannot write {self.path}: {_words(error)}; what is complete so far is in {self.partial}")


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


def check_overlap(sources: Iterable[tuple[Path, str]], targets: Iterable[tuple[Path, str]]) -> None:
    """No target may overwrite a source or another target, neither under its final name nor under its partial one.

    Args:
        sources: files that are read, and what they are.
        targets: files that are written, and what they are.

    Raises:
        OutputError: one would.
    """
    seen = {os.path.realpath(path): what for path, what in sources}
    for path, what in targets:
        final = os.path.realpath(path)
        for name in (final, f"{final}.partial"):
            if name in seen:
                it = "it" if name == final else f"until it is complete it is {name}, and that"
                raise OutputError(f"cannot write {path}: {it} is also {seen[name]} of this job")
            seen[name] = what


def partial_name(path: Path) -> Path:
    """What an output is called until it is complete."""
    return path.with_name(f"{path.name}.partial")


def obstacle(partial: Path) -> str | None:
    """Why what is at a partial name keeps a run from writing there; None: it does not, or nothing is there."""
    try:
        found = partial.lstat()
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        return f"{partial} is no regular file of its own; move or remove it"
    if not os.access(partial, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        return f"{partial} may not be read and written; remove it"
    return None


def _open_aside(partial: Path) -> IO[bytes] | None:
    """The file, empty and locked; None if another run has it."""
    # A link in its place would have us write into what it leads to.
    if partial.is_symlink():
        raise OSError(errno.ELOOP, f"{partial} is a link; remove it")
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    while True:
        file = os.fdopen(os.open(partial, flags, 0o666), "r+b")
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            file.close()
            raise OSError(errno.ELOOP, f"{partial} is no regular file of its own; move or remove it")
        if not _lock(file.fileno()):
            file.close()
            return None
        if _is_at(file, partial):
            file.truncate(0)
            return file
        # Whoever had it published or removed it between our two calls: what we hold may be a complete output.
        file.close()


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False


def _lock(descriptor: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _close_quietly(file: IO[bytes]) -> None:
    with suppress(OSError):
        file.close()


def _words(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)


def _reason(error: OSError | ValueError, path: Path) -> str:
    folder = path.parent
    if isinstance(error, FileNotFoundError):
        is_there = os.path.isdir(folder)  # noqa: PTH112  # of a folder that may not be looked into pathlib raises
        return f"{folder} takes no files" if is_there else f"the folder {folder} does not exist; create it first"
    if isinstance(error, PermissionError) and folder.is_dir() and not folder.stat().st_mode & stat.S_IWUSR:
        return f"the folder {folder} is read-only"
    return obstacle(partial_name(path)) or _words(error)
