"""Chunks and their futures: which wait, which are in the queue, and what becomes of those that a dead worker had.

    submit ─▶ waiting ─▶ ChunkDesk ═ shared memory ═▶ worker process
    future ◀─ settle  ◀─ ChunkDesk ◀═ shared memory ═     │
                            └─ which chunk it runs, and where it is there ─┘

As many are in the queue as keep all workers busy. A worker claims one when it has nothing else to do, so none waits
behind another that takes long. The rest wait here, where they can still be cancelled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock
from typing import Final, NamedTuple

from manyhands.chunks import Chunk, ChunkResult
from manyhands.errors import WorkerLost
from manyhands.executor import Progress
from manyhands.processes.messages import Message
from manyhands.worker.cell import read_progress
from manyhands.worker.pickles import load_failure
from manyhands.worker.transport import load_result
from manyhands_zoosync.chunkdesk import ChunkDesk
from manyhands_zoosync.chunkworker import ID_BYTES, Kind
from manyhands_zoosync.errors import PayloadTooLarge
from manyhands_zoosync.slots import IDS

_AHEAD_SECONDS: Final = 0.002
_MOST_AHEAD: Final = 16

Settled = Future[ChunkResult]


class Task(NamedTuple):
    """A chunk, and whoever waits for it."""

    chunk: Chunk
    future: Settled


class Dispatcher:
    """The chunks that the executor has.

    Args:
        desk: where they are put in.
        workers: how many there are.
        batch_size: `max_hook_chunk_size` of the job.
    """

    def __init__(self, desk: ChunkDesk, workers: int, batch_size: int | None) -> None:
        self._desk = desk
        self._workers = workers
        self._batch_size = batch_size
        self._waiting: deque[Task] = deque()
        self._given: dict[int, Task] = {}
        self._ids: dict[Settled, int] = {}
        self._next_id = 1
        self._giving = Lock()
        self._closed = False
        self._chunk_seconds: float | None = None

    def __len__(self) -> int:
        return len(self._waiting) + len(self._given)

    @property
    def slots(self) -> int:
        """For each worker the chunk that it runs, and those that it can run in two milliseconds, one at least."""
        seconds = self._chunk_seconds
        ahead = 1 if seconds is None else int(_AHEAD_SECONDS / max(seconds, 1e-6))
        return self._workers * (1 + min(max(ahead, 1), _MOST_AHEAD))

    # For whoever submits.

    def submit(self, chunk: Chunk) -> Settled:
        """Run it as soon as a worker is free."""
        future: Settled = Future()
        self._waiting.append(Task(chunk, future))
        self.hand_out()
        return future

    def hand_out(self) -> None:
        """Put into the queue what waits, as far as there is room."""
        refused: list[Task] = []
        with self._giving:
            while self._waiting and len(self._given) < self.slots and not self._closed:
                task = self._waiting.popleft()
                if task.future.cancelled():
                    continue
                if task.chunk.nbytes > self._desk.arena.size:
                    refused.append(task)
                elif not self._give(task):
                    self._waiting.appendleft(task)
                    break
        for chunk, future in refused:
            if future.set_running_or_notify_cancel():
                future.set_exception(_too_large(chunk, self._desk.arena.size))

    def _give(self, task: Task) -> bool:
        while self._next_id in self._given:
            self._next_id = (self._next_id + 1) % IDS
        tsk_id = self._next_id
        self._next_id = (self._next_id + 1) % IDS
        self._given[tsk_id], self._ids[task.future] = task, tsk_id
        is_given = self._desk.give(tsk_id, task.chunk)
        if not is_given:
            del self._given[tsk_id], self._ids[task.future]
        return is_given

    def progress(self, future: Settled, names: Callable[[int], str]) -> Progress | None:
        """Where a worker is in this chunk; None: none has begun it.

        Args:
            future: of the chunk.
            names: what a worker is called, by its number.
        """
        tsk_id = self._ids.get(future)
        task = None if tsk_id is None else self._given.get(tsk_id)
        if tsk_id is None or task is None:
            return None
        queue = self._desk.queue
        for worker in range(self._workers):
            if queue.at(worker) == tsk_id:
                found = read_progress(queue.progress(worker)[0], task.chunk, self._batch_size, names(worker))
                return found if queue.at(worker) == tsk_id else None
        return None

    # For the thread that looks after the workers.

    def id_of(self, future: Settled) -> int | None:
        """The `tsk_id` of a chunk that is in the queue, or that a worker has."""
        return self._ids.get(future)

    def take(self, message: Message) -> None:
        """A worker says what became of a chunk."""
        future = self._settle(int.from_bytes(message.header[:ID_BYTES], "little"))
        if future is None:
            return
        header = message.header[ID_BYTES:]
        if message.kind == Kind.FAILED:
            future.set_exception(load_failure(header))
            return
        try:
            result = load_result(header, message.parts)
        except Exception as error:  # noqa: BLE001  # an Enum, say, of a module that only the worker could import
            future.set_exception(error)
        else:
            self._learn(sum(result.stages.values()))
            future.set_result(result)

    def lose(self, tsk_id: int, word: int, name: str, lost: Callable[[Progress | None], WorkerLost]) -> None:
        """A worker has died of a chunk, unless its result had come.

        Args:
            tsk_id: of the chunk.
            word: what the worker said of its progress.
            name: what the worker is called.
            lost: makes the exception.
        """
        task = self._given.get(tsk_id)
        future = self._settle(tsk_id)
        if task is not None and future is not None:
            future.set_exception(lost(read_progress(word, task.chunk, self._batch_size, name)))

    def is_open(self, tsk_id: int) -> bool:
        """No result of this chunk has come."""
        return tsk_id in self._given

    def fail_all(self, error: Exception | None) -> None:
        """Nobody will run what there is, nor what comes. May be called again.

        Args:
            error: what the futures fail with; None: they are cancelled.
        """
        with self._giving:
            self._closed = True
            futures = [task.future for task in (*self._given.values(), *self._waiting)]
            self._given.clear()
            self._ids.clear()
            self._waiting.clear()
        for future in futures:
            if error is None:
                future.cancel()
            elif future.set_running_or_notify_cancel():
                future.set_exception(error)

    def _settle(self, tsk_id: int) -> Settled | None:
        """The future of a chunk that is done, from here on not to be cancelled; None: nobody wants it any more."""
        self._desk.take_back([tsk_id])
        task = self._given.pop(tsk_id, None)
        if task is None:
            return None
        del self._ids[task.future]
        return task.future if task.future.set_running_or_notify_cancel() else None

    def _learn(self, took: float) -> None:
        """How long chunks take: a mean in which the last one counts a quarter."""
        before = self._chunk_seconds
        self._chunk_seconds = took if before is None else 0.75 * before + 0.25 * took


def _too_large(chunk: Chunk, most: int) -> PayloadTooLarge:
    where = f"the {chunk.size} records from position {chunk.start + chunk.lo} have"
    return PayloadTooLarge(
        f"{where} {chunk.nbytes} bytes, all chunks under way together may have {most}: set a smaller chunksize"
    )
