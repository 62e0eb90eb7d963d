"""A worker process as its supervisor sees it: its pipes, what it holds, and where it is."""

from __future__ import annotations

import fcntl
import os
import sys
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Final

import msgpack

from manyhands.chunks import Chunk, ChunkResult
from manyhands.executor import Progress
from manyhands.processes.descriptors import Descriptors, open_pipe
from manyhands.processes.messages import Message, Unframer, frame
from manyhands.processes.output import WorkerLog
from manyhands.worker.cell import read_progress
from manyhands.worker.transport import dump_chunk
from manyhands_multiprocessing.worker import MAIN, Kind

if TYPE_CHECKING:
    from manyhands.processes.launch import Child, Exit, Launcher
    from manyhands.processes.messages import Buffer
    from manyhands_multiprocessing.board import Board

_PIPE_BYTES: Final = 512 * 1024
"""Room for a block or its result, so that a worker need not wait until the supervisor has read the last one."""

_OUTPUT_BYTES: Final = 4 * 1024
_LAST_READS: Final = 16
_MOST_BUFFERS: Final = 64

Task = tuple[Chunk, Future[ChunkResult]]


class State(Enum):
    """What a worker is up to: `ENDING` once it was told to stop, `ENDED` once it says that it did."""

    STARTING = auto()
    READY = auto()
    ENDING = auto()
    ENDED = auto()


@dataclass(frozen=True, slots=True)
class Workshop:
    """What the workers of a run have in common.

    Attributes:
        launcher: starts them.
        board: where they say how far they are.
        workers: how many there are.
        job: the job's context as bytes.
        batch_size: `max_hook_chunk_size` of the job.
        hooked: the job has hooks, whose teardown may be missed.
    """

    launcher: Launcher
    board: Board
    workers: int
    job: bytes
    batch_size: int | None
    hooked: bool


class Hand:
    """A worker process.

    Args:
        number: its line on the board.
        shop: where it works.

    Raises:
        OSError: it could not be started.
    """

    def __init__(self, number: int, shop: Workshop) -> None:
        shop.board.clear(number)
        self.number = number
        self.state: State = State.STARTING
        self.held: deque[Task] = deque()
        self.taken: int = 0
        self.done: int = 0
        self.evicted: Future[ChunkResult] | None = None
        self.was_ready: bool = False
        self.is_watched: bool = False
        self.leaving_since: float | None = None
        self.fault: str | None = None
        self._shop = shop
        self._unframer = Unframer()
        self._unsent: deque[memoryview] = deque()
        self.inbox: int
        self.outbox: int
        self.child: Child
        self.inbox, self.outbox, self.child = self._start()
        self._log = WorkerLog(self.child.pid)
        argv = [argument for argument in sys.argv if isinstance(argument, str)]
        header = msgpack.packb((number, shop.workers, argv), unicode_errors="surrogateescape")
        self._queue(frame(Kind.JOB, header, shop.job))

    def _start(self) -> tuple[int, int, Child]:
        """Its pipes, from here: one to read and one to write."""
        with Descriptors() as ours, Descriptors() as theirs:
            theirs_in, ours_out = open_pipe(theirs, ours)
            ours_in, theirs_out = open_pipe(ours, theirs)
            child = self._shop.launcher.start(MAIN, [theirs_in, theirs_out, self._shop.board.descriptor])
            ours.keep()
        for pipe in (ours_in, ours_out):
            os.set_blocking(pipe, False)
            _widen(pipe)
        return ours_in, ours_out, child

    @property
    def wants_to_write(self) -> bool:
        """A message is not yet wholly in the pipe."""
        return bool(self._unsent)

    def progress(self) -> Progress | None:
        """Where it is in the chunk that it has begun."""
        task = self.begun
        if task is None:
            return None
        word, worker = self._shop.board.progress_of(self.number)[0], f"{self.child.pid}/MainThread"
        return read_progress(word, task[0], self._shop.batch_size, worker)

    @property
    def _has_begun(self) -> bool:
        return self._shop.board.begun_by(self.number) > self.done

    @property
    def begun(self) -> Task | None:
        """The task that it has begun and not given back."""
        return self.held[0] if self.held and self._has_begun else None

    def be_ready(self) -> None:
        """It has passed its setup."""
        self.was_ready = True
        if self.state is State.STARTING:
            self.state = State.READY

    def be_ended(self) -> None:
        """It has said that it is through; all that is left to it is to exit."""
        self.state, self.leaving_since = State.ENDED, monotonic()

    def give(self, task: Task) -> None:
        """A chunk for it, that `write` sends."""
        self.held.append(task)
        self.taken += 1
        self._queue(frame(Kind.CHUNK, *dump_chunk(task[0])))

    def stop(self) -> None:
        """Let it end once it has run what it holds, and `write` has told it so."""
        if self.state in (State.STARTING, State.READY):
            self.state = State.ENDING
            self._queue(frame(Kind.STOP))

    def write(self) -> None:
        """Put into the pipe what it takes. A worker that reads no more is dead, which its sentinel tells."""
        with suppress(BlockingIOError, BrokenPipeError):
            while self._unsent:
                self._forget(os.writev(self.outbox, list(islice(self._unsent, _MOST_BUFFERS))))

    def _forget(self, written: int) -> None:
        while written:
            view = self._unsent[0]
            if written < len(view):
                self._unsent[0] = view[written:]
                return
            written -= len(view)
            self._unsent.popleft()

    def read(self) -> list[Message]:
        """The messages that have come."""
        messages: list[Message] = []
        with suppress(BlockingIOError):
            while data := os.read(self.inbox, _PIPE_BYTES):
                messages += self._unframer.feed(data)
                if len(data) < _PIPE_BYTES:
                    return messages
            self.leaving_since = self.leaving_since or monotonic()
        return messages

    def settle(self) -> Task:
        """The task whose result has come."""
        self.done += 1
        return self.held.popleft()

    def listen(self) -> bool:
        """Log some of what it printed; False once it has closed its output.

        Only some: it may print faster than that can be logged, and everything else would have to wait.
        """
        try:
            data = os.read(self.child.output, _OUTPUT_BYTES)
        except BlockingIOError:
            return True
        # A handler of the person's that fails loses lines, not the run.
        with suppress(Exception):
            self._log.feed(data)
        return bool(data)

    def bury(self) -> Exit:
        """Release everything of a worker that has ended, or will be killed for it; how it ended."""
        self.child.kill()
        ended = self.child.wait()
        for _ in range(_LAST_READS):  # what it has started may go on printing
            if not self.listen():
                break
        with suppress(Exception):  # as above
            self._log.close()
        self.child.close()
        os.close(self.inbox)
        os.close(self.outbox)
        return ended

    def _queue(self, buffers: list[Buffer]) -> None:
        self._unsent.extend(map(memoryview, buffers))


def _widen(pipe: int) -> None:
    with suppress(OSError, AttributeError):  # a limit of this user, or another system: it works with less
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
