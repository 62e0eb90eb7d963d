"""Any Python iterable as an input."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any

from manyhands.adapters.base import BaseInputAdapter, RecordSource, Source
from manyhands.errors import InputError, OptionsError
from manyhands.worker.failures import words


class IterableInputAdapter(BaseInputAdapter):
    """Records of an iterable: a list, a generator (endless ones too), an asynchronous one, or a function giving one.

    It is iterated in a thread of its own, an asynchronous one on an event loop of its own.

    Args:
        iterable: where the records come from.
        limit: read at most so many.
        skip_rows: pass over so many first.
    """

    def __init__(
        self,
        iterable: Iterable[Any] | AsyncIterable[Any] | Callable[[], Iterable[Any] | AsyncIterable[Any]],
        *,
        limit: int | None = None,
        skip_rows: int = 0,
    ) -> None:
        is_source = callable(iterable) or isinstance(iterable, Iterable | AsyncIterable)
        if not is_source or isinstance(iterable, str | bytes | Mapping):
            raise OptionsError(f"{iterable!r} is no iterable of records")
        if skip_rows < 0 or (limit is not None and limit < 0):
            raise OptionsError("limit and skip_rows must not be negative")
        self.iterable = iterable
        self.limit = limit
        self.skip_rows = skip_rows
        self._read: object = None

    def open(self) -> Source:
        """The records.

        Raises:
            InputError: the function failed or gave no iterable, or this is a second run of an iterator.
        """
        records = self.iterable
        if callable(records) and not isinstance(records, Iterable | AsyncIterable):
            records = self._call(records)
            if not isinstance(records, Iterable | AsyncIterable):
                raise InputError(f"{self.iterable!r} returned {type(records).__name__}, no iterable of records")
        if isinstance(records, Iterator | AsyncIterator):
            self._check_unread(records)
        return RecordSource(records)

    def _check_unread(self, iterator: object) -> None:
        """An iterator has nothing left for a second run, which would be a success with no records."""
        if iterator is self._read:
            raise InputError("this iterator was read by an earlier run; give a function that makes a new one")
        self._read = iterator

    @staticmethod
    def _call(function: Callable[[], Any]) -> Any:
        try:
            return function()
        except Exception as error:
            raise InputError(f"{function!r} failed: {type(error).__name__}: {words(error)}") from error
