"""The thread that looks after the workers of the executor: it takes their results, and replaces those that die."""

from __future__ import annotations

import logging
import selectors
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from manyhands.errors import ExecutorBroken, ManyhandsError, TeardownError, WorkerInitError, WorkerLost
from manyhands.executor import Progress
from manyhands.processes.launch import Child, Exit, StartMethod
from manyhands.worker.pickles import load_failure
from manyhands_zoosync.basestaff import BaseStaff
from manyhands_zoosync.chunkdesk import ChunkDesk
from manyhands_zoosync.chunkworker import MAIN, Kind
from manyhands_zoosync.dispatcher import Dispatcher, Settled
from manyhands_zoosync.segment import Segment
from manyhands_zoosync.slots import SLOT
from manyhands_zoosync.taskqueue import Signal

if TYPE_CHECKING:
    from manyhands.processes.messages import Message

_log: Final = logging.getLogger("manyhands")

_FUTILE_LIVES: Final = 3
"""So many workers in a row that died before they did anything, and no more are started."""

_EXIT_SECONDS: Final = 0.5
_BUSY_GRACE_SECONDS: Final = 0.1
_END_GRACE_SECONDS: Final = 0.5
_SETUP_GRACE_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.02


class State(Enum):
    """What a worker is up to: `ENDING` once it was told to stop, `ENDED` once it says that it did."""

    STARTING = auto()
    READY = auto()
    ENDING = auto()
    ENDED = auto()


@dataclass(slots=True)
class Life:
    """What is known of a worker.

    Attributes:
        child: its process.
        state: what it is up to.
        was_ready: it has passed its setup.
        done: how many chunks it has handed in.
        ended_since: when it said that it was through; None: it did not.
        fault: why it is killed, if that is not for a chunk.
    """

    child: Child
    state: State = State.STARTING
    was_ready: bool = False
    done: int = 0
    ended_since: float | None = None
    fault: str | None = None


class ChunkStaff(BaseStaff):
    """The workers of a pipe.

    Args:
        desk: where they work.
        dispatcher: the chunks.
        job: what they are told first; belongs to the staff once it has started.
        workers: how many.
        start_method: how they start.
        hooked: the job has hooks, whose teardown may be missed.

    Raises:
        OptionsError: this system cannot start them so.
        OSError: there are no descriptors for it.
    """

    _desk: ChunkDesk

    def __init__(
        self,
        desk: ChunkDesk,
        dispatcher: Dispatcher,
        job: Segment,
        workers: int,
        start_method: StartMethod,
        *,
        hooked: bool,
    ) -> None:
        super().__init__(desk, MAIN, job.descriptor, start_method, "manyhands-supervisor")
        self._told_first = job
        self._dispatcher = dispatcher
        self._workers = workers
        self._hooked = hooked
        self._lives: dict[int, Life] = {}
        self._orders: deque[Callable[[], None]] = deque()
        self._futile = 0
        self._ending = False
        self._cancelled = False
        self._told = Signal.NONE
        self._told_at = inf
        self._closing = threading.Lock()
        self._closed = False
        self._start_error: ManyhandsError | None = None
        self._teardown_error: TeardownError | None = None
        self.started: threading.Event = threading.Event()
        self.ended: threading.Event = threading.Event()

    # For other threads.

    @property
    def error(self) -> ManyhandsError | None:
        """Why there are no workers any more, if that is so."""
        return self._start_error if self.ended.is_set() and not self._cancelled else None

    def evict(self, future: Settled) -> None:
        """Kill the worker that runs this chunk, if one does."""
        self._order(lambda: self._evict(future))

    def finish(self, *, cancel: bool) -> None:
        """Let the workers end when everything is done, or at once; returns before they have."""
        with self._closing:
            if cancel and not self._closed:
                self._desk.tell(Signal.ABORT)
        self._order(lambda: self._finish(cancel=cancel))

    def close(self) -> None:
        """Release everything, the memory too, once it has ended. Idempotent.

        Raises:
            TeardownError: the teardown of a hook failed in a worker.
        """
        self._thread.join()
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._release()
        self._desk.close()
        self._told_first.close()
        if self._teardown_error is not None and not self._cancelled:
            raise self._teardown_error

    def name_of(self, worker: int) -> str:
        """What a worker is called in results."""
        life = self._lives.get(worker)
        return f"{life.child.pid}/MainThread" if life is not None else ""

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.append(order)
        with self._closing:
            if not self._closed:
                self._desk.ring_coordinator()

    # For its own thread.

    def _look_after(self) -> None:
        self._selector.register(self._desk.bell, selectors.EVENT_READ, self._desk.hear_bell)
        for worker in range(self._workers):
            self._take_on(worker)
        while self._lives:
            self._turn()

    def _turn(self) -> None:
        while self._orders:
            self._orders.popleft()()
        found = self._desk.collect(then_sleep=True)
        self._hear_all()
        if self._ending:
            self._press()
        self._see_out()
        for key, _ in self._selector.select(0.0 if found or self._orders else self._patience()):
            key.data()

    def _patience(self) -> float | None:
        """Seconds to sleep."""
        has_leaving = any(life.ended_since is not None for life in self._lives.values())
        return _LOOK_SECONDS if self._ending or has_leaving else None

    def _hear_all(self) -> None:
        """Take what workers have said."""
        messages = self._desk.messages()
        for worker, message in messages:
            self._hear(self._lives[worker], message)
        if messages:
            self._dispatcher.hand_out()

    def _hear(self, life: Life, message: Message) -> None:
        if message.kind in (Kind.RESULT, Kind.FAILED):
            life.done += 1
            self._dispatcher.take(message)
        elif message.kind == Kind.READY:
            life.was_ready = True
            if life.state is State.STARTING:
                life.state = State.READY
            self.started.set()
        else:
            if message.header:
                self._take_error(life, load_failure(message.header))
            life.state, life.ended_since = State.ENDED, monotonic()

    def _take_error(self, life: Life, error: ManyhandsError) -> None:
        """A worker says why it could not start, or that a teardown failed."""
        if life.state is State.STARTING:
            self._give_up(error)
        elif isinstance(error, TeardownError):
            self._teardown_error = self._teardown_error or error

    def _take_on(self, worker: int) -> None:
        """Start a worker; a failure is remembered, nobody takes the place."""
        try:
            self._lives[worker] = Life(self._hire(worker))
        except OSError as error:
            self._give_up(WorkerInitError(f"a worker process cannot be started: {error}"))

    def _see_end(self, worker: int) -> None:
        """A worker has ended: what it had goes to others, except for what it died of."""
        life, ended = self._lives[worker], self._dismiss(worker)
        slot, has_begun, word = self._desk.bury(worker)
        self._hear_all()  # results may have come before
        name = self.name_of(worker)
        del self._lives[worker]
        if slot:
            tsk_id, *_ = SLOT.unpack(slot)
            if has_begun:
                self._dispatcher.lose(tsk_id, word, name, lambda progress: _lost(life, ended, progress))
            elif self._dispatcher.is_open(tsk_id):
                self._desk.give_again(slot)
            self._dispatcher.hand_out()
        self._replace(worker, life, ended, had_begun=has_begun)

    def _replace(self, worker: int, life: Life, ended: Exit, *, had_begun: bool) -> None:
        # It held nothing when it was told to stop: all that it can have missed is a teardown.
        if life.state is State.ENDING and life.was_ready and self._hooked:
            cause = WorkerLost(ended.code, ended.signal).cause
            self._teardown_error = self._teardown_error or TeardownError(f"a worker died in its teardown ({cause})")
        if life.done:
            self._futile = 0
        elif life.state in (State.STARTING, State.READY) and not had_begun:
            self._count_futile(life, ended)
        is_wanted = not self._cancelled and (not self._ending or len(self._dispatcher) > 0)
        was_refused = life.state is State.ENDED and not life.was_ready
        if is_wanted and not was_refused and self._futile < _FUTILE_LIVES:
            self._take_on(worker)

    def _count_futile(self, life: Life, ended: Exit) -> None:
        self._futile += 1
        if self._futile < _FUTILE_LIVES:
            return
        cause = WorkerLost(ended.code, ended.signal).cause
        when = "while they have nothing to do" if life.was_ready else "before they are ready"
        hint = "see the hooks' setup, and what the modules of the job do when they are imported"
        self._give_up(WorkerInitError(f"worker processes die {when} ({cause}); {hint}"))

    def _give_up(self, error: ManyhandsError) -> None:
        self._start_error = self._start_error or error
        if self._hands:
            _log.warning("there will be fewer workers: %s", error)

    def _see_out(self) -> None:
        """End workers that are through and do not end by themselves."""
        for life in self._lives.values():
            if life.ended_since is not None and monotonic() - life.ended_since > _EXIT_SECONDS:
                _log.warning("worker %d has left a thread behind that does not end; it is killed", life.child.pid)
                life.child.kill()
                life.ended_since = None

    def _evict(self, future: Settled) -> None:
        """While the lock is held, no worker begins or ends a chunk: exactly that one is killed."""
        tsk_id = self._dispatcher.id_of(future)
        if tsk_id is None:
            return
        queue = self._desk.queue
        with queue.guard:
            for worker, life in self._lives.items():
                if queue.at(worker) == tsk_id:
                    life.child.kill()

    def _finish(self, *, cancel: bool) -> None:
        self._ending = True
        self._cancelled = self._cancelled or cancel

    def _press(self) -> None:
        """Let the workers end once there is nothing more to do; on an aborted run, kill who cannot finish."""
        if self._cancelled:
            self._tell(Signal.ABORT)
        elif not self._dispatcher:
            self._tell(Signal.TERMINATE)
        since = monotonic() - self._told_at
        for worker, life in self._lives.items():
            if since > self._grace(worker, life):
                if not self._cancelled and life.fault is None:
                    life.fault = "its setup did not end"
                    _log.warning("worker %d was still in its setup when all was done; it is killed", life.child.pid)
                life.child.kill()

    def _tell(self, signal: Signal) -> None:
        if signal > self._told:
            self._told, self._told_at = signal, monotonic()
            self._desk.tell(signal)
        for life in self._lives.values():
            if life.state in (State.STARTING, State.READY):
                life.state = State.ENDING

    def _grace(self, worker: int, life: Life) -> float:
        """Seconds that it may take to end once it was told."""
        if self._cancelled:
            return _BUSY_GRACE_SECONDS if self._desk.queue.at(worker) is not None else _END_GRACE_SECONDS
        # One whose setup does not come back must not hold up a run that is through.
        return inf if life.was_ready else _SETUP_GRACE_SECONDS

    def _fail(self, error: BaseException) -> None:
        reason = f"the supervisor of the workers failed: {type(error).__name__}: {error}"
        self._start_error = ExecutorBroken(reason)

    def _close(self) -> None:
        try:
            super()._close()
        finally:
            self.ended.set()
            self.started.set()
            self.fail_rest()

    def fail_rest(self) -> None:
        """What nobody will run: cancelled, or failed if there should have been workers."""
        error = self.error
        self._dispatcher.fail_all(None if error is None else ExecutorBroken(f"there are no workers any more: {error}"))


def _lost(life: Life, ended: Exit, progress: Progress | None) -> WorkerLost:
    return WorkerLost(ended.code, ended.signal, progress, life.fault, str(life.child.pid))
