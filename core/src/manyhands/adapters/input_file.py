"""Files that are read: gzip by the ending, any encoding as UTF-8."""

from __future__ import annotations

import codecs
import gzip
import os
from pathlib import Path
from typing import IO, Any, Final

from manyhands.adapters.names import words
from manyhands.errors import InputError, SourceError

_SKIP_BYTES: Final = 64 * 1024


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
            raise InputError(f"cannot read {path}: {words(error)}") from error
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
