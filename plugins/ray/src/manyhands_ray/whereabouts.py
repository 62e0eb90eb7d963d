"""Where a worker of another node is in its chunk: its answers tell, and code that holds the interpreter stops them."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Final

from manyhands.chunks import ChunkKind
from manyhands.executor import Progress
from manyhands.worker.cell import read_progress

if TYPE_CHECKING:
    from manyhands.chunks import Chunk

_SILENCE_SECONDS: Final = 0.5
_TIMED: Final = ("pre", "validate", "post", "call")


class Whereabouts:
    """Those of one worker.

    One that is silent may have gone on since its last answer, so any record of its chunk may be the one that holds it:
    all of them are said to be under way, and the driver runs them apart. That lasts until an answer tells a new place:
    were the same place told now exactly and now not, the driver's clock would begin again each time.
    """

    def __init__(self) -> None:
        self._word = 0
        self._heard = 0.0
        self._vague = False

    def begin(self) -> None:
        """It is given a chunk: what it told before is of another."""
        self._word, self._heard, self._vague = 0, monotonic(), False

    def hear(self, word: int) -> None:
        """It has answered.

        Args:
            word: see `manyhands.worker.cell`.
        """
        self._vague = word == self._word and self._is_vague
        self._word, self._heard = word, monotonic()

    def progress(self, chunk: Chunk, batch_size: int | None, worker: str) -> Progress | None:
        """Where it is in this chunk, the last that it was given.

        Args:
            chunk: that.
            batch_size: as in `read_progress`.
            worker: as there.
        """
        told = read_progress(self._word, chunk, batch_size, worker)
        if not self._is_vague:
            return told
        if told is not None and (told.overlap or told.stage in _TIMED):
            return replace(told, lo=chunk.lo, hi=chunk.hi)
        stage = "call" if chunk.kind is ChunkKind.CALLS else "validate"
        return Progress(stage, chunk.lo, chunk.hi, worker=worker)

    @property
    def _is_vague(self) -> bool:
        return self._vague or monotonic() - self._heard > _SILENCE_SECONDS
