"""One thread that starts the workers, gives them chunks, and replaces those that die.

    submit ─▶ Work ─▶ Hand ─ call ─▶ actor
    future ◀─ Work ◀─ Hand ◀ bytes ─ │
                       └─ board, attend ─┘

Ray fails the calls that wait for an actor when that dies, and says of none whether it had begun. So a worker has one
to answer, or two where it shares a board with the program: there stands whether the second may begin, which is not
before the answer to the first is here, and how many chunks have begun of a call that has several. Whatever happens,
wherever, comes to the thread as a function in one queue.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

import msgpack
import ray

from manyhands.chunks import Chunk, ChunkResult
from manyhands.errors import ExecutorBroken, ManyhandsError, WorkerLost
from manyhands.worker.compile import compile_plan
from manyhands.worker.pipeline import calls_code
from manyhands_ray.crew import Crew, Staffing
from manyhands_ray.farewell import Farewell
from manyhands_ray.hand import Hand, State
from manyhands_ray.line import Task
from manyhands_ray.outlook import Outlook
from manyhands_ray.parcels import Parcels
from manyhands_ray.pulse import Pulse
from manyhands_ray.refusals import death_of
from manyhands_ray.work import Work, no_workers
from manyhands_ray.workshop import Workshop

if TYPE_CHECKING:
    from manyhands.executor import Progress
    from manyhands.worker.context import WorkerContext

_EXIT_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.1


class Supervisor:
    """The workers of one run, and what they have to do.

    Args:
        context: the job.
        job: the same, as its `dumps` gave it.
        address: of the cluster, for messages.
        staffing: the workers.
    """

    def __init__(self, context: WorkerContext, job: bytes, address: str, staffing: Staffing) -> None:
        self._address, self._context = address, context
        self._max_inflight = staffing.max_inflight
        alone = calls_code(context, compile_plan(context.schema_model))
        self._parcels = Parcels(staffing.max_inflight, alone=alone)
        self._orders: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self._job: Any = ray.put(job)  # it is there for as long as somebody has this
        self._work = Work()
        shop = Workshop.make(self._job, context, staffing, self._orders.put)
        self._pulse = Pulse(staffing.needs, lambda room: self._orders.put(lambda: self._crew.resize(room)))
        heard: dict[str, Any] = {"on_ready": self._hand_out, "on_end": self._see_end}
        self._crew = Crew(shop, staffing, self._work, address, run_aside=self._pulse.run, **heard)
        self._farewell = Farewell(self._crew, self._work, hooked=context.hooked)
        self._outlook = Outlook(self._pulse, self._crew, staffing.needs)
        self._closing = threading.Lock()
        self.started: threading.Event = self._crew.started
        self.ended: threading.Event = threading.Event()
        self._thread = threading.Thread(target=self._run, name="manyhands-supervisor", daemon=True)

    # For other threads.

    def start(self) -> None:
        """Start the workers; `started` tells when the first is ready, or none will be."""
        self._thread.start()

    @property
    def error(self) -> ManyhandsError | None:
        """Why there are no workers any more, if that is so."""
        return self._crew.error if self.ended.is_set() and self._work.ending is None else None

    @property
    def slots(self) -> int:
        """Chunks worth having in flight: for each worker a call that it runs, and one to go on with."""
        workers = self._crew.wanted
        wanted = max(2 * workers * self._parcels.size(workers), 1)
        return wanted if self._max_inflight is None else min(wanted, self._max_inflight)

    def submit(self, chunk: Chunk) -> Future[ChunkResult]:
        """See `Executor.submit`."""
        future: Future[ChunkResult] = Future()
        with self._closing:
            if self.ended.is_set():
                future.set_running_or_notify_cancel()
                future.set_exception(no_workers(self._crew.error))
            else:
                self._orders.put(lambda: self._take((chunk, future)))
        return future

    def progress(self, future: Future[ChunkResult]) -> Progress | None:
        """See `Executor.progress`."""
        hand = self._work.place(future)
        try:
            return hand.progress(future) if hand is not None else None
        except ValueError:  # its board was just released
            return None

    def evict(self, future: Future[ChunkResult]) -> None:
        """Kill the worker of this chunk, if it has begun; else cancel its future."""
        if not future.cancel():
            self._orders.put(lambda: self._evict(future))

    def shutdown(self, *, cancel: bool) -> None:
        """End; `ended` tells when that is done.

        Args:
            cancel: as in `Executor.shutdown`.
        """
        self._orders.put(lambda: self._farewell.begin(cancel=cancel, aborted=self._context.cancelled.is_set()))

    def join(self) -> None:
        """Wait for the thread.

        Raises:
            TeardownError: a hook's teardown failed.
        """
        self._thread.join()
        if self._farewell.error is not None:
            raise self._farewell.error

    # For the supervisor's own thread.

    def _run(self) -> None:
        try:
            self._pulse.start()
            while not self._is_through:
                self._turn()
        except BaseException as error:  # noqa: BLE001  # nobody may wait for a supervisor that is gone
            self._crew.error = ExecutorBroken(f"the supervisor of the workers failed: {type(error).__name__}: {error}")
        finally:
            self._close()

    @property
    def _is_through(self) -> bool:
        return self._crew.is_gone and (self._work.ending is not None or self._crew.error is not None)

    def _turn(self) -> None:
        with suppress(Empty):
            self._orders.get(timeout=_LOOK_SECONDS)()
            self._obey()
        self._cut()
        self._share()
        if (why := self._outlook.check()) is not None:
            self._lose_cluster(why)
        self._crew.finish_off()
        self._farewell.press()

    def _obey(self) -> None:
        with suppress(Empty):
            while True:
                self._orders.get_nowait()()

    def _take(self, task: Task) -> None:
        self._parcels.see(task[0].kind)
        self._work.add(task)
        self._hand_out_all()

    def _hand_out_all(self) -> None:
        """Give out what waits, first to those who have nothing."""
        for hand in sorted(self._crew.hands, key=lambda hand: hand.state is not State.READY):
            self._hand_out(hand)

    def _hand_out(self, hand: Hand) -> None:
        """Give a worker what it can have."""
        while hand.has_room and (tasks := self._take_for(hand)):
            hand.give(tasks, self._crew.when_answered(hand, self._take_answer))

    def _take_for(self, hand: Hand) -> list[Task]:
        workers = len(self._crew.hands)
        size = self._parcels.size(workers) if hand.is_near else 1
        if hand.state is State.BUSY:
            return self._work.take_ahead(hand, size)
        share = -(-self._work.waiting // workers)
        return self._work.take(hand, min(size, share))

    def _cut(self) -> None:
        """Let no chunk wait for a slow one in the same call."""
        for hand in self._crew.hands:
            if others := hand.line.cut():
                self._work.put_back(*others)
                self._parcels.shrink()
                if hand.line.sole is not None and not self._work.begin(hand.line.sole):
                    self._kill(hand)  # who has cancelled it could not know that it runs

    def _share(self) -> None:
        """Take what a worker has not begun for one that has nothing."""
        if not any(hand.state is State.READY and hand.has_room for hand in self._crew.hands):
            return
        slow = (hand for hand in self._crew.hands if hand.line.is_slow)
        if not self._work.waiting:
            self._work.put_back(*next(filter(None, (hand.line.take_next() for hand in slow)), []))
        self._hand_out_all()

    def _take_answer(self, hand: Hand, answer: bytes) -> None:
        outcomes, seconds = msgpack.unpackb(answer), hand.line.seconds
        ran, left = hand.settle(len(outcomes))
        self._crew.succeed()
        self._work.put_back(*left, *hand.line.go_on(self._work.begin))
        self._hand_out(hand)
        if ran or left:
            self._parcels.learn(len(ran) + len(left), len(ran), seconds)
        for task, (failed, output, header, parts) in zip(ran, outcomes, strict=True):
            if task is not None:
                hand.log(output)
                self._work.settle(task, header, parts, failed=failed)

    def _evict(self, future: Future[ChunkResult]) -> None:
        hand = self._work.place(future)
        if hand is not None and hand.line.task is not None and hand.line.task[1] is future:
            self._kill(hand)

    def _kill(self, hand: Hand) -> None:
        """End it. Its answer may be under way all the same: then what waits would begin, and be blamed for the end."""
        hand.kill()
        self._work.put_back(*hand.line.take_next())

    def _see_end(self, hand: Hand, error: BaseException) -> None:
        """A call has failed: the worker is dead, or out of reach, which is the same."""
        if (why := self._outlook.check()) is not None:
            self._lose_cluster(why)
            return
        was_ending = hand.state is State.ENDING
        task, progress, begun = self._crew.dismiss(hand)
        if task is not None and begun:
            self._work.fail(task, WorkerLost(progress=progress, reason=death_of(error), worker=hand.name))
        elif task is not None:
            self._work.put_back(task)
        if was_ending:
            self._farewell.see_end(error)
        elif not hand.line.done and not (task and begun):
            self._crew.count_futile(hand, error)
        self._crew.hire_all()

    def _lose_cluster(self, why: str) -> None:
        lost = ExecutorBroken(f"the Ray cluster at {self._address} is lost: {why}")
        self._crew.error = self._crew.error or lost
        self._dismiss_all(self._crew.error)

    def _dismiss_all(self, error: ManyhandsError) -> None:
        for hand in [*self._crew.hands]:
            task, *_ = self._crew.dismiss(hand)
            if task is not None:
                self._work.fail(task, error)

    def _close(self) -> None:
        self._pulse.stop()
        self._dismiss_all(self._crew.error or ExecutorBroken("the workers were ended"))
        end = monotonic() + _EXIT_SECONDS
        while self._crew.finish_off() and monotonic() < end:
            sleep(_LOOK_SECONDS / 10)
        with self._closing:
            self.ended.set()
        self._obey()  # what was submitted meanwhile
        self.started.set()
        self._work.fail_waiting(self.error)
