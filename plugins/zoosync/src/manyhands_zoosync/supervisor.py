"""Whom the person talks to: functions and tasks go in, results and statistics come out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext, suppress
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from manyhands.cpus import cpus
from manyhands.errors import ManyhandsError, OptionsError, RunAborted, UsageError
from manyhands.processes.launch import StartMethod, make_launcher
from manyhands.worker.surroundings import Surroundings
from manyhands_zoosync.errors import UnknownFunction
from manyhands_zoosync.job import Job, dump_function
from manyhands_zoosync.keeping import ResultFile, Shelf
from manyhands_zoosync.layout import MOST_AT_ONCE, Layout
from manyhands_zoosync.lock import best_kind
from manyhands_zoosync.results import TaskResult
from manyhands_zoosync.run import Run
from manyhands_zoosync.show import shown
from manyhands_zoosync.statistics import Statistics
from manyhands_zoosync.status import WorkerStatus

_BLOCK: Final = 256
"""Tasks that `enqueue_many` puts in at once, if they come quickly."""

_SLOW_SECONDS: Final = 0.005


Function = Callable[..., Any]


class Supervisor:
    """Owns the queue of tasks and the workers that empty it.

    The workers start with the first task, or with `start`. Close it, best by a `with` block: no process, no memory and
    no file is left.

    Args:
        workers: how many; None: one for each CPU that the program may use.
        num_slots: tasks that can wait in the queue.
        batch_size: tasks that a worker claims at once, 1 to 300, at most: never more than its share of those that wait.
        enqueue_timeout: seconds that a task may wait for room in the queue; None: as long as it takes.
        crash_retries: so often a task is tried again that its worker did not survive.
        arena_bytes: room for arguments that are larger than a slot, 118 bytes. Only what is used takes memory.
        ring_bytes: room for the results of each worker that nobody has fetched yet; larger ones go through in pieces.
        start_method: how workers start.
        results_file: where results are written; None: they are for `results`.

    Raises:
        OptionsError: an option is out of its range, or this system cannot have workers.
        OutputError: the file cannot be created.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        num_slots: int = 4096,
        batch_size: int = 64,
        enqueue_timeout: float | None = None,
        crash_retries: int = 1,
        arena_bytes: int = 64 << 20,
        ring_bytes: int = 1 << 20,
        start_method: StartMethod = "forkserver",
        results_file: str | Path | None = None,
    ) -> None:
        workers = cpus() if workers is None else workers
        _check("workers", workers, 1)
        _check("num_slots", num_slots, 1)
        _check("batch_size", batch_size, 1, MOST_AT_ONCE)
        _check("crash_retries", crash_retries, 0)
        _check("arena_bytes", arena_bytes, 0)
        _check("ring_bytes", ring_bytes, 1)
        make_launcher(start_method)
        self._layout = Layout(num_slots, workers, ring_bytes, arena_bytes)
        self._batch_size = batch_size
        self._enqueue_timeout = enqueue_timeout
        self._crash_retries = crash_retries
        self._start_method: StartMethod = start_method
        self._functions: list[bytes] = []
        self._numbers: dict[Function, int] = {}
        self._feeding = threading.RLock()  # a source may put tasks in of its own
        self._run: Run | None = None
        self._closed = False
        self._error: ManyhandsError | None = None
        self._statistics = Statistics(0.0, 0, 0, 0, 0, 0, ())
        self._shelf = Shelf() if results_file is None else ResultFile(Path(results_file), self._fail)

    def register(self, function: Function) -> int:
        """Make a function known to the workers, before they start.

        Returns:
            Its `fn_id`.

        Raises:
            UnpicklableError: it cannot travel.
            UsageError: they have started.
        """
        if self._run is not None or self._closed:
            raise UsageError("the workers have started: register every function before the first task")
        self._functions.append(dump_function(function))
        fn_id = len(self._functions) - 1
        with suppress(TypeError):  # it cannot be a key: then it goes by its number
            self._numbers[function] = fn_id
        return fn_id

    def start(self) -> None:
        """Start the workers and wait until one is ready.

        Raises:
            WorkerInitError: none can be.
        """
        with self._feeding:
            run = self._started()
        while not run.desk.ready:
            self._raise_error()
            run.desk.pause(None)

    def enqueue(self, function: Function | int, /, *args: Any, **kwargs: Any) -> int:
        """Have a function called with these arguments.

        Args:
            function: a registered one, or its `fn_id`.
            args: by place.
            kwargs: by name.

        Returns:
            The `tsk_id` of its result. They count from 1 and never come again.

        Raises:
            QueueFull: there was no room in time.
            PayloadTooLarge: the arguments do not fit in all the room there is.
            CallError: the arguments cannot travel.
            UnknownFunction: it is not registered.
            ManyhandsError: there are no workers any more.
        """
        fn_id = self._number_of(function)
        with self._feeding:
            feeder = self._started().feeder
            feeder.add(fn_id, args, kwargs)
            feeder.flush()
            return feeder.next_id - 1

    def enqueue_many(self, function: Function | int, arguments: Iterable[Sequence[Any]], /) -> range:
        """Have a function called many times: several times as fast as one by one.

        Args:
            function: a registered one, or its `fn_id`.
            arguments: for each call the sequence of its arguments. It is read as there is room, some ahead of those
                that are in: it must not wait for results.

        Returns:
            The ids, in order.

        Raises:
            ManyhandsError: as `enqueue`; the tasks before the one at fault are in, unless there was no room.
        """
        fn_id = self._number_of(function)
        with self._feeding:
            feeder = self._started().feeder
            first, rest, size = feeder.next_id, iter(arguments), 1
            while True:
                block: list[Sequence[Any]] = []
                begun = time.monotonic()
                try:
                    block.extend(islice(rest, size))  # it keeps what came before an exception
                finally:
                    took = time.monotonic() - begun
                    feeder.add_many(fn_id, block)
                if len(block) < size:
                    return range(first, feeder.next_id)
                # A source that is slow must not keep what it has already given from the workers.
                size = min(2 * size, _BLOCK) if took < _SLOW_SECONDS else 1

    def results(self) -> Iterator[TaskResult]:
        """The results as they come, until every task that was put in has one. Each is given out once.

        Raises:
            ManyhandsError: there are no workers any more.
        """
        while self._wait_for_some():
            yield from self._shelf.take()
        yield from self._shelf.take()

    def _wait_for_some(self) -> bool:
        """Wait a little for results; False when all have come."""
        run = self._run
        if run is None or not run.desk.outstanding:
            return False
        self._raise_error()
        run.desk.pause(None)
        return True

    def run(self, feed: Callable[[], object] | None = None, *, show: bool = True) -> Statistics:
        """Run everything to its end and close. Results that are in no file are still there for `results`.

        Args:
            feed: puts tasks in; None: they are all in.
            show: show the workers while they work, if stderr is a terminal, and print the statistics, and where results
                are of which the file is not complete, however it ends.

        Raises:
            ManyhandsError: there are no workers any more, or the file could not be written.
        """
        try:
            with shown(lambda: self.statistics) if show else nullcontext(), self:
                if feed is not None:
                    feed()
                while self._wait_for_some():
                    pass
            self._raise_error()
        except BaseException:
            if show:
                with suppress(OSError):  # what went wrong before is what counts
                    self._sum_up()
            raise
        if show:
            self._sum_up()
        return self._statistics

    def _sum_up(self) -> None:
        print(self._statistics, *self._shelf.notes, sep="\n")  # noqa: T201  # what it is asked for

    def close(self) -> None:
        """End the workers, after what they run if they do not take long, and release everything. Idempotent.

        Raises:
            SinkError: the file of results could not be completed.
        """
        self._close(complete=True)

    def _close(self, *, complete: bool) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            if self._run is not None:
                self._finish(self._run)
        except BaseException:
            self._shelf.close(complete=False)
            raise
        self._shelf.close(complete=complete and self._error is None)

    def _finish(self, run: Run) -> None:
        if run.desk.outstanding:  # whoever waits for room or results must not go on
            run.desk.give_up(RunAborted("the supervisor was closed before all tasks were done"))
        with self._feeding:
            try:
                run.finish()
            finally:  # also after a second ^C
                self._statistics, self._error, self._run = run.statistics(), run.desk.error, None

    @property
    def statistics(self) -> Statistics:
        """The numbers so far."""
        run = self._run  # once: another thread may close it
        return self._statistics if run is None else run.statistics()

    def status(self) -> list[WorkerStatus]:
        """What each worker says now. Costs microseconds and none of the workers' time."""
        run = self._run  # as above
        return list(self._statistics.workers) if run is None else run.desk.statuses()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(complete=kind is None)

    def _number_of(self, function: Function | int) -> int:
        if isinstance(function, int):
            if 0 <= function < len(self._functions):
                return function
            raise UnknownFunction(f"no function is registered as fn_id {function}; register it before the first task")
        with suppress(KeyError, TypeError):
            return self._numbers[function]
        name = getattr(function, "__qualname__", None) or repr(function)
        raise UnknownFunction(f"the function {name} is not registered; register it before the first task")

    def _started(self) -> Run:
        if self._closed:
            raise UsageError("the supervisor is closed")
        if self._run is None:
            functions = dict(enumerate(self._functions))
            job = Job(self._layout, best_kind(), self._batch_size, functions, Surroundings.here())
            self._run = Run(job, self._start_method, self._crash_retries, self._enqueue_timeout, self._shelf)
        return self._run

    def _raise_error(self) -> None:
        if self._run is not None:
            self._run.desk.check()
        if self._error is not None:
            raise self._error

    def _fail(self, error: ManyhandsError) -> None:
        if self._run is not None:
            self._run.desk.give_up(error)
        self._error = self._error or error


def _check(name: str, value: int, least: int, most: int | None = None) -> None:
    if value < least or (most is not None and value > most):
        bounds = f"at least {least}" if most is None else f"between {least} and {most}"
        raise OptionsError(f"{name} must be {bounds}, not {value}")
