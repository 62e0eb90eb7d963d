"""The contracts of inputs and outputs.

An adapter is configuration: it can be pickled and used for many runs. `open` gives what one run reads or writes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from manyhands.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

    from manyhands.worker.encode import Encoder
    from manyhands.worker.rows import Decoder


@dataclass(frozen=True, slots=True)
class Block:
    """Undecoded bytes, cut at a record boundary.

    Attributes:
        data: the bytes.
        count: how many records they hold.
        line: 1-based line of the first byte; None for inputs without lines.
        offset: how many bytes of the records are before it.
    """

    data: bytes
    count: int
    line: int | None
    offset: int = 0


class Source(Protocol):
    """An opened input: blocks if it has a decoder, else records."""

    decoder: Decoder | None
    json_input: bool

    def blocks(self, chunksize: int | None, nbytes: int | None = None) -> Iterator[Block]:
        """Raw blocks of exactly `chunksize` records, or of about `nbytes`, by default 256 KiB.

        Raises:
            SourceError: the input failed.
        """

    def records(self) -> Iterable[Any] | AsyncIterable[Any]:
        """Records, where there is no decoder."""

    def consumed(self) -> float | None:
        """The fraction read so far, 0 to 1; None where the length is not known."""

    def close(self) -> None:
        """Release it. Idempotent."""


class Writer(Protocol):
    """An opened output. Nothing appears under its final name before `publish`."""

    encoder: Encoder | None
    """Makes the bytes on the workers; None: `write` gets entries (or error records)."""

    def late_encoder(self, entries: Sequence[Any]) -> Encoder | None:
        """What makes the bytes where that shows only with the first entries; None: `write` takes them as they are."""

    def write(self, records: Any) -> None:
        """Take the next records in order: bytes joined by the encoder, or a list.

        Raises:
            SinkError: they cannot be written.
        """

    def append(self, part: Path) -> None:
        """Take over what the writer of a part has published.

        Raises:
            SinkError: it cannot be read or written.
        """

    def finish(self) -> None:
        """Everything is written: flush and close. Raises `SinkError`."""

    def publish(self) -> None:
        """Let it appear under its final name; called after every output of the run has finished."""

    def discard(self) -> None:
        """The run failed or was aborted: close, keep what is there aside under a name that says so."""


class BaseInputAdapter(ABC):
    """An input.

    Attributes:
        path: the file, for adapters that read one: an output may not overwrite it.
        limit: read at most so many records.
        skip_rows: pass over so many records first.
        position: of the first record that it gives: 0, unless it is a part of an input.
    """

    path: Path | None = None
    limit: int | None = None
    skip_rows: int = 0
    position: int = 0

    @abstractmethod
    def open(self) -> Source:
        """Open it for one run.

        Raises:
            InputError: it is missing or unusable.
        """


class BaseOutputAdapter(ABC):
    """An output, or an error output.

    Attributes:
        path: the file, for adapters that write one.
    """

    path: Path | None = None

    @abstractmethod
    def open(self, columns: tuple[str, ...] | None) -> Writer:
        """Open it for one run.

        Args:
            columns: the names of the fields if they are known before the data; hooks make them unknown.

        Raises:
            OutputError: it cannot be created.
        """

    def open_part(self, path: Path, columns: tuple[str, ...] | None) -> Writer:  # noqa: ARG002  # for subclasses
        """Open a part of it, which another process writes and `Writer.append` puts into the whole.

        Args:
            path: of the part.
            columns: as for `open`.

        Raises:
            OutputError: it cannot be created, or cannot be written in parts.
        """
        self.check_parts(columns)
        return self.open(columns)

    def check_parts(self, columns: tuple[str, ...] | None) -> None:  # noqa: ARG002  # for subclasses
        """See that it can be written in parts.

        Args:
            columns: as for `open`.

        Raises:
            OutputError: it cannot.
        """
        raise OutputError(f"{type(self).__name__} cannot be written in parts, which engines do; use an executor")


class RecordSource:
    """A source of record objects.

    Args:
        records: a plain or asynchronous iterable.
        json_input: the records are bytes of JSON texts.
    """

    decoder: Decoder | None = None

    def __init__(self, records: Iterable[Any] | AsyncIterable[Any], *, json_input: bool = False) -> None:
        self._records = records
        self.json_input = json_input

    def blocks(self, chunksize: int | None, nbytes: int | None = None) -> Iterator[Block]:
        """None: there is no decoder."""
        raise NotImplementedError

    def records(self) -> Iterable[Any] | AsyncIterable[Any]:
        """The records."""
        return self._records

    def consumed(self) -> float | None:
        """Not known."""
        return None

    def close(self) -> None:
        """Nothing to release."""


class EntryWriter:
    """A writer that hands entries to a function; subclasses add what finishing means."""

    encoder: Encoder | None = None

    def __init__(self, take: Any) -> None:
        self._take = take

    def write(self, records: Any) -> None:
        """Hand them on."""
        self._take(records)

    def late_encoder(self, entries: Sequence[Any]) -> Encoder | None:  # noqa: ARG002  # for subclasses
        """None: entries are what is wanted."""
        return None

    def append(self, part: Path) -> None:
        """There are no parts of this kind."""
        raise NotImplementedError

    def finish(self) -> None:
        """Nothing to flush."""

    def publish(self) -> None:
        """Nothing to rename."""

    def discard(self) -> None:
        """Nothing to keep aside."""
