"""What runs in a worker process that calls functions."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from manyhands.errors import WorkerInitError
from manyhands.worker import pickles
from manyhands.worker.failures import words
from manyhands.worker.tuning import tune_process
from manyhands_zoosync import payload
from manyhands_zoosync.baseworker import BaseWorker, end_fork, live
from manyhands_zoosync.job import Job
from manyhands_zoosync.localqueue import LocalTaskQueue
from manyhands_zoosync.payload import PLACE, Form
from manyhands_zoosync.results import Failure, Kind, dump_record, dump_results
from manyhands_zoosync.segment import Segment
from manyhands_zoosync.status import WorkerState
from manyhands_zoosync.taskqueue import Claimed

MAIN: Final = f"{__name__}:main"

_REPORT_SECONDS: Final = 0.01
"""Results and status are handed in so often, and at the end of a batch."""

_RUNNING: Final = WorkerState.RUNNING

Function = Callable[..., Any]


def main(descriptors: Sequence[int]) -> None:
    """Call functions until the supervisor says stop, or is gone.

    Args:
        descriptors: see `live`.
    """
    live(descriptors, _Worker)


class _Worker(BaseWorker):
    def __init__(self, number: int, job: Job, segment: Segment, bell: int, rope: int) -> None:
        super().__init__(number, job, segment, bell, rope)
        self._job = job
        self._functions: dict[int, Function] = {}
        self._claimed = Claimed(0, b"")
        self._local = LocalTaskQueue(b"")
        self._done = 0  # tasks of the batch that are reported
        self._values: list[Any] = []
        self._failures: list[Failure] = []
        self._due = 0.0
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

    def _run(self, claimed: Claimed) -> None:
        if self._status.state != _RUNNING:
            self._due = 0.0
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
        self._publish()
        self._status.state, self._status.position = WorkerState.RUNNING, tsk_id
        self._status.publish()

    def _report_rest(self) -> None:
        """Write the results into the ring; they are published with the next claim."""
        values, failures, done = self._values, self._failures, self._done
        count = len(values)
        if not count:
            return
        if os.getpid() != self._pid:
            end_fork("task")
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

    def _wait_for_room(self, nap: float) -> None:
        super()._wait_for_room(nap)
        if self._queue.is_aborted():  # nobody fetches anything any more
            raise SystemExit

    def _be(self, state: WorkerState) -> None:
        super()._be(state)
        self._due = time.monotonic() + _REPORT_SECONDS


def _as_init_error(error: Exception) -> WorkerInitError:
    if isinstance(error, WorkerInitError):
        return error
    return WorkerInitError(f"a worker process cannot load the functions: {type(error).__name__}: {words(error)}")
