"""An executor of `concurrent.futures` over any backend, for programs and libraries that take one."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor as FuturesInterface
from concurrent.futures import Future
from itertools import islice
from time import monotonic
from typing import Any, NoReturn, ParamSpec, TypeVar

from manyhands.doors.driver import Desk, Driver, InPlace
from manyhands.doors.errors import WorkersError
from manyhands.doors.job import Job, Work
from manyhands.executor import Executor
from manyhands.pool import Pool
from manyhands.worker.calls import Failures

P = ParamSpec("P")
R = TypeVar("R")


def as_futures_executor(executor: str | Executor, workers: int | None = None, **options: Any) -> FuturesExecutor:
    """An executor of `concurrent.futures` whose calls are made by the workers of a backend.

    Args:
        executor: name of a backend; or an executor, which nobody else may be using.
        workers: how many; None: as many as the backend has by default. `max_workers` means the same.
        options: of the backend.

    Raises:
        BackendError: there is no such backend.
        OptionsError: an option is unknown or wrong, or the backend cannot have so many workers.
    """
    for wanted in (workers, options.get("max_workers")):
        if isinstance(wanted, int) and wanted < 1:
            raise WorkersError(f"max_workers must be greater than 0, not {wanted!r}")
    return FuturesExecutor(Pool(workers, executor, **options))


class FuturesExecutor(FuturesInterface):
    """Workers that make the calls that are submitted; `as_futures_executor` makes it.

    It is used as those of the standard library are: by a `with` block or until `shutdown`, from any thread, by
    `concurrent.futures.wait` and `as_completed`, and by `loop.run_in_executor`. Workers start with the first call. At
    the end of the program, and when nobody holds the executor any more, calls that were submitted are still made, then
    the workers end. A backend that is inline makes a call while it is submitted.

    What differs from the standard library: functions and arguments may be anything that cloudpickle can send, and
    `async def` functions are awaited. A call whose worker dies is made once more; if it kills that one too, its future
    fails with `WorkerLost`, with a note that names the call, and all others go on. A future whose call cannot travel
    fails with `UnpicklableError`, one whose result or exception cannot, with `CallError`. A future can be cancelled
    until its call has begun; one that waits for a process has, once it is on the way there. Callbacks of futures run
    in the thread that drives the executor, so they should be short.

    Args:
        pool: whose workers make the calls; nobody else uses it.
    """

    def __init__(self, pool: Pool) -> None:
        executor = pool._executor  # noqa: SLF001  # it is the pool's other face
        self._desk: Desk = InPlace(pool) if executor.capabilities.inline else Driver(pool)
        self._workers: int | None = getattr(executor, "max_workers", None)
        if self._workers is None and not executor.capabilities.concurrent:
            self._workers = 1
        weakref.finalize(self, self._desk.close).atexit = False

    def __reduce__(self) -> NoReturn:
        raise TypeError("an executor cannot be sent to a worker")

    @property
    def _max_workers(self) -> int | None:
        """How many there are, if that is known; libraries look here, as the standard library's executors have it."""
        return self._workers

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Call `fn(*args, **kwargs)`; of an `async def` function, the future is that of what it returns.

        Raises:
            ShutdownError: the executor was shut down, or the program is at its end; it is a `RuntimeError`.
            BrokenWorkers: there are no workers any more; it is a `concurrent.futures.BrokenExecutor`.
            UsageError: the workers belong to the process of which this is a fork.
        """
        return self._post(Job.single(fn, args, kwargs))

    def map(
        self,
        fn: Callable[..., R],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[R]:
        """The results of `fn(*items)` for what `zip(*iterables)` gives, in that order.

        The first failure is raised in its place and ends the iterator, which cancels what has not begun.

        Args:
            fn: plain or `async def`.
            iterables: of arguments; read to their ends at once, unless there is a `buffersize`.
            timeout: seconds from this call on after which the iterator raises `TimeoutError` if it must wait; None:
                never.
            chunksize: calls that travel together.
            buffersize: so many chunks at most are submitted whose results were not given out, so that iterables may be
                endless; None: all. The next is submitted just before the last result of one is.

        Raises:
            TypeError, ValueError: `chunksize` or `buffersize` is no number from 1.
            RuntimeError: as `submit`.
        """
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError(f"buffersize must be an integer or None, not {buffersize!r}")
        if buffersize is not None and buffersize < 1:
            raise ValueError(f"buffersize must be None or > 0, not {buffersize!r}")
        if chunksize < 1:
            raise ValueError(f"chunksize must be >= 1, not {chunksize!r}")
        end = None if timeout is None else monotonic() + timeout
        posted = map(self._post, _stretches(Work(fn), zip(*iterables, strict=False), chunksize))
        futures: deque[Future[Any]] = deque()
        try:
            futures.extend(islice(posted, buffersize))
        except BaseException:  # of the iterables
            _cancel(futures)
            raise
        return _results(futures, posted if buffersize is not None else iter(()), end)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and end the workers when all are made. Idempotent.

        Args:
            wait: return only then.
            cancel_futures: cancel those that have not begun.

        Raises:
            ShutdownError: a call of this executor waits for its end; the end comes all the same, when it is through.
        """
        self._desk.close(cancel=cancel_futures)
        if wait:
            self._desk.join()

    def kill_workers(self) -> None:
        """Shut down at once: kill workers that can be killed, leave behind calls in threads that do not end soon.

        What had no result fails with `BrokenWorkers`.
        """
        self._desk.kill()

    def _post(self, job: Job) -> Future[Any]:
        future = job.future
        self._desk.submit(job)
        return future


def _stretches(work: Work, items: Iterator[tuple[Any, ...]], chunksize: int) -> Iterator[Job]:
    start = 0
    while stretch := list(islice(items, chunksize)):
        yield Job(work, stretch, start)
        start += len(stretch)


def _results(futures: deque[Future[Any]], more: Iterator[Future[Any]], end: float | None) -> Iterator[Any]:
    """What calls returned; it keeps no result that it has given out.

    Args:
        futures: of the calls submitted so far.
        more: submits one more for each that is given out.
        end: monotonic time after which it does not wait.
    """
    try:
        while futures:
            yield from _given_out(*_next_batch(futures, end), lambda: futures.extend(islice(more, 1)))
    finally:
        _cancel(futures)


def _next_batch(futures: deque[Future[Any]], end: float | None) -> tuple[list[Any], Failures]:
    batch: tuple[list[Any], Failures] = futures[0].result(None if end is None else end - monotonic())
    futures.popleft()
    return batch


def _given_out(values: list[Any], failures: Failures, post: Callable[[], object]) -> Iterator[Any]:
    """The values one by one, then the first failure.

    Args:
        values: None in the place of each failure.
        failures: by place.
        post: called before the last value is given out, so that workers are busy while it is used.
    """
    failed = min(failures, default=len(values))
    del values[failed:]
    values.reverse()
    while values:
        if len(values) == 1 and not failures:
            post()
        yield values.pop()
    if failures:
        error = failures[failed]
        try:
            raise error
        finally:
            del error, failures  # its traceback holds this frame


def _cancel(futures: Iterable[Future[Any]]) -> None:
    for future in futures:
        future.cancel()
