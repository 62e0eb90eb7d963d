"""Reads the source in a thread of its own and cuts it into chunks, a few ahead of the driver.

Chunk boundaries depend on the input and the options alone. The one exception is a source of records that has given
nothing for 50 ms while its chunk size was left to us: what is there then goes on, so that a trickle is not held back.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterable, Callable, Generator, Iterable
from contextlib import suppress
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Final

from manyhands.chunks import Chunk, ChunkKind, weigh
from manyhands.errors import ManyhandsError, SourceError
from manyhands.worker import codec
from manyhands.worker.encode import are_flat
from manyhands.worker.failures import describe, stable
from manyhands.worker.rows import BadRow

if TYPE_CHECKING:
    from manyhands.adapters.base import BaseInputAdapter, Block, Source
    from manyhands.executor import Compression

RECORDS_PER_CHUNK: Final = 1000
CHUNK_BYTES: Final = 1024 * 1024
"""Where the chunk size is ours to choose and records are large, a chunk has fewer of them: so many bytes of them, if
all were like its first."""

_LOOKS: Final = 20
_LOOK_SECONDS: Final = 0.0025
_IDLE_SECONDS: Final = 0.05
_AHEAD: Final = 2
_AHEAD_RECORDS: Final = 64
"""Where chunks are so small that more of them hold so many records: handing over each one costs two threads a turn."""
_JOIN_SECONDS: Final = 0.5


class FeederClosed(Exception):
    """The driver wants no more: a signal to the reading thread, not an error."""


class Feeder:
    """A source as chunks.

    Args:
        adapter: the input; its `limit` and `skip_rows` are kept here, for every kind of input.
        source: the same, opened.
        chunksize: records in a chunk; None: blocks of about `nbytes`, or 1000 records.
        nbytes: size of blocks; None: 256 KiB.
        packed: chunks leave this process.
        compression: of chunks that do.
        wake: called when something is ready to be taken.
    """

    def __init__(
        self,
        adapter: BaseInputAdapter,
        source: Source,
        *,
        chunksize: int | None,
        nbytes: int | None = None,
        packed: bool,
        compression: Compression,
        wake: Callable[[], None],
    ) -> None:
        self._source = source
        self._first = max(adapter.skip_rows, adapter.position)
        self._last = None if adapter.limit is None else adapter.skip_rows + adapter.limit
        self._chunksize = chunksize
        self._ahead = max(_AHEAD, _AHEAD_RECORDS // chunksize) if chunksize else _AHEAD
        self._nbytes = nbytes
        self._packed = packed
        self._compression: Compression = compression if packed else None
        self._wake = wake
        self._ready: deque[Chunk] = deque()
        self._partial: list[Any] = []
        self._wanted = RECORDS_PER_CHUNK
        self._seen = 0
        self._looks = 0
        self._looked = 0.0
        self._position = adapter.position
        self._sequence = 0
        self._changed = threading.Condition()
        self._ended = self._closing = False
        self._error: BaseException | None = None
        self._cancel_async: Callable[[], None] | None = None
        self._begun = 0.0
        self._thread = threading.Thread(target=self._read, name="manyhands-feeder", daemon=True)
        self.seconds: float = 0.0

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def take(self) -> Chunk | None:
        """The next chunk, if one is ready."""
        with self._changed:
            if not self._ready and self._is_trickle():
                self._cut_partial()
            if not self._ready:
                return None
            chunk = self._ready.popleft()
            if len(self._ready) <= self._ahead // 2:
                self._changed.notify()
            return chunk

    @property
    def exhausted(self) -> bool:
        """The source has ended, or failed, and every chunk was taken."""
        with self._changed:
            return self._ended and not self._ready

    def check(self) -> None:
        """To be called once exhausted and what was read is written.

        Raises:
            SourceError: the source failed behind that.
        """
        if self._error is not None:
            raise self._error

    @property
    def patience(self) -> float:
        """Seconds after which to try `take` again when nothing has woken the driver."""
        return _LOOK_SECONDS if self._may_trickle else _IDLE_SECONDS

    def consumed(self, done: int) -> float | None:
        """The fraction that is done of what will be read, 0 to 1; None where neither length nor limit tells.

        Args:
            done: how many of the records that were read have an outcome.
        """
        read = self._source.consumed()
        taken = self._position - self._first
        if read is not None and taken > 0:
            read *= min(done / taken, 1.0)
        if not self._last or self._last == self._first:
            return read
        # Which of the two ends comes first is not known: the one that is nearer.
        return max(read or 0.0, min(done / (self._last - self._first), 1.0))

    def close(self) -> None:
        """Stop reading. A source that blocks for ever keeps its thread, which does not hold up the program's end."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        cancel = self._cancel_async
        if cancel is not None:
            cancel()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_SECONDS)
        if not self._thread.is_alive():
            self._source.close()

    def _read(self) -> None:
        error: BaseException | None = None
        self._begun = perf_counter()
        try:
            try:
                self._read_all()
            finally:
                with self._changed:
                    if not self._closing:
                        self._cut_partial()
        except FeederClosed:
            pass
        except ManyhandsError as known:
            error = known
        except BaseException as unknown:  # noqa: BLE001  # whatever the person's iterable raises ends the run
            error = SourceError(f"the input failed behind record {self._position}: {_words(unknown)}")
            error.__cause__ = unknown
        with self._changed:
            self._spend()
            self._error, self._ended = error, True
            late = self._closing
        if late:
            self._source.close()  # `close` may have given up waiting for this thread
        self._wake()

    def _read_all(self) -> None:
        if self._source.decoder is not None:
            self._read_blocks()
            return
        records = self._source.records()
        if isinstance(records, AsyncIterable):
            asyncio.run(self._read_async(records))
        else:
            self._read_records(records)

    def _read_blocks(self) -> None:
        for block in self._source.blocks(self._chunksize, self._nbytes):
            self._put_block(block)
            if self._last is not None and self._position >= self._last:
                return

    def _put_block(self, block: Block) -> None:
        start, self._position = self._position, self._position + block.count
        lo = max(self._first - start, 0)
        hi = block.count if self._last is None else min(self._last - start, block.count)
        if lo >= hi:
            return
        payload = codec.compress(block.data, self._compression)
        self._put(
            Chunk(self._next(), start, block.count, ChunkKind.RAW, payload, block.line, bool(self._compression), lo, hi)
        )

    def _read_records(self, records: Iterable[Any]) -> None:
        iterator = iter(records)
        try:
            if self._last is None or self._last > self._first:
                for record in iterator:
                    if self._add(record):
                        return
        finally:
            if isinstance(iterator, Generator):  # anything else that can be closed is the caller's to close
                iterator.close()

    async def _read_async(self, records: AsyncIterable[Any]) -> None:
        self._cancel_async = _canceller()
        iterator = aiter(records)
        try:
            if self._closing:
                return
            async for record in iterator:
                if self._add(record):
                    return
        except asyncio.CancelledError:
            if not self._closing:
                raise
        finally:
            self._cancel_async = None
            if hasattr(iterator, "aclose"):
                await iterator.aclose()

    def _add(self, record: Any) -> bool:
        """Take a record; True when it was the last one wanted."""
        with self._changed:
            if self._closing:
                raise FeederClosed
            if self._position + len(self._partial) < self._first:
                self._position += 1
            else:
                # A source may fill one dict again and again.
                self._partial.append(record.copy() if type(record) is dict else record)
            held = len(self._partial)
            if held == 1:
                self._wanted = self._chunksize or _records_like(record)
            full = held >= self._wanted
            if full:
                self._cut_partial()
                self._wait_for_room()
            seen = self._position + len(self._partial)
        if full or (held == 1 and self._chunksize is None):
            self._wake()
        return self._last is not None and seen >= self._last

    def _is_trickle(self) -> bool:
        """Whether the driver has looked twenty times in 50 ms and the source gave nothing.

        The time since the last record would not do: hooks that keep the interpreter to themselves for as long hold up
        the fastest source, and the boundaries of chunks would depend on them. But they hold up the driver as well.
        """
        if not self._may_trickle:
            return False
        now, seen = monotonic(), self._position + len(self._partial)
        if seen != self._seen:
            self._seen, self._looks, self._looked = seen, 0, now
        elif now - self._looked >= _LOOK_SECONDS:
            self._looks, self._looked = self._looks + 1, now
        return self._looks >= _LOOKS

    @property
    def _may_trickle(self) -> bool:
        return self._chunksize is None and bool(self._partial)

    def _cut_partial(self) -> None:
        """Make a chunk of the records at hand; the lock is held."""
        records, self._partial = self._partial, []
        if records:
            start, self._position = self._position, self._position + len(records)
            payload = self._pack(records) if self._packed else records
            kind = ChunkKind.PACKED if self._packed else ChunkKind.LIST
            self._ready.append(
                Chunk(self._next(), start, len(records), kind, payload, compressed=bool(self._compression))
            )

    def _pack(self, records: list[Any]) -> bytes:
        try:
            packed = codec.dumps(records if are_flat(records) else list(map(_packable, records)))
        except Exception:  # noqa: BLE001  # as for one of them
            packed = codec.dumps(list(map(_packable, records)))
        return codec.compress(packed, self._compression)

    def _put(self, chunk: Chunk) -> None:
        with self._changed:
            self._ready.append(chunk)
            self._wait_for_room()
        self._wake()

    def _wait_for_room(self) -> None:
        """Read only a little ahead of the driver; the lock is held, and given up while waiting."""
        self._spend()
        if len(self._ready) >= self._ahead:
            self._wake()
        while len(self._ready) >= self._ahead and not self._closing:
            self._changed.wait()
        self._begun = perf_counter()
        if self._closing:
            raise FeederClosed

    def _spend(self) -> None:
        now = perf_counter()
        self.seconds += now - self._begun
        self._begun = now

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence - 1


def _records_like(record: Any) -> int:
    try:
        weight = weigh(record)
    except RecursionError:  # it holds itself, and will be rejected
        return RECORDS_PER_CHUNK
    return max(min(RECORDS_PER_CHUNK, CHUNK_BYTES // weight), 1)


def _packable(record: Any) -> Any:
    """The record, or if it cannot travel what stands for it: it is rejected, its neighbours are not."""
    try:
        codec.check_own(record)
        codec.loads(codec.dumps(record))
    except Exception as error:  # noqa: BLE001  # the record's own code runs too, and may raise anything
        return BadRow(_shown(record), describe(error)[0])
    return record


def _shown(record: Any) -> str:
    try:
        return stable(repr(record))
    except Exception:  # noqa: BLE001  # as above
        return f"<{type(record).__name__}>"


def _canceller() -> Callable[[], None]:
    """Cancels the running task from another thread."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def cancel() -> None:
        with suppress(RuntimeError):  # the loop has just been closed
            loop.call_soon_threadsafe(task.cancel)  # type: ignore[union-attr]  # it is called by a task

    return cancel


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
