"""What a futures executor has to do: calls that travel together, and the future of what becomes of them."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextvars import ContextVar
from functools import cached_property, partial
from typing import Any, Final

from manyhands.chunks import ChunkResult
from manyhands.errors import ProtocolError, UnpicklableError, WorkerLost
from manyhands.worker import pickles
from manyhands.worker.calls import Calls, Failures, dump_function, function_name, invoke, is_calling, read_result

_log: Final = logging.getLogger("manyhands")
_home: Final[ContextVar[object]] = ContextVar("manyhands_home", default=None)

Function = Callable[..., Any]
Arguments = tuple[Any, ...]


class Work:
    """A function that is called with each item unpacked, for one job or for all jobs of a map.

    Args:
        function: plain or `async def`.
    """

    def __init__(self, function: Function) -> None:
        self.function = function

    @cached_property
    def prefix(self) -> bytes:
        """What the payloads of its jobs begin with.

        Raises:
            UnpicklableError: the function cannot travel.
        """
        return dump_function(self.function, star=True)


_INVOKING: Final = Work(invoke)


def is_called(home: object) -> bool:
    """Whether this is part of a call of the pool with this mark."""
    return is_calling(home) or _home.get() is home


class Job:
    """Calls that are one chunk, with one future.

    The future has not begun until `begin`; once it is settled, the job forgets it. Its result is what the call
    returned, or of a stretch of a map a list of values, None for calls that failed, and the failures by place.

    Args:
        work: what to call.
        items: the arguments of each call.
        start: the number of the first call in its map; None: it is a call by itself.
    """

    def __init__(self, work: Work, items: Sequence[Arguments], start: int | None = None) -> None:
        self.work = work
        self.items = items
        self.start: int = start or 0
        self._future: Future[Any] | None = Future()
        self._is_single = start is None
        self._has_begun: bool | None = None

    @classmethod
    def single(cls, function: Function, arguments: Arguments, keywords: Mapping[str, Any]) -> Job:
        """One call by itself."""
        return cls(_INVOKING, [(function, arguments, keywords)])

    @property
    def future(self) -> Future[Any]:
        """For whoever submits it; not to be asked for later."""
        assert self._future is not None  # noqa: S101  # for type checkers: it is not settled
        return self._future

    def cancel(self) -> None:
        """Cancel it, if it has not begun."""
        if self._future is not None:
            _tell(self._future.cancel)

    @property
    def is_cancelled(self) -> bool:
        """It was cancelled before it began."""
        return self._future is not None and self._future.cancelled()

    def begin(self) -> bool:
        """It can no longer be cancelled; False if it was, or if somebody else has set its future."""
        if self._has_begun is None and self._future is not None:
            self._has_begun = _begin(self._future)
        return bool(self._has_begun)

    def here(self, home: object) -> Calls:
        """Its calls for a worker in this process.

        Args:
            home: the mark of the pool.
        """
        # In a worker's thread it is no ^C: nobody but this job may see it.
        return Calls(partial(self._call_here, home), self.items, star=True, home=home, interruptible=False)

    def packed(self) -> bytes:
        """Its calls for a worker in another process.

        Raises:
            UnpicklableError: the function or an argument cannot travel.
        """
        try:
            return self.work.prefix + pickles.dumps(self.items)
        except UnpicklableError:
            raise
        except Exception as error:
            what = self._named(0)
            if len(self.items) > 1:
                what = f"one of the {len(self.items)} calls from call {self.start} of the map on"
            raise UnpicklableError(f"{what} cannot be sent to a worker process: {pickles.named(error)}") from error

    def settle(self, parts: Iterable[ChunkResult]) -> None:
        """It is through.

        Args:
            parts: all results, in order.
        """
        values: list[Any] = []
        failures: Failures = {}
        try:
            for part in parts:
                some, failed = read_result(part, self.start)
                failures.update({len(values) + place: error for place, error in failed.items()})
                values += some
        except ProtocolError as error:
            self.fail(error)
        else:
            self.finish(values, failures)

    def finish(self, values: list[Any], failures: Failures) -> None:
        """The same, with what calls returned and raised."""
        if not self._is_single:
            self._resolve((values, failures))
        elif failures:
            self.fail(failures[0])
        else:
            self._resolve(values[0])

    def fail(self, error: BaseException) -> None:
        """It is given up."""
        future = self._take_future()
        if future is not None:
            _tell(future.set_exception, error)

    def reason(self, error: Exception, index: int) -> Exception:
        """Why one of its calls is given up: a copy of the error, with a note that says which."""
        try:
            reason = copy.copy(error)
        except Exception:  # noqa: BLE001  # its own code runs
            reason = error
        verb = "killed its worker" if isinstance(error, WorkerLost) else "could not be made"
        reason.add_note(f"{self._named(index)} {verb}")
        return reason

    def _named(self, index: int) -> str:
        if not self._is_single:
            return f"call {self.start + index} of the map (counted from 0)"
        return f"the call of {function_name(self.items[0][0])}"

    def _resolve(self, result: Any) -> None:
        future = self._take_future()
        if future is not None:
            _tell(future.set_result, result)

    def _take_future(self) -> Future[Any] | None:
        """Its future, if it is to be set. Once only: frames of the call that hold the job would keep its exception."""
        has_begun = self.begin()
        future, self._future = self._future, None
        return future if has_begun else None

    def _call_here(self, home: object, /, *arguments: Any) -> Any:
        _home.set(home)  # for good: the thread makes no other calls, and what runs on an event loop inherits it
        return self.work.function(*arguments) if self.begin() else None


def _begin(future: Future[Any]) -> bool:
    if future.done() and not future.cancelled():
        return False
    try:
        return future.set_running_or_notify_cancel()
    except RuntimeError:  # somebody else has set it just now
        return False


def _tell(tell: Callable[..., object], *what: object) -> None:
    """Change a future. Its callbacks are somebody else's, and what they raise is no concern of other calls."""
    try:
        tell(*what)
    except InvalidStateError:  # somebody else has set it
        pass
    except BaseException:  # noqa: BLE001  # as said
        _log.exception("a callback of a future has failed")
