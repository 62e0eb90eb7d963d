"""A pool: workers of whichever backend that call a function for each item of an iterable."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from itertools import chain, starmap
from types import TracebackType
from typing import Any, Final, Generic, NoReturn, Self, TypeVar, overload

from manyhands.driver.claims import claim
from manyhands.driver.maprun import Batch, MapRun, Order
from manyhands.driver.seat import Seat, Table
from manyhands.errors import OptionsError, UsageError
from manyhands.executor import Executor
from manyhands.plugins.registry import find, get_executor
from manyhands.worker.calls import LOOP_NEEDED, Failures, is_calling
from manyhands.worker.context import WorkerContext

R = TypeVar("R")
Async = Callable[..., Coroutine[Any, Any, R]]
Batches = Generator[Batch, None, None]

_CLOSED: Final = "this pool is closed; make another one"


class Maps(ABC):
    """The four ways to map a function: a pool has them, and so has what its `star()` gives.

    Of each, `fn` is anything callable, plain or `async def`: a lambda, a closure, a partial, a bound method. Where
    workers are processes, functions and arguments are copied to them, results and exceptions back. `chunksize` is how
    many calls a worker gets at a time: a number is kept to the letter; None begins with one and goes on to what takes
    about 30 ms.

    What a call raises has its own type, arguments and attributes; if another process raised it, its `__cause__` shows
    the traceback there. A call whose worker dies twice raises `WorkerLost`, with the call's number in a note.

    Raises:
        UsageError: the pool is closed, or an argument is not what it should be.
        UnpicklableError: the function, or in its place among the results an argument, cannot travel.
        CallError: likewise a result or an exception, or something cannot be unpickled.
        RunAborted: the pool was closed in the middle of it.
        ExecutorBroken: there are no workers any more.
    """

    @overload
    def map(self, fn: Async[R], iterable: Iterable[Any], *, chunksize: int | None = None) -> list[R]: ...

    @overload
    def map(self, fn: Callable[..., R], iterable: Iterable[Any], *, chunksize: int | None = None) -> list[R]: ...

    def map(self, fn: Callable[..., Any], iterable: Iterable[Any], *, chunksize: int | None = None) -> list[Any]:
        """The results in the order of the items. Raises the first failure in that order and drops the rest."""
        return _listed(self._run(Order(fn, iterable, chunksize, ordered=True, eager=True)))

    @overload
    def unordered_map(self, fn: Async[R], iterable: Iterable[Any], *, chunksize: int | None = None) -> list[R]: ...

    @overload
    def unordered_map(
        self, fn: Callable[..., R], iterable: Iterable[Any], *, chunksize: int | None = None
    ) -> list[R]: ...

    def unordered_map(
        self, fn: Callable[..., Any], iterable: Iterable[Any], *, chunksize: int | None = None
    ) -> list[Any]:
        """The results, the fastest first. Raises the first failure that comes and drops the rest."""
        return _listed(self._run(Order(fn, iterable, chunksize, ordered=False, eager=True)))

    @overload
    def imap(self, fn: Async[R], iterable: Iterable[Any], *, chunksize: int | None = None) -> Results[R]: ...

    @overload
    def imap(self, fn: Callable[..., R], iterable: Iterable[Any], *, chunksize: int | None = None) -> Results[R]: ...

    def imap(self, fn: Callable[..., Any], iterable: Iterable[Any], *, chunksize: int | None = None) -> Results[Any]:
        """The results one by one, in the order of the items.

        Nothing happens before the first `next()`, and later only a few chunks are ahead of whoever iterates: the
        iterable may be endless. A failure is raised in its place, and the next `next()` goes on behind it.
        """
        return Results(self._run(Order(fn, iterable, chunksize, ordered=True, eager=False)))

    @overload
    def unordered_imap(self, fn: Async[R], iterable: Iterable[Any], *, chunksize: int | None = None) -> Results[R]: ...

    @overload
    def unordered_imap(
        self, fn: Callable[..., R], iterable: Iterable[Any], *, chunksize: int | None = None
    ) -> Results[R]: ...

    def unordered_imap(
        self, fn: Callable[..., Any], iterable: Iterable[Any], *, chunksize: int | None = None
    ) -> Results[Any]:
        """As `imap`, but each result as soon as it is there."""
        return Results(self._run(Order(fn, iterable, chunksize, ordered=False, eager=False)))

    @abstractmethod
    def _run(self, order: Order) -> Batches:
        """What comes of an order, which is checked now and carried out as batches are taken."""


class Pool(Maps):
    """Workers that call functions.

    They start when the pool is entered by `with`, or at its first map. A map has no thread of its own: who waits for
    results keeps the workers busy, and ^C there drops the map, not the pool. Several iterators may be open at once, and
    several threads may map. A pool that is left by an exception, or forgotten, is terminated.

    Args:
        workers: how many; None: as many as the backend has by default.
        executor: name of a backend; or an executor, which nobody else may be using.
        options: of the backend.

    Raises:
        BackendError: there is no such backend.
        OptionsError: an option is unknown or wrong, or the backend cannot have so many workers.
    """

    def __init__(
        self, workers: int | None = None, executor: str | Executor = "multiprocessing", **options: Any
    ) -> None:
        if isinstance(executor, str):
            executor = _by_name(executor, workers, options)
        else:
            _check_instance(executor, workers, options)
        self._executor: Executor = executor
        self._lock = threading.RLock()  # a handler of a signal may close the pool while this thread starts it
        self._context: WorkerContext | None = None
        self._table: Table | None = None
        self._closed = self._is_ending = False
        self._forgotten: weakref.finalize[Any, Any] | None = None

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.terminate()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Pool cannot be sent to a worker")

    def star(self) -> Maps:
        """The same maps with each item unpacked: `fn(*item)`."""
        return _Starred(self)

    def close(self) -> None:
        """End the workers once they have finished what they are at. Idempotent.

        A map that is not through raises `RunAborted` when it needs them again.

        Raises:
            TeardownError: a worker failed as it ended.
        """
        self._shut(cancel=False)

    def terminate(self) -> None:
        """End the workers at once, killing those that can be killed. Idempotent. Maps as with `close`."""
        context = self._context
        if context is not None:
            context.cancelled.set()
        self._shut(cancel=True)

    def _run(self, order: Order) -> Batches:
        if not callable(order.function):
            raise UsageError(f"a map needs a function, not {type(order.function).__name__}: {order.function!r}")
        _check_loop(self._executor, order.function)
        table = self._open()
        if is_calling(table) and not table.executor.capabilities.inline:
            raise UsageError("a call may not map by the pool that makes it: it would wait for itself")
        return MapRun(order, Seat(table), owner=self).batches()

    def _open(self) -> Table:
        """The started executor.

        Raises:
            UsageError: the pool is closed, or was started by the process of which this is a fork.
        """
        if self._table is not None:
            self._table.check_process()
        with self._lock:
            if self._closed:
                raise UsageError(_CLOSED)
            if self._table is None:
                self._table = self._start()
                if self._closed:  # by the handler of a signal
                    self._shut(cancel=True)
                    raise UsageError(_CLOSED)
            return self._table

    def _start(self) -> Table:
        executor, table = self._executor, Table(self._executor)
        claim(executor, table)
        compression, concurrency = getattr(executor, "compression", None), getattr(executor, "concurrency", 1)
        self._context = WorkerContext(compression=compression, concurrency=concurrency)
        try:
            executor.start(self._context)
        except BaseException:
            _end(table)
            raise
        self._forgotten = weakref.finalize(self, _forget, table)
        return table

    def _shut(self, *, cancel: bool) -> None:
        if self._table is not None and self._table.pid != os.getpid():
            return
        with self._lock:
            self._closed = True
            table = self._table
            if table is None or table.is_finished or self._is_ending:
                return
        try:
            self._is_ending = True
            table.close()
            _finish(table, cancel=cancel)
        finally:
            self._is_ending = False
            if table.is_finished and self._forgotten is not None:
                self._forgotten.detach()


class Results(Iterator[R], Generic[R]):
    """Results one by one, for one thread at a time.

    Args:
        batches: of values and failures.
    """

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        # What a `for` loop gets is this itself: a method of ours would cost more than the rest of it.
        self._results: Iterator[R] = chain.from_iterable(starmap(_one_by_one, batches))

    def __iter__(self) -> Iterator[R]:  # noqa: PYI034  # see above
        return self._results

    def __next__(self) -> R:
        return next(self._results)

    def close(self) -> None:
        """Drop what was not given out. Calls that have begun go on to their end, for nobody."""
        self._batches.close()
        self._results = iter(())


class _Failing(Iterator[Any]):
    """A batch in which something failed."""

    def __init__(self, values: list[Any], failures: Failures) -> None:
        self._values = enumerate(values)
        self._failures = failures

    def __next__(self) -> Any:
        place, value = next(self._values)
        error = self._failures.pop(place, None)
        if error is None:
            return value
        try:
            if isinstance(error, StopIteration):  # as in a generator: it would end whoever iterates
                raise RuntimeError("the call raised StopIteration") from error  # noqa: TRY004  # as Python does
            raise error
        finally:
            del error  # its traceback holds this frame


def _one_by_one(values: list[Any], failures: Failures) -> Iterable[Any]:
    return _Failing(values, failures) if failures else values


class _Starred(Maps):
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def _run(self, order: Order) -> Batches:
        return self._pool._run(replace(order, star=True))  # noqa: SLF001  # it is a view of the pool


def _listed(batches: Batches) -> list[Any]:
    results: list[Any] = []
    with closing(batches):
        for values, failures in batches:
            if failures:
                error = failures[min(failures)]
                try:
                    raise error
                finally:
                    del error, failures  # its traceback holds this frame
            results += values
    return results


def _finish(table: Table, *, cancel: bool) -> None:
    """End the workers. After a ^C here they are killed; after another one, or where it came late, ask again."""
    try:
        table.executor.shutdown(cancel=cancel)
    except Exception:
        table.is_finished = True
        raise
    except BaseException:
        if not cancel:
            with suppress(Exception):  # it is the ^C that is raised
                _finish(table, cancel=True)
        raise
    table.is_finished = True


def _forget(table: Table) -> None:
    """End the workers of a pool that is gone.

    Whatever thread collects garbage comes here, maybe one that the workers need to end: only at the end of the program
    is it sure to be none of them, and no thread may be started.
    """
    if threading.main_thread().is_alive():
        # Not a daemon: the program does not end in the middle of it.
        threading.Thread(target=_end, args=(table,), name="manyhands-forgotten", daemon=False).start()
    else:
        _end(table)


def _end(table: Table) -> None:
    if os.getpid() == table.pid and not table.is_finished:  # a fork of the program has the pool, but not its workers
        table.close()
        try:
            table.executor.shutdown(cancel=True)
        finally:
            table.is_finished = True


def _by_name(name: str, workers: int | None, options: dict[str, Any]) -> Executor:
    fields = find(name).options.model_fields
    if workers is None or ("max_workers" not in fields and workers == 1):
        return get_executor(name, **options)
    if "max_workers" not in fields:
        raise OptionsError(f"backend {name!r} has one worker, not {workers!r}: leave workers out or choose another")
    if "max_workers" in options:
        raise OptionsError("workers and max_workers mean the same; give one of them")
    return get_executor(name, max_workers=workers, **options)


def _check_instance(executor: object, workers: int | None, options: dict[str, Any]) -> None:
    if isinstance(executor, type) or not isinstance(executor, Executor):
        raise UsageError(f"executor must be the name of a backend or an executor, not {executor!r}")
    if workers is not None or options:
        raise OptionsError("workers and options are for a backend chosen by name; this executor is made already")


def _check_loop(executor: Any, function: Callable[..., Any]) -> None:
    """See that the thread that is going to wait is not the one that must run an event loop."""
    running = asyncio._get_running_loop()  # noqa: SLF001  # documented, and raises nothing
    if running is None:
        return
    if getattr(executor, "loop", None) is running or (
        executor.capabilities.inline and inspect.iscoroutinefunction(function)
    ):
        raise UsageError(LOOP_NEEDED)
