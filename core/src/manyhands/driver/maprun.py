"""One function map: its iterable as chunks of calls, and what became of them.

    iterable ─ Pace ─ chunks ─▶ Dispatcher ─ complete chunks ─▶ batches of values and failures

There is no thread in between: whoever asks for the next batch drives the executor until there is one.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from dataclasses import dataclass
from itertools import count, islice
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from manyhands.chunks import Chunk, ChunkKind, ChunkResult
from manyhands.driver.dispatch import Dispatcher, Inbox
from manyhands.driver.options import RunOptions
from manyhands.driver.pace import Pace
from manyhands.errors import UnpicklableError, WorkerLost
from manyhands.events import Observers
from manyhands.worker import codec, pickles
from manyhands.worker.calls import Calls, Failures, dump_function, read_result

if TYPE_CHECKING:
    from manyhands.driver.seat import Seat

WINDOW_BYTES: Final = 64 * 1024 * 1024
"""Arguments and results that wait for one before them may take so much memory before no more are pulled."""

_PULL_SECONDS: Final = 0.02

_sequences: Final = count()
"""Of all maps: a worker says by this number which chunk it is at, and several maps may share it."""

Batch = tuple[list[Any], Failures]
"""Values, and what was raised instead of them by place; there the value is None."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to map, and how.

    Attributes:
        function: to call.
        iterable: its arguments.
        chunksize: calls in a chunk; None: ours.
        ordered: give batches in the order of the input, else as they come.
        eager: every result is wanted, or none after the first failure: pull without regard to who waits.
        star: the arguments are tuples to unpack.
    """

    function: Callable[..., Any]
    iterable: Iterable[Any]
    chunksize: int | None
    ordered: bool
    eager: bool
    star: bool = False


class MapRun:
    """One function map.

    Args:
        order: what to do.
        seat: its place at the executor.
        owner: kept alive until the end of the map.

    Raises:
        UsageError: the order cannot be carried out: nothing was pulled from the iterable.
    """

    def __init__(self, order: Order, seat: Seat, owner: object = None) -> None:
        iterable = order.iterable
        self._order = order
        self._seat = seat
        self._owner = owner
        self._interrupts = seat.interrupts
        total = len(iterable) if isinstance(iterable, Sized) else None
        self._pace = Pace(seat.chunksize(order.chunksize), total=total, workers=seat.workers, least=seat.overlap)
        self._prefix = seat.code() + dump_function(order.function, star=order.star) if seat.crosses_process else None
        self._items = iter(iterable)
        self._ended = False
        self._source_error: Exception | None = None
        self._cut: deque[list[Any]] = deque()
        self._position = 0
        self._hopeless = self._refused = False
        self._inbox: Inbox = seat.inbox
        self._dispatcher = Dispatcher(
            seat.as_executor(),
            RunOptions(ordered=order.ordered),
            self._bury,
            replayable=True,
            observers=Observers(),
            inbox=self._inbox,
            on_result=self._learn,
        )
        self._ledger = self._dispatcher.ledger

    def batches(self) -> Generator[Batch, None, None]:
        """What became of the calls. Left half-way, it forgets what is under way.

        Raises:
            RunError: the executor can run nothing more, or the pool was closed.
            Exception: what the iterable raised, behind the results of what it gave before.
        """
        if self._order.eager:  # between two batches runs no code but ours
            with self._interrupts:
                yield from self._run()
            return
        run = self._run()
        try:
            while True:
                with self._interrupts:
                    batch = next(run, None)
                if batch is None:
                    return
                yield batch
        finally:
            with self._interrupts:
                run.close()

    def _run(self) -> Generator[Batch, None, None]:
        """The same, with interrupts held back but where it waits or the person's iterable runs."""
        try:
            self._seat.take()
            while not self._is_through:
                yield from self._complete()
                self._seat.check()
                self._refused = False
                begun = self._dispatcher.submit_all(self._take)
                if begun or self._refused:
                    self._dispatcher.settle_all(0)
                elif not self._is_through:
                    self._dispatcher.settle_all(None)
                self._seat.check()
            if self._source_error is not None:
                raise self._source_error
        finally:
            self._dispatcher.abandon()
            self._seat.leave()
            del self._dispatcher  # it has methods of this: a cycle would keep the arguments

    @property
    def _is_through(self) -> bool:
        is_given_up = self._order.eager and self._hopeless
        return (is_given_up or (self._ended and not self._cut)) and not len(self._ledger)

    def _complete(self) -> Iterator[Batch]:
        for entry in self._ledger.pop_complete():
            for part in entry.in_order():
                yield read_result(part, entry.chunk.start)

    def _take(self) -> Chunk | None:
        """The next chunk, if it may begin now."""
        try:
            self._interrupts.release()  # the iterable may take any time
            return self._next_chunk()
        finally:
            self._interrupts.hold()

    def _next_chunk(self) -> Chunk | None:
        while self._may_pull:
            items = self._cut.popleft() if self._cut else self._pull()
            if not items:
                return None
            chunk = self._chunk(items)
            if chunk is not None:
                return chunk
        return None

    @property
    def _may_pull(self) -> bool:
        if self._ended and not self._cut:
            return False
        if self._order.eager:
            return not self._hopeless
        waiting = len(self._ledger)
        if not waiting:
            return True
        # A slow iterable must not hold up a result that is there.
        return self._inbox.empty() and waiting < 2 * self._dispatcher.slots + 2 and self._ledger.nbytes < WINDOW_BYTES

    def _pull(self) -> list[Any]:
        """The next items: fewer than wanted where the iterable is slow, unless the person said how many."""
        items: list[Any] = []
        wanted = self._pace.next()
        if self._pace.is_fixed:
            self._pull_into(items, wanted)
            return items
        stretch, begun = 1, monotonic()
        while not self._ended and len(items) < wanted and monotonic() - begun < _PULL_SECONDS:
            self._pull_into(items, min(stretch, wanted - len(items)))
            stretch *= 2
        self._pace.gave(len(items))
        return items

    def _pull_into(self, items: list[Any], most: int) -> None:
        before = len(items)
        try:
            items.extend(islice(self._items, most))
        except Exception as error:  # noqa: BLE001  # raised when it is due: behind the results of what came before
            self._source_error, self._ended = error, True
        else:
            self._ended = len(items) - before < most

    def _chunk(self, items: list[Any]) -> Chunk | None:
        """A chunk of these items; None if not all of them can travel, and they are cut or refused."""
        if self._prefix is None:
            return self._numbered(items, Calls(self._order.function, items, self._order.star, self._seat.table))
        try:
            payload = self._prefix + pickles.dumps(items)
        except Exception as error:  # noqa: BLE001  # the arguments' own code runs
            self._refuse(items, error)
            return None
        if not self._pace.is_fixed:
            self._pace.weigh(len(items), len(payload) - len(self._prefix))
        return self._numbered(items, codec.compress(payload, self._seat.compression))

    def _numbered(self, items: list[Any], payload: Any) -> Chunk:
        start, self._position = self._position, self._position + len(items)
        compressed = bool(self._seat.compression) and self._prefix is not None
        return Chunk(next(_sequences), start, len(items), ChunkKind.CALLS, payload, compressed=compressed)

    def _refuse(self, items: list[Any], error: Exception) -> None:
        """Cut them in two, until one is left that is to blame: in its place stands why."""
        if len(items) > 1:
            half = len(items) // 2
            self._cut.extendleft((items[half:], items[:half]))
            return
        chunk = self._numbered(items, b"")
        what = f"the argument of call {chunk.start}, of type {type(items[0]).__qualname__}"
        refused = UnpicklableError(f"{what}, cannot be sent to a worker process: {pickles.named(error)}")
        refused.__cause__ = error
        self._refused = True
        self._ledger.open(chunk)
        self._ledger.bury(self._bury(chunk, 0, 1, refused))

    def _bury(self, chunk: Chunk, lo: int, hi: int, error: Exception) -> ChunkResult:
        """The result of calls that are given up: each place raises the reason."""
        self._hopeless = True
        errors = [(index, _reason(error, chunk.start + index)) for index in range(lo, hi)]
        return ChunkResult(chunk.sequence, lo, hi, output=[], errors=errors)

    def _learn(self, result: ChunkResult) -> None:
        if result.rejected:
            self._hopeless = True
        if not self._pace.is_fixed:
            # Without what it takes to unpack the function, which is the same for any number of calls.
            seconds = sum(seconds for stage, seconds in result.stages.items() if stage != "unpack")
            self._pace.learn(result.hi - result.lo, seconds, result.nbytes)


def _reason(error: Exception, position: int) -> Exception:
    if isinstance(error, UnpicklableError):
        return error
    try:
        reason = copy.copy(error)  # each place raises its own
    except Exception:  # noqa: BLE001  # its own code runs
        reason = error
    verb = "killed its worker" if isinstance(error, WorkerLost) else "could not be made"
    reason.add_note(f"call {position} of the map (counted from 0) {verb}")
    return reason
