"""Room in shared memory for what is too large for a slot.

Who puts something in keeps the books, in its own memory; the others are told where to look.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from manyhands.processes.messages import Buffer

_ALIGN: Final = 64


class Arena:
    """The books, and the memory.

    Args:
        memory: all of it.
    """

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self._free: list[tuple[int, int]] = [(0, len(memory))] if len(memory) else []
        self.size: int = len(memory)

    def put(self, data: Buffer) -> int | None:
        """Copy the bytes to a place; which one, or None when there is no room now."""
        needed = _round_up(len(data))
        for number, (start, end) in enumerate(self._free):
            if end - start >= needed:
                self._free[number : number + 1] = [(start + needed, end)] if end - start > needed else []
                self._memory[start : start + len(data)] = data
                return start
        return None

    def free(self, start: int, size: int) -> None:
        """Take the place back.

        Args:
            start: what `put` returned.
            size: of the bytes.
        """
        end = start + _round_up(size)
        number = bisect_left(self._free, (start, end))
        if number < len(self._free) and self._free[number][0] == end:
            end = self._free.pop(number)[1]
        if number and self._free[number - 1][1] == start:
            number -= 1
            start = self._free.pop(number)[0]
        self._free.insert(number, (start, end))

    @property
    def free_bytes(self) -> int:
        """Room that is left, perhaps in many pieces."""
        return sum(end - start for start, end in self._free)


def _round_up(size: int) -> int:
    return max(-(-size // _ALIGN), 1) * _ALIGN
