"""Threads of this process that run chunks: what executors that work with threads have in common.

A thread cannot be killed. One whose chunk is given up is abandoned: it begins no further record, its result is
thrown away, and another thread takes its place.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Final

from manyhands.chunks import Chunk, ChunkResult
from manyhands.errors import ExecutorBroken, RunAborted, TeardownError, WorkerInitError
from manyhands.executor import Progress
from manyhands.worker.cell import ProgressCell, read_progress
from manyhands.worker.plan import RecordsCancelled

if TYPE_CHECKING:
    from manyhands.worker.context import WorkerContext

GRACE_SECONDS: Final = 0.5
"""So long a run that is aborted waits for the record that a thread is at."""

LOOK_SECONDS: Final = 0.05
"""So often whoever waits for the `setup` of hooks looks whether the run was aborted."""

_NUDGE_SECONDS: Final = 0.02
_STUCK: Final = 4
_LEAST_STUCK: Final = 16
_REMEDY: Final = (
    "are stuck in code that does not come back, and no thread can be killed; where records may hang use multiprocessing"
)

_log: Final = logging.getLogger("manyhands.crew")

Task = tuple[Chunk, Future[ChunkResult]]


@dataclass(eq=False)
class Member:
    """One thread.

    Attributes:
        context: the job, for this thread alone.
        words: what its progress cell writes into.
        task: what it runs.
        ready: its setup is done.
        abandoned: it takes no further chunk.
        fenced: nobody wants the result of its chunk.
    """

    context: WorkerContext
    thread: threading.Thread = field(init=False)
    words: list[int] = field(default_factory=lambda: [0])
    task: Task | None = None
    ready: bool = False
    abandoned: bool = False
    fenced: bool = False

    @property
    def busy(self) -> bool:
        """It runs code of the person's that may take any time."""
        return self.task is not None or not self.ready


class Crew:
    """Daemon threads over one queue. `start`, `submit`, `evict` and `close` are called by one thread, the driver's.

    Args:
        enlist: makes the context of a thread; its `setup` and `teardown` are called in that thread.
        run: runs a chunk.
        name: of the threads.
        size: how many threads there may be. Jobs without code of the person's get one, where threads would only take
            the interpreter from one another: two of them took 1.2 times as long.
        first: how many start at once, the others when chunks wait.
    """

    def __init__(
        self,
        enlist: Callable[[], WorkerContext],
        run: Callable[[Chunk, WorkerContext], ChunkResult],
        *,
        name: str,
        size: int,
        first: int = 1,
    ) -> None:
        self._enlist_context = enlist
        self._run = run
        self._name = name
        self.size: int = size
        self._most_stuck = max(_STUCK * size, _LEAST_STUCK)
        self._first = first
        self._numbers = iter(range(1 << 62))
        self._changed = threading.Condition()
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._members: set[Member] = set()  # that take chunks, or are about to
        self._running: dict[Future[ChunkResult], Member] = {}
        self._abandoned: set[Member] = set()  # that have not ended
        self._evicted: list[Future[ChunkResult]] = []
        self._open = 0
        self._refusals: list[BaseException] = []
        self._started = False
        self._failures: list[BaseException] = []
        self._closed = False

    def start(self) -> None:
        """Start the threads; return when one is set up.

        Raises:
            WorkerInitError: none of them could be.
            RunAborted: the run was aborted first.
        """
        try:
            for _ in range(self._first):
                self._enlist()
            self._await_one()
        except BaseException:
            with suppress(TeardownError):  # why it could not start is what the person must hear of
                self.close(cancel=True)
            raise

    def _await_one(self) -> None:
        with self._changed:
            while self._members and not any(member.ready for member in self._members):
                if any(member.context.stopped for member in self._members):
                    raise RunAborted("the run was aborted")
                self._changed.wait(LOOK_SECONDS)
            if not self._members:
                raise self._refusals[0]
            self._started = True
            for error in self._refusals:
                _log_refusal(error)
            worker = next(member.context.worker for member in self._members if member.ready)
        if not worker.calls_code and _one_at_a_time():
            self.size = 1

    def submit(self, chunk: Chunk) -> Future[ChunkResult]:
        """Queue a chunk."""
        future: Future[ChunkResult] = Future()
        with self._changed:
            self._open += 1
            grow = len(self._members) < min(self._open, self.size)
        if grow and not self._closed:
            self._enlist()
        self._tasks.put((chunk, future))
        self._refuse_if_deserted()
        return future

    @property
    def evicted(self) -> int:
        """Futures that were given up and will not be done before `close`."""
        return len(self._evicted)

    @property
    def stuck(self) -> int:
        """Abandoned threads that have not ended."""
        return len(self._abandoned)

    def progress(self, future: Future[ChunkResult]) -> Progress | None:
        """Where the thread is that runs this chunk."""
        member = self._running.get(future)
        task = member.task if member is not None else None
        if member is None or task is None or task[1] is not future:
            return None
        worker = f"{os.getpid()}/{member.thread.name}"
        return read_progress(member.words[0], task[0], member.context.max_hook_chunk_size, worker)

    def evict(self, future: Future[ChunkResult]) -> None:
        """Abandon the thread that runs this chunk and start another. The future is done at the earliest by `close`.

        Raises:
            ExecutorBroken: so many abandoned threads have not ended that there may be no more.
        """
        with self._changed:
            member = self._running.pop(future, None)
            if member is None:  # it has just ended
                return
            self._evicted.append(future)
            member.fenced = True
            self._abandon(member)
        member.context.abandon()
        if self.stuck > self._most_stuck:
            self._refusals.insert(0, ExecutorBroken(f"{self.stuck} threads {_REMEDY}"))
            raise self._refusals[0]
        self._enlist()

    def close(self, *, cancel: bool) -> None:
        """End all threads.

        Args:
            cancel: chunks that have not begun are cancelled; threads whose record does not end soon are abandoned.
                Those whose setup does not end soon always are: they have done nothing that could be incomplete.

        Raises:
            TeardownError: the first teardown that failed.
        """
        self._closed = True
        if cancel:
            for task in self._drain():
                task[1].cancel()
        for _ in range(len(self._members)):
            self._tasks.put(None)
        if cancel:
            self._hurry()
        self._leave_unready()
        self._join()
        for future in self._evicted:
            future.set_exception(RecordsCancelled())
        self._evicted.clear()
        if self._failures:
            raise self._failures[0]

    def _enlist(self) -> None:
        member = Member(self._enlist_context())
        member.context.cell = ProgressCell(member.words)
        name = f"{self._name}-{next(self._numbers)}"
        inherited = copy_context()
        member.thread = threading.Thread(target=inherited.run, args=(self._work, member), name=name, daemon=True)
        with self._changed:
            self._members.add(member)
        try:
            member.thread.start()
        except RuntimeError as error:  # the system gives no more threads
            self._turn_away(member, error)

    def _work(self, member: Member) -> None:
        try:
            member.context.setup()
        except BaseException as error:  # noqa: BLE001  # raised by `start`, or logged
            self._turn_away(member, error)
            return
        with self._changed:
            member.ready = True
            self._changed.notify_all()
        while not member.abandoned and self._serve(member):
            pass
        self._retire(member)

    def _serve(self, member: Member) -> bool:
        """Run the next chunk; False when there will be none for this thread."""
        task = self._tasks.get()
        if task is None:
            return False
        chunk, future = task
        if not future.set_running_or_notify_cancel():  # only `close` cancels
            return True
        with self._changed:
            member.task = task
            self._running[future] = member
        try:
            result = self._run(chunk, member.context)
        except BaseException as error:  # noqa: BLE001  # whatever it is, the driver decides what it means
            self._leave(member, future)
            if not member.fenced:
                future.set_exception(error)
        else:
            self._leave(member, future)
            if not member.fenced:
                future.set_result(result)
        return not member.abandoned

    def _leave(self, member: Member, future: Future[ChunkResult]) -> None:
        with self._changed:
            self._running.pop(future, None)
            self._open -= 1
            member.task = None
            self._changed.notify_all()

    def _retire(self, member: Member) -> None:
        error: BaseException | None = None
        try:
            member.context.teardown()
        except Exception as caught:  # noqa: BLE001  # raised by `close`
            error = caught
        with self._changed:
            if error is not None:
                self._failures.append(error)
            self._dismiss(member)

    def _turn_away(self, member: Member, error: BaseException) -> None:
        refusal = error if isinstance(error, WorkerInitError) else WorkerInitError(f"a thread could not start: {error}")
        with self._changed:
            self.size -= 1  # not to try the same again at every chunk
            self._refusals.append(refusal)
            self._dismiss(member)
            if self._started:
                _log_refusal(refusal)
        self._refuse_if_deserted()

    def _dismiss(self, member: Member) -> None:
        self._members.discard(member)
        self._abandoned.discard(member)
        self._changed.notify_all()

    def _refuse_if_deserted(self) -> None:
        """Without a thread no chunk may wait: nobody would ever take it."""
        with self._changed:
            if self._members:
                return
        for _, future in self._drain():
            if future.set_running_or_notify_cancel():
                future.set_exception(ExecutorBroken(f"no thread is left: {self._refusals[0]}"))

    def _drain(self) -> Iterator[Task]:
        with suppress(Empty):
            while True:
                task = self._tasks.get_nowait()
                if task is not None:
                    yield task

    def _abandon(self, member: Member) -> None:
        member.abandoned = True
        self._members.discard(member)
        self._abandoned.add(member)

    def _hurry(self) -> None:
        """Interrupt the threads; abandon those whose record does not end."""
        with self._changed:
            # Without an abort, chunks that have begun may just as well be finished.
            self._changed.wait_for(lambda: all(m.context.stopped or not m.busy for m in self._members), GRACE_SECONDS)
        end = monotonic() + GRACE_SECONDS
        while (busy := self._busy()) and monotonic() < end:
            for member in busy:
                member.context.abandon()
            with self._changed:
                self._changed.wait(_NUDGE_SECONDS)
        with self._changed:
            for member in [member for member in self._members if member.busy]:
                self._abandon(member)

    def _leave_unready(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: all(member.ready for member in self._members), GRACE_SECONDS)
            for member in [member for member in self._members if not member.ready]:
                self._abandon(member)

    def _busy(self) -> list[Member]:
        with self._changed:
            return [member for member in self._members if member.busy]

    def _join(self) -> None:
        """Wait for all that work properly, and a little for those that were abandoned."""
        with self._changed:
            mine, lost = list(self._members), list(self._abandoned)
        for member in mine:
            member.thread.join()
        end = monotonic() + GRACE_SECONDS
        for member in lost:
            member.thread.join(max(end - monotonic(), 0.0))
            if member.thread.is_alive():
                _log.warning("%s is still busy with code that cannot be stopped and is left behind", member.thread.name)


def _log_refusal(error: BaseException) -> None:
    _log.warning("a thread could not start, the others go on: %s", error)


def _one_at_a_time() -> bool:
    """Only one thread computes at a time: Python has a global interpreter lock."""
    enabled: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    return enabled()
