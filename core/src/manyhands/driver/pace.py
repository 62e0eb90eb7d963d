"""How many calls of a function map go into one chunk.

One at first, and eight times as many at most as have been seen to work, until a chunk takes about 30 ms: what it costs
to send one is then below 1 % of it, and no worker has long to do while the others have nothing. Towards the end of a
map whose length is known, chunks become smaller again, so that all workers end at about the same time.
"""

from __future__ import annotations

from typing import Final

from manyhands.chunks import MAX_RECORDS
from manyhands.errors import OptionsError

_AIM_SECONDS: Final = 0.03
_LEAST_SECONDS: Final = 0.002
_GROWTH: Final = 8
_MOST: Final = 1 << 14
_MOST_BYTES: Final = 4 * 1024 * 1024


class Pace:
    """Chunk sizes of one map.

    Args:
        chunksize: what the person wants, honoured to the letter; None: ours.
        total: calls in the map; None: unknown.
        workers: who share them.
        least: calls of a chunk that are worth having in any case.

    Raises:
        OptionsError: chunksize is not None or a number from 1 to `MAX_RECORDS`.
    """

    def __init__(self, chunksize: int | None, *, total: int | None, workers: int, least: int = 1) -> None:
        if chunksize is not None and (not isinstance(chunksize, int) or not 1 <= chunksize <= MAX_RECORDS):
            raise OptionsError(f"chunksize must be None or a number from 1 to {MAX_RECORDS}, not {chunksize!r}")
        self.is_fixed: bool = chunksize is not None
        self._size = chunksize or least
        self._least = least
        self._left = total
        self._workers = workers
        self._share = _MOST if total is None else max(-(-total // workers), 1)
        self._seen = 0
        self._call_seconds: float | None = None
        self._argument_bytes = self._result_bytes = 0.0

    def next(self) -> int:
        """Calls to put into the next chunk."""
        if self.is_fixed or self._left is None:
            return self._size
        return min(self._size, self._share, max(-(-self._left // (2 * self._workers)), self._quick))

    def gave(self, calls: int) -> None:
        """So many were put into a chunk."""
        if self._left is not None:
            self._left = max(self._left - calls, 0)

    def weigh(self, calls: int, nbytes: int) -> None:
        """The arguments of so many calls are of so many bytes."""
        self._argument_bytes = max(0.5 * self._argument_bytes, nbytes / calls)
        self._adapt()

    def learn(self, calls: int, seconds: float, nbytes: int) -> None:
        """So many calls took so long, and their results are of so many bytes."""
        self._result_bytes = max(0.5 * self._result_bytes, nbytes / calls)
        took = max(seconds, 1e-9) / calls
        self._call_seconds = took if self._call_seconds is None else 0.5 * (self._call_seconds + took)
        self._seen = max(self._seen, calls)
        self._adapt()

    @property
    def _quick(self) -> int:
        """So many calls take no time worth sharing."""
        return 1 if self._call_seconds is None else max(int(_LEAST_SECONDS / self._call_seconds), 1)

    def _adapt(self) -> None:
        if self.is_fixed or self._call_seconds is None:
            return
        nbytes = max(self._argument_bytes, self._result_bytes, 1.0)
        most = min(_MOST, self._seen * _GROWTH, int(_MOST_BYTES / nbytes))
        self._size = max(min(int(_AIM_SECONDS / self._call_seconds), most), self._least, 1)
