"""What runs in a worker process."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import msgpack

from manyhands.errors import TeardownError
from manyhands.processes.messages import Message, Unframer, frame, write_all
from manyhands.worker import pickles
from manyhands.worker.cell import ProgressCell
from manyhands.worker.context import WorkerContext
from manyhands.worker.failures import as_init_error
from manyhands.worker.pipeline import process_chunk_on_worker
from manyhands.worker.transport import dump_result, load_chunk
from manyhands.worker.tuning import tune_process
from manyhands_multiprocessing.board import Board

if TYPE_CHECKING:
    from manyhands.processes.messages import Buffer

_READ_BYTES: Final = 512 * 1024

MAIN: Final = f"{__name__}:main"


class Kind(IntEnum):
    """What a message says."""

    JOB = 1
    CHUNK = 2
    STOP = 3
    READY = 4
    RESULT = 5
    FAILED = 6
    ENDED = 7


def main(descriptors: Sequence[int]) -> None:
    """Work until the supervisor says stop, or is gone.

    Args:
        descriptors: a pipe to read from, a pipe to write to, and the board.
    """
    inbox, outbox, shared = descriptors
    messages = _received(inbox)
    job = next(messages, None)
    if job is not None:
        _Worker(job, outbox, shared).work(messages)


def _received(descriptor: int) -> Iterator[Message]:
    """The messages until the pipe is closed."""
    unframer = Unframer()
    waiting: deque[Message] = deque()
    while True:
        while waiting:
            yield waiting.popleft()
        data = os.read(descriptor, _READ_BYTES)
        if not data:
            return
        waiting.extend(unframer.feed(data))
        del data  # who waits for the next message keeps nothing of the last


class _Worker:
    def __init__(self, job: Message, outbox: int, shared: int) -> None:
        self._outbox = outbox
        self._number, count, sys.argv[:] = msgpack.unpackb(job.header, unicode_errors="surrogateescape")
        self._board = Board(shared, count)
        self._job = job.parts[0]
        self._begun = 0
        self._pid = os.getpid()

    def work(self, messages: Iterator[Message]) -> None:
        try:
            context = self._set_up()
        except Exception as error:  # noqa: BLE001  # whatever the job's code raises keeps this worker from starting
            self._send(Kind.ENDED, pickles.dump_failure(as_init_error(error)))
            return
        self._send(Kind.READY)
        for message in messages:
            if message.kind == Kind.STOP:
                break
            self._run(message, context)
            del message
        self._end(context)

    def _set_up(self) -> WorkerContext:
        context = WorkerContext.loads(self._job)
        self._job = b""
        context.cell = ProgressCell(self._board.progress_of(self._number))
        context.cancelled = self._board  # type: ignore[assignment]  # all that is asked of it is is_set()
        context.setup()
        tune_process()
        return context

    def _run(self, message: Message, context: WorkerContext) -> None:
        chunk = load_chunk(message.header, message.parts[0])
        self._begun += 1
        self._board.begin(self._number, self._begun)
        try:
            result = process_chunk_on_worker(chunk, context)
            header, parts = dump_result(result, chunk, context)
        except Exception as error:  # noqa: BLE001  # the driver decides what a failed chunk means
            self._send(Kind.FAILED, pickles.dump_failure(error))
        else:
            self._send(Kind.RESULT, header, *parts)

    def _end(self, context: WorkerContext) -> None:
        try:
            context.teardown()
        except TeardownError as error:
            self._send(Kind.ENDED, pickles.dump_failure(error))
        else:
            self._send(Kind.ENDED)

    def _send(self, kind: Kind, header: Buffer = b"", first: Buffer = b"", second: Buffer = b"") -> None:
        if os.getpid() != self._pid:
            sys.stderr.write("a process that a hook has forked came back from the hook; it is ended\n")
            sys.stderr.flush()
            os._exit(1)
        write_all(self._outbox, frame(kind, header, first, second))
