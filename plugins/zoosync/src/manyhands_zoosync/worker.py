"""What runs in a worker process: claim a batch, run it, hand in the results, and sleep when there is nothing to do."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, NoReturn

from manyhands.errors import WorkerInitError
from manyhands.worker import pickles
from manyhands.worker.failures import words
from manyhands.worker.tuning import tune_process
from manyhands_zoosync import payload
from manyhands_zoosync.job import Job
from manyhands_zoosync.localqueue import LocalTaskQueue
from manyhands_zoosync.lock import open_lock
from manyhands_zoosync.payload import PLACE, Form
from manyhands_zoosync.results import Failure, Kind, dump_record, dump_results
from manyhands_zoosync.ring import RingWriter
from manyhands_zoosync.segment import Segment
from manyhands_zoosync.status import CELL_BYTES, StatusWriter, WorkerState
from manyhands_zoosync.taskqueue import Claimed, SharedTaskQueue, Signal

MAIN: Final = f"{__name__}:main"

NUMBER_BYTES: Final = 4
"""With its number its bell is rung for the first time, before it starts."""

_REPORT_SECONDS: Final = 0.01
"""Results and status are handed in so often, and at the end of a batch."""

_NAP_SECONDS: Final = 0.000_1
_LONGEST_NAP: Final = 0.002

_RUNNING: Final = WorkerState.RUNNING

Function = Callable[..., Any]


def main(descriptors: Sequence[int]) -> None:
    """Work until the supervisor says stop, or is gone.

    Args:
        descriptors: of the job, of the memory, of this worker's bell, and of the coordinator's.
    """
    described, shared, bell, rope = descriptors
    number = int.from_bytes(os.read(bell, NUMBER_BYTES), "little")
    job = Job.load(described)
    worker = _Worker(number, job, Segment(shared, job.layout.size), bell, rope)
    try:
        worker.work()
    finally:
        worker.close()


class _Worker:
    def __init__(self, number: int, job: Job, segment: Segment, bell: int, rope: int) -> None:
        self._number = number
        self._job = job
        self._segment = segment
        self._bell, self._rope = bell, rope
        layout = job.layout
        self._queue = SharedTaskQueue(segment, layout, open_lock(segment, layout.lock, job.lock, create=False))
        self._ring = RingWriter(segment, layout, number)
        self._status = StatusWriter(segment.view(layout.status(number), CELL_BYTES))
        self._running = self._queue.running(number)
        self._arena = segment.view(layout.arena, layout.arena_bytes)
        self._functions: dict[int, Function] = {}
        self._claimed = Claimed(0, b"")
        self._local = LocalTaskQueue(b"")
        self._done = 0  # tasks of the batch that are reported
        self._values: list[Any] = []
        self._failures: list[Failure] = []
        self._due = 0.0
        self._pid = os.getpid()
        os.register_at_fork(after_in_child=self._be_due)

    def work(self) -> None:
        try:
            self._set_up()
        except Exception as error:  # noqa: BLE001  # whatever the functions' code raises keeps this worker from starting
            self._say(dump_record(Kind.BROKEN, failures=pickles.dump_error(_as_init_error(error))[0]))
        else:
            self._say(dump_record(Kind.READY))
            while self._run_next():
                pass
        self._be(WorkerState.ENDED)

    def _set_up(self) -> None:
        self._job.surroundings.enter_process()
        self._job.surroundings.enter_thread()
        self._functions = {number: pickles.loads(data) for number, data in self._job.functions.items()}
        tune_process()

    def _run_next(self) -> bool:
        """Run a batch, after a sleep if there is none; whether there may be more."""
        claimed = self._claim()
        if claimed is None:
            time.sleep(_NAP_SECONDS)  # tasks often come one by one: not every one should have to wake somebody
            claimed = self._claim(then_sleep=True)
        if claimed is not None:
            if self._status.state != _RUNNING:
                self._due = 0.0
            self._run(claimed)
            return True
        if self._queue.signal:
            return False
        self._be(WorkerState.IDLE)
        return bool(os.read(self._bell, 4096))

    def _claim(self, *, then_sleep: bool = False) -> Claimed | None:
        queue = self._queue
        with queue.guard:
            self._ring.exchange()
            claimed = queue.claim(self._number, self._job.batch_size)
            if claimed is None and then_sleep and not queue.signal:
                queue.fall_asleep(self._number)
            is_waited_for = queue.wake_coordinator()
        if is_waited_for:
            self._ring_bell()
        return claimed

    def _run(self, claimed: Claimed) -> None:
        local = LocalTaskQueue(claimed.slots)
        self._claimed, self._local, self._done = claimed, local, 0
        values = self._values
        running, functions, clock, unpack = self._running, self._functions, time.monotonic, payload.unpack
        for number, (tsk_id, fn_id, form, size, data) in enumerate(local, 1):
            if clock() > self._due:
                self._report(tsk_id)
            running[0] = number
            try:
                if form:
                    values.append(self._call_with(functions[fn_id], form, data[:size]))
                else:
                    values.append(functions[fn_id](*unpack(data[:size])))
            except BaseException as error:  # noqa: BLE001  # SystemExit, too, is the outcome of one task
                self._failures.append((len(values), *pickles.dump_error(error)))
                values.append(None)
        running[0] = 0
        self._report_rest()

    def _call_with(self, function: Function, form: int, data: bytes) -> Any:
        """Call it with arguments that are not simply a list in the slot."""
        held: bytes | memoryview = data
        if form & Form.ARENA:
            start, size = PLACE.unpack(data)
            held = self._arena[start : start + size]
        arguments = payload.load(form, held)
        if form & Form.NAMED:
            return function(*arguments[0], **arguments[1])
        return function(*arguments)

    def _report(self, tsk_id: int) -> None:
        """Hand in what there is before a task begins, and say that this one does."""
        self._due = time.monotonic() + _REPORT_SECONDS
        self._report_rest()
        with self._queue.guard:
            self._ring.exchange()
            is_waited_for = self._queue.wake_coordinator()
        if is_waited_for:
            self._ring_bell()
        self._status.state, self._status.position = WorkerState.RUNNING, tsk_id
        self._status.publish()

    def _report_rest(self) -> None:
        """Write the results into the ring; they are published with the next claim."""
        values, failures, done = self._values, self._failures, self._done
        count = len(values)
        if not count:
            return
        if os.getpid() != self._pid:
            _end_fork()
        self._done = done + count
        ids = self._local.ids(done, done + count)
        record = dump_results(self._claimed.first, self._done, ids, values, failures)
        self._status.total_processed += count
        self._status.success_count += count - len(failures)
        values.clear()
        if failures:
            self._status.error_count += len(failures)
            failures.clear()
        self._write(record)

    def _be_due(self) -> None:
        """Report after the task that is under way: a process that it has forked must not go on to the next one."""
        self._due = 0.0

    def _say(self, record: bytes) -> None:
        self._write(record)
        with self._queue.guard:
            self._ring.exchange()
            self._queue.wake_coordinator()
        self._ring_bell()

    def _write(self, record: bytes) -> None:
        written, nap = self._ring.write(record), _NAP_SECONDS
        while written < len(record):
            self._wait_for_room(nap)
            written += self._ring.write(memoryview(record)[written:])
            nap = min(2 * nap, _LONGEST_NAP)

    def _wait_for_room(self, nap: float) -> None:
        """Give the coordinator time to read something. Nobody rings for that: it is in no hurry, or busy."""
        with self._queue.guard:
            self._ring.exchange()
            is_waited_for = self._queue.wake_coordinator()
            signal = self._queue.signal
        if is_waited_for:
            self._ring_bell()
        if signal == Signal.ABORT:
            raise SystemExit
        if self._status.state != WorkerState.WAITING:
            self._be(WorkerState.WAITING)
        time.sleep(nap)

    def _be(self, state: WorkerState) -> None:
        self._status.state = state
        self._status.publish()
        self._due = time.monotonic() + _REPORT_SECONDS

    def _ring_bell(self) -> None:
        with suppress(OSError):  # nobody is there, or it has rung so often that one more makes no difference
            os.write(self._rope, b"!")

    def close(self) -> None:
        self._queue.close()
        self._status.close()
        self._segment.close()


def _end_fork() -> NoReturn:
    sys.stderr.write("a process that a task has forked came back from the task; it is ended\n")
    sys.stderr.flush()
    os._exit(1)


def _as_init_error(error: Exception) -> WorkerInitError:
    if isinstance(error, WorkerInitError):
        return error
    return WorkerInitError(f"a worker process cannot load the functions: {type(error).__name__}: {words(error)}")
