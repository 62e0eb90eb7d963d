"""The status cells of all workers of a run, seen from their coordinator."""

from __future__ import annotations

from dataclasses import replace

from manyhands_zoosync.layout import Layout
from manyhands_zoosync.segment import Segment
from manyhands_zoosync.status import CELL_BYTES, StatusReader, WorkerState, WorkerStatus


class Statuses:
    """What each worker says; the counts are those of all that had its place.

    Args:
        segment: the memory.
        layout: where the cells lie there.
    """

    def __init__(self, segment: Segment, layout: Layout) -> None:
        self._cells = [segment.view(layout.status(worker), CELL_BYTES) for worker in range(layout.workers)]
        self._readers = [StatusReader(cell) for cell in self._cells]
        self._earlier = [WorkerStatus()] * layout.workers

    def read(self) -> list[WorkerStatus]:
        """All of them, now."""
        return [self._of(worker) for worker in range(len(self._cells))]

    def end(self, worker: int) -> None:
        """A worker has ended: keep what it counted, and clear its cell for the next."""
        self._earlier[worker] = replace(self._of(worker), state=WorkerState.ENDED)
        self._cells[worker][:] = bytes(CELL_BYTES)
        self._readers[worker].close()
        self._readers[worker] = StatusReader(self._cells[worker])

    def _of(self, worker: int) -> WorkerStatus:
        now, earlier = self._readers[worker].read(), self._earlier[worker]
        if now.pid is None:  # the next has not begun
            return earlier
        return replace(
            now,
            total_processed=now.total_processed + earlier.total_processed,
            success_count=now.success_count + earlier.success_count,
            error_count=now.error_count + earlier.error_count,
        )

    def close(self) -> None:
        """Give up the memory, before it is closed."""
        for reader in self._readers:
            reader.close()
