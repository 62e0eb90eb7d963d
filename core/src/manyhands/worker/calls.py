"""The calls of a function map: what travels to a worker, what it does, and what comes back.

The payload of such a chunk is a `Calls`, or in another process its bytes. Of the result, `output` holds the values of
the calls that returned, `errors` an (index, exception) for each that raised; where the payload came as bytes both are
pickles, the latter of (index, exception as bytes, traceback as text).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import count
from struct import Struct
from time import perf_counter
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from manyhands.chunks import Chunk, ChunkResult
from manyhands.errors import CallError, ProtocolError, UnpicklableError, UsageError
from manyhands.worker import codec, pickles, shipping
from manyhands.worker.hook_runner import Raised
from manyhands.worker.plan import RecordsCancelled

if TYPE_CHECKING:
    from manyhands.worker.context import WorkerContext

Function = Callable[..., Any]
Failures = dict[int, BaseException]

LOOP_NEEDED: Final = "this map would block the event loop that it needs: `await asyncio.to_thread(pool.map, ...)`"

_HEAD: Final = Struct("<?QQ")  # star, number of the map, length of the function
_CODE: Final = Struct("<BQ")  # a mark that is no star, length of the sources
_WITH_CODE: Final = 2
_LOOK_SECONDS: Final = 0.001
_ANNOUNCED: Final = 8
_KEPT_FUNCTIONS: Final = 8
_LAYERS: Final = 16
"""Around a function at most that its name is looked for in: an object may say of anything that it wraps it."""

_maps: Final = count()


class _Here(threading.local):
    homes: tuple[object, ...] = ()


_here: Final = _Here()


@dataclass(frozen=True, slots=True)
class Calls:
    """A function and what to call it with.

    Attributes:
        function: plain or `async def`.
        arguments: one for each call; with `star` the tuple of all arguments of one.
        star: unpack them.
        home: the pool's own mark, where the calls run in its process.
        interruptible: a KeyboardInterrupt there may be the person's ^C, and is no outcome of a call.
    """

    function: Function
    arguments: Sequence[Any]
    star: bool
    home: object = None
    interruptible: bool = True


def dump_function(function: Function, *, star: bool) -> bytes:
    """What the payloads of one map begin with; the pickled list of the arguments follows.

    Raises:
        UnpicklableError: the function cannot travel.
    """
    try:
        dumped = pickles.dumps(function)
    except Exception as error:
        message = f"the function {function_name(function)} cannot be sent to a worker process: {pickles.named(error)}"
        raise UnpicklableError(message) from error
    # The number keeps a map from what calls of an earlier one have left in the same object.
    return _HEAD.pack(star, next(_maps), len(dumped)) + dumped


def dump_code(sources: shipping.Sources) -> bytes:
    """What a payload begins with whose calls need modules that the workers may not have; nothing where there are none.

    Args:
        sources: of the modules.
    """
    dumped = pickles.dumps(sources) if sources else b""
    return dumped and _CODE.pack(_WITH_CODE, len(dumped)) + dumped


def invoke(function: Function, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
    """Make a call whose function travels with its arguments."""
    return function(*arguments, **keywords)


def function_name(function: object) -> str:
    """A function as messages show it: of a partial, or of what says what it wraps, the function inside."""
    for _ in range(_LAYERS):
        inner = function.func if isinstance(function, partial) else getattr(function, "__wrapped__", None)
        if inner is None:
            break
        function = inner
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def process_calls(chunk: Chunk, context: WorkerContext, result: ChunkResult) -> None:
    """Make the calls of a chunk.

    Args:
        chunk: of kind `CALLS`.
        context: the job, set up on this worker.
        result: takes what became of them; whatever a call raises is its outcome, and unharmful to the others.
    """
    outer = _here.homes
    if isinstance(chunk.payload, Calls):
        _here.homes = (*outer, chunk.payload.home)
    try:
        _Calling(chunk, context).run(result)
    finally:
        _here.homes = outer


def is_calling(home: object) -> bool:
    """Whether this thread is making a call for the pool with this mark."""
    return any(each is home for each in _here.homes)


def read_result(part: ChunkResult, start: int) -> tuple[list[Any], Failures]:
    """What calls returned and raised: a value for each, None for those that raised, and these by place in that list.

    Args:
        part: a result, or what the driver made of calls that were given up.
        start: position of the chunk's first call in the map.

    Raises:
        ProtocolError: it holds other calls than it counts.
    """
    failures = {index - part.lo: error for index, error in _read_errors(part)}
    if isinstance(part.errors, list):
        part.errors.clear()  # frames in their tracebacks hold the result: that would keep the arguments in a cycle
    values = _read_values(part, start, failures)
    if len(values) + len(failures) != part.hi - part.lo:
        raise ProtocolError(f"{part.hi - part.lo} calls were asked for, {len(values) + len(failures)} came back")
    if failures:
        rest = iter(values)
        values = [None if place in failures else next(rest) for place in range(part.hi - part.lo)]
    return values, failures


def _read_errors(part: ChunkResult) -> Iterable[tuple[int, BaseException]]:
    if isinstance(part.errors, list):
        return part.errors
    if not part.errors:
        return []
    return [(index, pickles.load_error(data, text)) for index, data, text in pickles.loads(part.errors)]


def _read_values(part: ChunkResult, start: int, failures: Failures) -> list[Any]:
    if isinstance(part.output, list):
        return part.output
    if not part.output:
        return []
    try:
        values: list[Any] = pickles.loads(part.output)
    except BaseException as error:  # noqa: BLE001  # unpickling runs code of the values' own
        lost = [place for place in range(part.hi - part.lo) if place not in failures]
        for place in lost:
            message = f"{_shown(start + part.lo, start + part.hi, 'result')} cannot be unpickled here"
            failures[place] = _call_error(message, error)
        return []
    return values


class _Calling:
    """The calls of one chunk."""

    def __init__(self, chunk: Chunk, context: WorkerContext) -> None:
        self._chunk = chunk
        self._context = context
        self._calls: Calls | None = None
        self._values: list[Any] = []  # of all calls so far, None for those that failed
        self._failed: Failures = {}
        self._is_local = isinstance(chunk.payload, Calls)
        # Workers in other processes are deaf to ^C.
        is_passing = isinstance(chunk.payload, Calls) and chunk.payload.interruptible
        self._passing: tuple[type[BaseException], ...] = (KeyboardInterrupt,) if is_passing else ()

    def run(self, result: ChunkResult) -> None:
        begun = perf_counter()
        self._calls = self._unpack()
        unpacked = perf_counter()
        if self._calls is not None:
            self._call_all(self._calls)
            # To look at all of them would take a fifth of the time of a quick call. Where they are going to be pickled,
            # a coroutine among others comes to light then.
            if self._is_local or type(self._values[0]) is CoroutineType:
                self._await_all()
        called = perf_counter()
        self._pack(result)
        result.stages = {"unpack": unpacked - begun, "call": called - unpacked, "pack": perf_counter() - called}

    def _unpack(self) -> Calls | None:
        payload = self._chunk.payload
        if isinstance(payload, Calls):
            return payload
        try:
            return _load(codec.decompress(payload) if self._chunk.compressed else payload)
        except BaseException as error:  # noqa: BLE001  # unpickling runs code of the function's and the arguments' own
            for index in range(self._chunk.lo, self._chunk.hi):
                message = "the function or an argument cannot be unpickled in the worker"
                self._failed[index] = _call_error(message, error)
            self._values = [None] * self._chunk.size
            return None

    def _call_all(self, calls: Calls) -> None:
        """A stretch at a time: one call where they are slow, as many as take a millisecond where they are quick.

        Before each it is seen whether to go on, and announced what is under way.
        """
        function = _unpacking(calls.function) if calls.star else calls.function
        index, stretch = self._chunk.lo, 1
        while index < self._chunk.hi:
            self._check()
            begun = perf_counter()
            end = min(index + stretch, self._chunk.hi)
            self._call(function, self._announced(calls.arguments[index:end], index), end)
            index = end
            stretch = 2 * stretch if perf_counter() - begun < _LOOK_SECONDS else 1

    def _announced(self, arguments: Sequence[Any], index: int) -> Iterable[Any]:
        """The arguments of a stretch, each announced by its index if that is cheap or there is a reason.

        To announce each of many quick calls would double their time. When one of them kills the worker, the next
        attempt finds out which.
        """
        cell = self._context.cell
        if cell is None:
            return arguments
        if self._chunk.attempt or len(arguments) <= _ANNOUNCED:
            return cell.track(arguments, "call", range(index, index + len(arguments)))
        cell.batch("call", index)
        return arguments

    def _call(self, function: Function, arguments: Iterable[Any], end: int) -> None:
        """Call it until there are as many values as calls before this index."""
        values, rest = self._values, iter(arguments)
        while len(values) < end - self._chunk.lo:
            error: BaseException | None = None
            try:
                # extend() keeps what came before the exception and map() goes on behind it: no bytecode per call.
                values.extend(map(function, rest))
            except self._passing:
                raise
            except BaseException as caught:  # noqa: BLE001  # SystemExit, too, is the outcome of one call
                error = caught.error if isinstance(caught, _Stopped) else caught
            if len(values) < end - self._chunk.lo:
                # Raised by the function, StopIteration ends extend() as the end of all would.
                self._failed[self._chunk.lo + len(values)] = error or StopIteration()
                values.append(None)
            del error  # its traceback holds this frame

    def _await_all(self) -> None:
        indexes = [index for index, value in self._counted() if type(value) is CoroutineType]
        if not indexes:
            return
        coroutines = [self._values[index - self._chunk.lo] for index in indexes]
        if asyncio._get_running_loop() is not None:  # noqa: SLF001  # documented, and raises nothing
            for index, coroutine in zip(indexes, coroutines, strict=True):
                coroutine.close()
                self._fail(index, UsageError(LOOP_NEEDED))
            return

        def announce(place: int | None) -> None:
            self._check()
            cell = self._context.cell
            if cell is not None:
                cell.batch("call", self._chunk.lo) if place is None else cell.record("call", indexes[place])

        outcomes = self._context.worker.hooks.await_all(coroutines, announce, self._passing)
        for index, outcome in zip(indexes, outcomes, strict=True):
            if type(outcome) is Raised:
                self._fail(index, outcome.error)
            else:
                self._values[index - self._chunk.lo] = outcome

    def _check(self) -> None:
        if self._context.stopped:
            for value in self._values:
                if type(value) is CoroutineType:
                    value.close()
            raise RecordsCancelled

    def _counted(self) -> Iterable[tuple[int, Any]]:
        return enumerate(self._values, self._chunk.lo)

    def _fail(self, index: int, error: BaseException) -> None:
        self._failed[index] = error
        self._values[index - self._chunk.lo] = None

    def _pack(self, result: ChunkResult) -> None:
        if self._context.cell is not None:
            self._context.cell.batch("pack", self._chunk.lo)
        result.output = self._returned if self._is_local else self._dump_values()
        errors = sorted(self._failed.items())
        result.ok, result.rejected = self._chunk.size - len(errors), len(errors)
        result.errors = errors if self._is_local else _dump_errors(errors)
        self._failed = {}  # the frames of calls in their tracebacks hold this object

    @property
    def _returned(self) -> list[Any]:
        if not self._failed:
            return self._values
        return [value for index, value in self._counted() if index not in self._failed]

    def _dump_values(self) -> bytes:
        try:
            return self._dump_returned()
        except BaseException:  # noqa: BLE001  # the values' own code runs; one by one they say which it was
            self._await_all()
            self._fail_unpicklable()
            return self._dump_returned()

    def _dump_returned(self) -> bytes:
        values = self._returned
        return pickles.dumps(values) if values else b""

    def _fail_unpicklable(self) -> None:
        for index, value in self._counted():
            if index in self._failed:
                continue
            try:
                pickles.dumps(value)
            except BaseException as error:  # noqa: BLE001  # as above
                message = f"the result of {self._named(index)}, of type {type(value).__qualname__}, cannot be sent back"
                self._fail(index, _call_error(message, error))

    def _named(self, index: int) -> str:
        assert self._calls is not None  # noqa: S101  # for type checkers: it has returned something
        if self._calls.function is invoke:
            return f"the call of {function_name(self._calls.arguments[index][0])}"
        return f"call {self._chunk.start + index} of {function_name(self._calls.function)}"


def _dump_errors(errors: list[tuple[int, BaseException]]) -> bytes:
    dumped = [(index, *pickles.dump_error(error)) for index, error in errors]
    return pickles.dumps(dumped) if dumped else b""


def _load(payload: bytes) -> Calls:
    if payload[0] == _WITH_CODE:
        _, length = _CODE.unpack_from(payload)
        end = _CODE.size + length
        shipping.add(pickles.loads(memoryview(payload)[_CODE.size : end]))
        payload = payload[end:]
    star, _, length = _HEAD.unpack_from(payload)
    end = _HEAD.size + length
    return Calls(_load_function(payload[:end]), pickles.loads(memoryview(payload)[end:]), star)


@lru_cache(maxsize=_KEPT_FUNCTIONS)
def _load_function(prefix: bytes) -> Function:
    """Once a map, not once a chunk: a function is slow to load, and what it keeps between calls should stay."""
    function: Function = pickles.loads(memoryview(prefix)[_HEAD.size :])
    return function


class _Stopped(BaseException):
    """A call raised StopIteration, which whatever iterates over calls would take for the end of them.

    Args:
        error: that.
    """

    def __init__(self, error: StopIteration) -> None:
        super().__init__(error)
        self.error = error


def _unpacking(function: Function) -> Function:
    def call(arguments: Iterable[Any]) -> Any:
        try:
            return function(*arguments)
        except StopIteration as error:
            raise _Stopped(error) from None

    return call


def _call_error(message: str, cause: BaseException) -> CallError:
    error = CallError(f"{message}: {pickles.named(cause)}")
    error.__cause__ = cause
    return error


def _shown(first: int, end: int, what: str) -> str:
    return f"the {what} of call {first}" if end - first == 1 else f"a {what} among those of calls {first} to {end - 1}"
