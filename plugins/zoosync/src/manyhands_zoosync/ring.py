"""A stream of bytes from one worker to the coordinator, through a ring in shared memory.

Both ends count bytes; the counts never wrap. They see each other's count only while they hold the lock of the queue,
which also makes sure that who sees the count sees the bytes. What a worker had not published when it died is as if it
had never been written.
"""

from __future__ import annotations

from manyhands.processes.messages import Buffer
from manyhands_zoosync.layout import Layout
from manyhands_zoosync.segment import Segment


class _Ring:
    def __init__(self, segment: Segment, layout: Layout, worker: int) -> None:
        self._size = layout.ring_bytes
        self._data = segment.view(layout.ring(worker), layout.ring_bytes)
        self._written = segment.words(layout.written(worker), 1)
        self._read = segment.words(layout.read(worker), 1)
        self._mine = 0
        self._theirs = 0


class RingWriter(_Ring):
    """The worker's end."""

    def write(self, data: Buffer) -> int:
        """Write as much as there is known to be room for; how much that was."""
        count = self._size - (self._mine - self._theirs)
        if count < len(data):
            data = data[:count]
        else:
            count = len(data)
        start = self._mine % self._size
        end = start + count
        if end <= self._size:
            self._data[start:end] = data
        else:
            whole = self._size - start
            self._data[start:] = data[:whole]
            self._data[: count - whole] = data[whole:]
        self._mine += count
        return count

    def exchange(self) -> None:
        """Publish what was written, and see what was read. Only with the lock held."""
        self._written[0] = self._mine
        self._theirs = self._read[0]


class RingReader(_Ring):
    """The coordinator's end."""

    def read(self) -> bytes:
        """What is known to be there."""
        start, count = self._mine % self._size, self._theirs - self._mine
        whole = min(count, self._size - start)
        data = bytes(self._data[start : start + whole])
        self._mine = self._theirs
        return data + bytes(self._data[: count - whole]) if count > whole else data

    def exchange(self) -> bool:
        """Give back the room of what was read, and see what was written; whether there is anything.

        Only with the lock held.
        """
        self._read[0] = self._mine
        self._theirs = self._written[0]
        return self._theirs != self._mine

    def reset(self) -> None:
        """Begin anew for the next worker. Only with the lock held."""
        self._mine = self._theirs = self._read[0] = self._written[0] = 0
