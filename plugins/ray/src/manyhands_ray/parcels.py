"""How many chunks one call has, its parcel: a call of Ray costs a millisecond, which may be more than a chunk takes."""

from __future__ import annotations

from typing import Final

from manyhands.chunks import ChunkKind

_MOST: Final = 8
_SHORT_SECONDS: Final = 0.005
_LONG_SECONDS: Final = 0.02


class Parcels:
    """One for all workers of a run.

    Where a call takes long, or its worker dies, chunks that had run in it run again. So there are several only where
    that is the same as once: in jobs that call no code of the person's.

    Args:
        max_inflight: chunks in flight at most; None: any number.
        alone: each chunk goes alone.
    """

    def __init__(self, max_inflight: int | None, *, alone: bool) -> None:
        self._max_inflight = max_inflight
        self._most = 1 if alone else _MOST
        self._size = 1

    def size(self, workers: int) -> int:
        """Chunks in a call, so that each worker can have one that runs and one that waits.

        Args:
            workers: how many there are.
        """
        if self._max_inflight is None:
            return self._size
        return max(min(self._size, self._max_inflight // (2 * max(workers, 1))), 1)

    def see(self, kind: ChunkKind) -> None:
        """Such a chunk is to run."""
        if kind is ChunkKind.CALLS:
            self._most = self._size = 1

    def learn(self, given: int, ran: int, seconds: float) -> None:
        """A call was answered.

        Args:
            given: how many chunks were in it.
            ran: how many of them have.
            seconds: how long it took.
        """
        if ran < given or seconds > _LONG_SECONDS:
            self.shrink()
        elif seconds < _SHORT_SECONDS:
            self._size = min(2 * self._size, self._most)

    def shrink(self) -> None:
        """Calls take too long."""
        self._size = max(self._size // 2, 1)
