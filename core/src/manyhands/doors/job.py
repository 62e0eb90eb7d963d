"""What a futures executor has to do: calls that travel together, and the future of what becomes of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import cached_property
from typing import Any, Final

from manyhands.chunks import ChunkResult
from manyhands.errors import ProtocolError, UnpicklableError, WorkerLost
from manyhands.worker import pickles
from manyhands.worker.calls import Calls, Failures, dump_function, read_result

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


def invoke(function: Function, arguments: Arguments, keywords: Mapping[str, Any]) -> Any:
    """Make a call whose function travels with its arguments."""
    return function(*arguments, **keywords)


_INVOKING: Final = Work(invoke)


class Job:
    """Calls that are one chunk, with one future.

    The future has not begun until `begin`. Its result is what the call returned, or of a stretch of a map a list of
    values, None for calls that failed, and the failures by place.

    Args:
        work: what to call.
        items: the arguments of each call.
        start: the number of the first call in its map; None: it is a call by itself.
    """

    def __init__(self, work: Work, items: Sequence[Arguments], start: int | None = None) -> None:
        self.work = work
        self.items = items
        self.start: int = start or 0
        self.future: Future[Any] = Future()
        self._is_single = start is None
        self._has_begun: bool | None = None
        self._interrupt: KeyboardInterrupt | None = None

    @classmethod
    def single(cls, function: Function, arguments: Arguments, keywords: Mapping[str, Any]) -> Job:
        """One call by itself."""
        return cls(_INVOKING, [(function, arguments, keywords)])

    def begin(self) -> bool:
        """It can no longer be cancelled; False if it was."""
        if self._has_begun is None:
            self._has_begun = self.future.set_running_or_notify_cancel()
        return self._has_begun

    def here(self, home: object) -> Calls:
        """Its calls for a worker in this process.

        Args:
            home: the mark of the pool.
        """
        return Calls(self._call_here, self.items, star=True, home=home)

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
        if self._interrupt is not None:
            self.fail(self._interrupt)
        elif not self._is_single:
            self._resolve((values, failures))
        elif failures:
            self.fail(failures[0])
        else:
            self._resolve(values[0])

    def fail(self, error: BaseException) -> None:
        """It is given up."""
        if self.begin():
            with suppress(InvalidStateError):  # somebody else has set it
                self.future.set_exception(error)

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
        function = self.items[0][0]
        return f"the call of {getattr(function, '__qualname__', None) or type(function).__qualname__}"

    def _resolve(self, result: Any) -> None:
        if self.begin():
            with suppress(InvalidStateError):  # as above
                self.future.set_result(result)

    def _call_here(self, *arguments: Any) -> Any:
        if not self.begin():
            return None
        try:
            return self.work.function(*arguments)
        except KeyboardInterrupt as error:  # in a worker's thread it is no ^C: nobody but this job may see it
            self._interrupt = error
            return None
