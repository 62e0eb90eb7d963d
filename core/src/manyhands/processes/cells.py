"""Cells of shared memory, each written by one process, that anybody may read at any time without a lock, never torn.

    word 0   sequence: odd while it is written, and two more after each time
    words    what is written: as many, each time
    1 word   check sum of the sequence and of those

The writer makes the sequence odd, writes the rest, and makes it even. A reader copies the cell and then looks at the
sequence again: if it is even and still the same, the copy is of one writing. That is exact where stores are seen in
their order, as on x86. ARM may show the new sequence before the last of the words. There the check sum tells, with an
error in 2**32 of the rare copies that are mixed.

To set or get a word is a single instruction of a 64-bit processor, because CPython copies an item of a memoryview of
format "Q" as a whole.
"""

from __future__ import annotations

from struct import Struct
from typing import Final
from zlib import crc32

_WORD: Final = 8
_LINE: Final = 64
_MASK: Final = 0xFFFFFFFF
_CHECK: Final = Struct("=Q")
_TRIES: Final = 100


def cell_bytes(words: int) -> int:
    """Room for a cell: whole lines of 64 bytes, so that no two processes write into one line of a processor's cache.

    Args:
        words: that are written.
    """
    return -(-_WORD * (words + 2) // _LINE) * _LINE


class CellWriter:
    """The side of the one that writes. It goes on where another left off, also one that died writing.

    Args:
        memory: the cell, on a multiple of 8 bytes.
    """

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self._words = memory.cast("Q")
        self._sequence = self._words[0] & ~1

    def write(self, content: bytes) -> None:
        """Let others see this.

        Args:
            content: whole words.
        """
        self._sequence = sequence = self._sequence + 2
        words, end = self._words, _WORD + len(content)
        words[0] = sequence - 1
        self._memory[_WORD:end] = content
        words[end // _WORD] = crc32(content, sequence & _MASK)
        words[0] = sequence

    def close(self) -> None:
        """Give up the memory, before it is closed."""
        self._words.release()


class CellReader:
    """The side of everybody else: any number of them may read a cell.

    Args:
        memory: the cell.
        words: that are written; all are 0 until then.
    """

    def __init__(self, memory: memoryview, words: int) -> None:
        self._memory = memory
        self._words = memory.cast("Q")
        self._nbytes = _WORD * words
        self._end = self._nbytes + 2 * _WORD
        self._last = bytes(self._nbytes)
        self._seen = 0

    def read(self) -> bytes:
        """What was written last, the very same object until there is another.

        It is what was written before, if the writer is just at it or died of it.
        """
        words, end = self._words, self._end
        for _ in range(_TRIES):
            sequence = words[0]
            if sequence == self._seen:
                break
            copy = bytes(self._memory[_WORD:end])
            if sequence == words[0] and not sequence & 1 and self._is_whole(copy, sequence):
                self._seen, self._last = sequence, copy[: self._nbytes]
                break
        return self._last

    def _is_whole(self, copy: bytes, sequence: int) -> bool:
        (check,) = _CHECK.unpack_from(copy, self._nbytes)
        return bool(check == crc32(copy[: self._nbytes], sequence & _MASK))

    def close(self) -> None:
        """Give up the memory, before it is closed."""
        self._words.release()
