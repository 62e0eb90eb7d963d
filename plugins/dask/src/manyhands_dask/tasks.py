"""What the program knows of chunks that are on their way, and of the seats that run them."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from manyhands.chunks import ChunkKind
from manyhands.executor import Progress

if TYPE_CHECKING:
    from manyhands.chunks import Chunk, ChunkResult
    from manyhands_dask.hand import Hand

_STUCK_SECONDS: Final = 3.0


@dataclass(eq=False, slots=True)
class Task:
    """A chunk on its way.

    Attributes:
        chunk: it.
        future: of it.
        hand: the worker that has it.
        seat: which of its seats.
        has_begun: it runs there.
        is_wanted: nobody had cancelled it when it began.
        is_evicted: it is to be cancelled if it has not begun, and else its worker to be killed.
    """

    chunk: Chunk
    future: Future[ChunkResult]
    hand: Hand | None = None
    seat: Seat | None = None
    has_begun: bool = False
    is_wanted: bool = True
    is_evicted: bool = False

    def begin(self) -> None:
        """It runs. From now on it cannot be cancelled; whoever has cancelled it before gets no result."""
        self.has_begun = True
        if not self.future.running():  # it may have begun elsewhere before
            self.is_wanted = self.future.set_running_or_notify_cancel()

    def leave(self) -> None:
        """It is no more where it was."""
        self.hand = self.seat = None
        self.has_begun = False

    def cancel(self) -> bool:
        """It runs nowhere, and never will: whoever waits for it is told. False: it had begun elsewhere before."""
        if self.future.running():
            return False
        self.future.cancel()
        self.future.set_running_or_notify_cancel()
        return True

    def fail(self, error: BaseException) -> None:
        """It has no result."""
        if not self.has_begun:
            self.begin()
        if self.is_wanted:
            self.future.set_exception(error)


class State(Enum):
    """Of a seat."""

    WAITING = 1
    """Its Dask task has not begun: the worker may be busy with somebody else's."""
    STARTING = 2
    READY = 3
    LEAVING = 4
    """It is one too many, and has been told to end."""
    ENDED = 5


@dataclass(eq=False, slots=True)
class Seat:
    """A seat of a worker, as the program sees it.

    Attributes:
        number: of it.
        state: of it.
        asked: when its Dask task was submitted.
        held: chunks that it has, in order.
        done: chunks that it has run.
        job: the Dask task.
    """

    number: int
    state: State = State.WAITING
    asked: float | None = None
    held: deque[Task] = field(default_factory=deque)
    done: int = 0
    job: Any = None

    @property
    def is_stuck(self) -> bool:
        """Its worker is busy with somebody else's task, who knows for how long."""
        return self.state is State.WAITING and self.asked is not None and monotonic() - self.asked > _STUCK_SECONDS


def somewhere_after(told: Progress | None, chunk: Chunk, worker: str) -> Progress | None:
    """Where a worker is that has fallen silent in a chunk: it may have gone on from where it was last.

    Args:
        told: that; None: it has said nothing of the chunk.
        chunk: the chunk.
        worker: which one.
    """
    if told is not None and (told.stage == "pack" or told.overlap):
        return told
    if told is not None and told.stage in _STAGES:
        return Progress(told.stage, told.lo, chunk.hi, worker=worker)
    return Progress("call" if chunk.kind is ChunkKind.CALLS else "pre", chunk.lo, chunk.hi, worker=worker)


_STAGES: Final = ("pre", "validate", "post", "call")
"""Those in which records have their time."""
