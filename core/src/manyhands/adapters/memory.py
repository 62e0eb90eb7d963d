"""Outputs that are no files."""

from __future__ import annotations

from typing import Any

from manyhands.adapters.base import BaseOutputAdapter, EntryWriter, Writer


class MemoryOutputAdapter(BaseOutputAdapter):
    """Keeps what it is given.

    Attributes:
        results: the entries as an output, the error records as an error output. A new run starts a new list.
    """

    def __init__(self) -> None:
        self.results: list[Any] = []

    def open(self, columns: tuple[str, ...] | None) -> Writer:  # noqa: ARG002  # entries carry their names
        """Start a new list."""
        self.results = []
        return EntryWriter(self.results.extend)


class NullOutputAdapter(BaseOutputAdapter):
    """Takes everything and keeps nothing; the records are encoded all the same, as JSON."""

    def check_parts(self, columns: tuple[str, ...] | None) -> None:
        """Nothing has any number of parts."""

    def open(self, columns: tuple[str, ...] | None) -> Writer:  # noqa: ARG002  # nothing is written
        """Nothing to open."""
        from manyhands.worker.encode import JSONEncoder

        writer = EntryWriter(lambda records: None)  # noqa: ARG005  # that is the point
        writer.encoder = JSONEncoder()
        return writer
