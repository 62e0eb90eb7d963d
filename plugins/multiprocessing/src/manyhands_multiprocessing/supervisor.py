"""One thread that starts the workers, gives them chunks, takes their results, and replaces those that die.

    submit ─▶ waiting ─▶ Hand ═ pipe ═▶ worker process
    future ◀─ result  ◀─ Hand ◀═ pipe ═     │
                          └─ sentinel, output, board ─┘

It owns the workers: nobody else touches them, and on Linux the kernel kills a worker when the thread that started it
ends. Each has a pipe of its own, so it is known exactly which chunks it holds, and which of them it has begun.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from manyhands.chunks import Chunk, ChunkResult
from manyhands.errors import ExecutorBroken, WorkerLost
from manyhands.executor import Progress
from manyhands.processes.launch import make_launcher
from manyhands.worker.pickles import load_failure
from manyhands.worker.transport import load_result
from manyhands_multiprocessing.board import Board
from manyhands_multiprocessing.crew import Crew
from manyhands_multiprocessing.hand import Hand, State, Task, Workshop
from manyhands_multiprocessing.worker import Kind

if TYPE_CHECKING:
    from manyhands.processes.launch import StartMethod
    from manyhands.processes.messages import Message
    from manyhands.worker.context import WorkerContext

_log: Final = logging.getLogger("manyhands")

_AHEAD_SECONDS: Final = 0.002
_LONG_SECONDS: Final = 0.1
_MOST_AHEAD: Final = 16
_DEATHS_BEFORE_BEGIN: Final = 2
_BUSY_GRACE_SECONDS: Final = 0.1
_END_GRACE_SECONDS: Final = 0.5
_SETUP_GRACE_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Staffing:
    """What the person wants of the workers.

    Attributes:
        workers: how many.
        start_method: how they start.
        max_chunks: after so many chunks a worker is replaced; None: never.
    """

    workers: int
    start_method: StartMethod
    max_chunks: int | None = None


class Supervisor:
    """The workers of one run, and what they have to do.

    Args:
        context: the job.
        staffing: the workers.

    Raises:
        UnpicklableError: something of the job cannot travel.
        OSError: there is no memory, or there are no descriptors, for it.
    """

    def __init__(self, context: WorkerContext, staffing: Staffing) -> None:
        job, workers = context.dumps(), staffing.workers
        self._launcher = make_launcher(staffing.start_method)
        with ExitStack() as opened:
            self._board = Board.create(workers)
            opened.callback(self._board.close)
            self._selector = selectors.DefaultSelector()
            opened.callback(self._selector.close)
            self._bell, self._rope = os.pipe()
            opened.pop_all()
        self._max_chunks = staffing.max_chunks
        self._replayable = context.replayable
        batch_size, hooked = context.max_hook_chunk_size, bool(context.pre_hooks or context.post_hooks)
        shop = Workshop(self._launcher, self._board, workers, job, batch_size, hooked)
        self._crew = Crew(self._selector, shop, self._read, self._see_end)
        self._workers = workers
        self._places: dict[Future[ChunkResult], Hand] = {}
        self._waiting: deque[Task] = deque()
        self._orders: deque[Callable[[], None]] = deque()
        self._unreceived: Counter[Future[ChunkResult]] = Counter()
        self._hungry = False
        self._has_starting = False
        self._chunk_seconds: float | None = None
        self._ending = False
        self._idle_since: float | None = None
        self._cancelled = False
        self._closing = threading.Lock()
        self._closed = False
        self.started: threading.Event = threading.Event()
        self.ended: threading.Event = threading.Event()
        self._thread = threading.Thread(target=self._run, name="manyhands-supervisor", daemon=True)

    # For other threads.

    def start(self) -> None:
        """Start the workers; `started` tells when the first is ready, or none will be.

        Raises:
            RuntimeError: this system has no thread for it; everything is released.
        """
        try:
            self._thread.start()
        except RuntimeError:
            self._selector.close()
            self._release()
            raise

    @property
    def error(self) -> Exception | None:
        """Why there are no workers any more, if that is so."""
        return self._crew.start_error if self.ended.is_set() and not self._cancelled else None

    def submit(self, chunk: Chunk) -> Future[ChunkResult]:
        """Run a chunk as soon as a worker is free."""
        future: Future[ChunkResult] = Future()
        self._waiting.append((chunk, future))
        if self._hungry:
            self._hungry = False
            self._ring()
        if self.ended.is_set():
            self._fail_waiting()
        return future

    @property
    def ahead(self) -> int:
        """How many chunks a worker should hold beside the one that it runs.

        As many as it runs in two milliseconds, so that it need not wait for us. 0 where chunks are long or nothing
        is known: they would wait for this worker while another has nothing to do.
        """
        seconds = self._chunk_seconds
        if seconds is None or seconds > _LONG_SECONDS:
            return 0
        return min(max(int(_AHEAD_SECONDS / max(seconds, 1e-6)), 1), _MOST_AHEAD)

    def progress(self, future: Future[ChunkResult]) -> Progress | None:
        """Where a worker is in this chunk; None if it has not begun it."""
        hand = self._places.get(future)
        with suppress(IndexError):  # its result has come in between
            if hand is not None and hand.held[0][1] is future:
                return hand.progress()
        return None

    def evict(self, future: Future[ChunkResult]) -> None:
        """Kill the worker that runs this chunk, if one does."""
        self._order(lambda: self._evict(future))

    def shutdown(self, *, cancel: bool) -> None:
        """Let the workers end when everything is done, or at once."""
        with self._closing:
            if cancel and not self._closed:
                self._board.cancel()
        self._order(lambda: self._end(cancel=cancel))

    def close(self) -> None:
        """Release everything, once it has ended. Idempotent.

        Raises:
            TeardownError: the teardown of a hook failed in a worker.
        """
        self._thread.join()
        with self._closing:
            if self._closed:
                return
            self._closed = True
        self._release()
        if self._crew.teardown_error is not None and not self._cancelled:
            raise self._crew.teardown_error

    def _release(self) -> None:
        self._board.close()
        for pipe in (self._bell, self._rope):
            os.close(pipe)

    def _order(self, order: Callable[[], None]) -> None:
        self._orders.append(order)
        with self._closing:
            if not self._closed:
                self._ring()

    def _ring(self) -> None:
        with suppress(BlockingIOError):  # it is ringing
            os.write(self._rope, b"!")

    # For the supervisor's own thread.

    def _run(self) -> None:
        # ^C and the like are for the program's other threads; workers inherit this until they have handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._open()
            while self._crew.hands:
                self._turn()
        except BaseException as error:  # nobody may wait for a supervisor that is gone
            reason = f"the supervisor of the workers failed: {type(error).__name__}: {error}"
            self._crew.start_error = ExecutorBroken(reason)
            raise
        finally:
            self._close()

    def _open(self) -> None:
        for pipe in (self._bell, self._rope):
            os.set_blocking(pipe, False)
        self._selector.register(self._bell, selectors.EVENT_READ, self._hear_bell)
        for number in range(self._workers):
            self._crew.hire(number)

    def _turn(self) -> None:
        while self._orders:
            self._orders.popleft()()
        self._has_starting = any(hand.state is State.STARTING for hand in self._crew.hands.values())
        self._hand_out()
        if self._ending:
            self._press()
        self._crew.see_out()
        for key, _ in self._selector.select(self._patience()):
            key.data()
        self._hungry = False

    def _patience(self) -> float | None:
        """Seconds to sleep."""
        if self._orders:
            return 0.0
        # Whoever submits rings the bell only when a worker is short of work: each time costs both of us a turn.
        few = (2 + self.ahead) // 2
        self._hungry = any(self._room(hand) > 0 and len(hand.held) <= few for hand in self._crew.hands.values())
        if self._waiting and self._hungry:  # it came before that was said
            return 0.0
        return _LOOK_SECONDS if self._ending or self._crew.has_leaving else None

    def _hear_bell(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._bell, 4096)

    def _room(self, hand: Hand) -> int:
        if hand.state is not State.READY or hand.evicted is not None:
            return 0
        ahead = 0 if self._has_starting else self.ahead  # one that starts will have nothing to do
        room = 1 + ahead - len(hand.held)
        return room if self._max_chunks is None else min(room, self._max_chunks - hand.taken)

    def _hand_out(self) -> None:
        """Give waiting chunks to the workers, first to those that hold least."""
        free = [(len(hand.held), hand.number) for hand in self._crew.hands.values() if self._room(hand) > 0]
        heapify(free)
        served: set[Hand] = set()
        while self._waiting and free:
            held, number = free[0]
            hand = self._crew.hands[number]
            task = self._waiting.popleft()
            self._places[task[1]] = hand
            hand.give(task)
            served.add(hand)
            heapreplace(free, (held + 1, number)) if self._room(hand) > 0 else heappop(free)
        for hand in served:
            self._crew.write(hand)

    def _read(self, hand: Hand) -> None:
        for message in hand.read():
            self._take(message, hand)
        if hand.leaving_since is not None:
            self._crew.stop_reading(hand)

    def _take(self, message: Message, hand: Hand) -> None:
        if message.kind == Kind.READY:
            hand.be_ready()
            self.started.set()
        elif message.kind == Kind.RESULT:
            self._take_result(message, self._settle(hand))
        elif message.kind == Kind.FAILED:
            self._settle(hand).set_exception(load_failure(message.header))
        elif message.header:
            self._crew.take_error(hand, load_failure(message.header))
        else:
            hand.be_ended()
        if self._max_chunks is not None and hand.taken >= self._max_chunks and not hand.held:
            self._stop(hand)

    def _take_result(self, message: Message, future: Future[ChunkResult]) -> None:
        try:
            result = load_result(message.header, message.parts)
        except Exception as error:  # noqa: BLE001  # an Enum, say, of a module that only the worker could import
            future.set_exception(error)
        else:
            self._learn(sum(result.stages.values()))
            future.set_result(result)

    def _settle(self, hand: Hand) -> Future[ChunkResult]:
        _, future = hand.settle()
        del self._places[future]
        self._unreceived.pop(future, None)
        # Whoever cancelled it wants no result; from here on nobody can.
        return future if future.set_running_or_notify_cancel() else Future()

    def _learn(self, took: float) -> None:
        """How long chunks take: a mean in which the last one counts a quarter."""
        before = self._chunk_seconds
        self._chunk_seconds = took if before is None else 0.75 * before + 0.25 * took

    def _evict(self, future: Future[ChunkResult]) -> None:
        hand = self._places.get(future)
        if hand is None:
            return
        self._read(hand)  # its result may have come
        if hand.held and hand.held[0][1] is future:
            hand.evicted = future
            hand.child.kill()

    def _see_end(self, hand: Hand) -> None:
        """A worker has ended: what it held goes to others, except for what it died of."""
        self._read(hand)  # results may have come before
        progress, is_to_blame = hand.progress(), self._is_to_blame(hand)
        ended = self._crew.dismiss(hand)
        if is_to_blame:
            lost = WorkerLost(ended.code, ended.signal, progress, hand.fault, str(hand.child.pid))
            self._settle(hand).set_exception(lost)
        for other in reversed(hand.held):
            del self._places[other[1]]
            self._waiting.appendleft(other)
        self._crew.replace(hand, ended, wanted=not self._cancelled and (not self._ending or bool(self._waiting)))

    def _is_to_blame(self, hand: Hand) -> bool:
        """Whether the first chunk that a dead worker held is what it died of."""
        if not hand.held:
            return False
        if hand.begun is None:
            return self._is_unreceivable(hand)
        if hand.evicted in (None, hand.held[0][1]):
            return True
        # We have killed it for the chunk before, which was just done. Nobody is to blame, but hooks may have seen it.
        progress = hand.progress()
        return not self._replayable and progress is not None and progress.stage != "unpack"

    def _is_unreceivable(self, hand: Hand) -> bool:
        """Whether two workers have died before they could begin the same chunk: it is too large for them, say."""
        future = hand.held[0][1]
        if not hand.was_ready or hand.evicted is not None:
            return False
        self._unreceived[future] += 1
        return self._unreceived[future] >= _DEATHS_BEFORE_BEGIN

    def _end(self, *, cancel: bool) -> None:
        self._ending = True
        self._cancelled = self._cancelled or cancel

    def _press(self) -> None:
        """Stop who has nothing more to do; on an aborted run, kill who is still at work, or cannot finish."""
        since = self._seconds_idle()
        for hand in self._crew.hands.values():
            if self._cancelled or not (self._waiting or hand.held):
                self._stop(hand)
            if since > self._grace(hand):
                if not self._cancelled and hand.fault is None:
                    hand.fault = "its setup did not end"
                    _log.warning("worker %d was still in its setup when all was done; it is killed", hand.child.pid)
                hand.child.kill()

    def _seconds_idle(self) -> float:
        """How long there has been nothing more to do; a worker that dies may leave something again."""
        has_work = self._waiting or any(hand.held for hand in self._crew.hands.values())
        if has_work and not self._cancelled:
            self._idle_since = None
            return 0.0
        self._idle_since = self._idle_since or monotonic()
        return monotonic() - self._idle_since

    def _grace(self, hand: Hand) -> float:
        """Seconds that it may take to end, from when there is nothing more to do."""
        if self._cancelled:
            return _BUSY_GRACE_SECONDS if hand.progress() else _END_GRACE_SECONDS
        # One whose setup does not come back must not hold up a run that is through.
        return inf if hand.was_ready or hand.held else _SETUP_GRACE_SECONDS

    def _stop(self, hand: Hand) -> None:
        hand.stop()
        self._crew.write(hand)

    def _close(self) -> None:
        try:
            for hand in list(self._crew.hands.values()):
                self._waiting.extend(hand.held)
                self._crew.dismiss(hand)
        finally:
            self._launcher.close()
            self._selector.close()
            self.ended.set()
            self.started.set()
            self._fail_waiting()

    def _fail_waiting(self) -> None:
        """What nobody will run: cancelled, or failed if there should have been workers."""
        with suppress(IndexError):
            while True:
                _, future = self._waiting.popleft()
                if self.error is None:
                    future.cancel()
                elif future.set_running_or_notify_cancel():
                    future.set_exception(ExecutorBroken(f"there are no workers any more: {self.error}"))
