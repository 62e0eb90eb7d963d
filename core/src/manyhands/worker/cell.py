"""Where a worker is in its chunk, in one 64-bit word.

    bits 63-32  sequence of the chunk, modulo 2**32
    bit  31     the index is the first of a batch that runs as one
    bits 30-28  stage, 0 for idle
    bits 27-24  counts the calls, so that two hooks that get the same records are told apart
    bits 23-0   index of the record in the chunk's payload

While calls overlap the stage is in bits 27-24, and bits 30-28 are 0.

One word, because it is stored by one instruction: two words could blame a stale index.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableSequence
from typing import Any, Final

from manyhands.chunks import Chunk
from manyhands.executor import Progress

STAGES: Final = ("idle", "unpack", "pre", "validate", "post", "pack", "call")
"""The stages of the pipeline, in order; their index is what the word holds."""

_INDEX: Final = (1 << 24) - 1
_CALL: Final = 0b1111 << 24
_ONE_CALL: Final = 1 << 24
_STAGE: Final = 0b111 << 28
_BATCH: Final = 1 << 31


class ProgressCell:
    """The worker's side: says what begins.

    Args:
        words: one slot for an unsigned 64-bit number that the supervisor reads: `memoryview.cast("Q")`, an array.
    """

    __slots__ = ("_call", "_sequence", "_words")

    def __init__(self, words: MutableSequence[int] | memoryview) -> None:
        self._words: Any = words
        self._sequence = 0
        self._call = 0

    def begin(self, chunk: Chunk) -> None:
        """A chunk begins: all of it is under way until a record is named."""
        self._sequence = (chunk.sequence & 0xFFFFFFFF) << 32
        self.batch("unpack", chunk.lo)

    def end(self) -> None:
        """The worker is idle."""
        self._words[0] = self._sequence

    def batch(self, stage: str, index: int) -> None:
        """A batch that starts at this record enters a stage as one."""
        self._words[0] = self._begin_call(stage) | _BATCH | index & _INDEX

    def record(self, stage: str, index: int) -> None:
        """One record enters a stage."""
        self._words[0] = self._begin_call(stage) | index & _INDEX

    def overlap(self) -> None:
        """What was named last is now under way in calls that overlap."""
        word = self._words[0]
        if stage := word & _STAGE:
            self._words[0] = word & ~(_STAGE | _CALL) | stage >> 4

    def track(self, rows: Iterable[Any], stage: str, indexes: Iterable[int]) -> Iterator[Any]:
        """The rows, each announced by its index in the payload before it is handed on."""
        words, base = self._words, self._begin_call(stage)
        for row, index in zip(rows, indexes, strict=True):
            words[0] = base | index & _INDEX
            yield row

    def _begin_call(self, stage: str) -> int:
        self._call = self._call + _ONE_CALL & _CALL
        return self._sequence | STAGES.index(stage) << 28 | self._call


def read_progress(word: int, chunk: Chunk, batch_size: int | None = None, worker: str = "") -> Progress | None:
    """The supervisor's side: what the word says of this chunk.

    Args:
        word: the cell's content.
        chunk: the chunk that was given to the worker.
        batch_size: `max_hook_chunk_size` of the job; None: batches reach to the chunk's end, as all of them do in the
            stages without hooks.
        worker: whose cell it is, named as in its results.

    Returns:
        None when the worker has not begun this chunk or is through with it.
    """
    stage, call = word >> 28 & 0b111, word >> 24 & 0b1111
    overlap = stage == 0
    if overlap:
        stage, call = call, 0
    if stage == 0 or word >> 32 != chunk.sequence & 0xFFFFFFFF:
        return None
    index, name = word & _INDEX, STAGES[stage]
    if not word & _BATCH:
        return Progress(name, index, index + 1, call, overlap, worker)
    if batch_size is None or name in ("unpack", "pack"):
        return Progress(name, index, chunk.hi, call, overlap, worker)
    return Progress(name, index, min(index + batch_size, chunk.hi), call, overlap, worker)
