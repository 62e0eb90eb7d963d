"""How a source becomes chunks."""

from __future__ import annotations

import asyncio
import gzip
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, NoReturn, Self

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands import BaseHook, CSVInputAdapter, IterableInputAdapter, JSONInputAdapter, MemoryOutputAdapter, Pipe
from manyhands.adapters.base import BaseInputAdapter
from manyhands.chunks import Chunk, ChunkKind
from manyhands.driver.feeder import Feeder
from manyhands.errors import SourceError
from manyhands.records import Entry
from manyhands.worker import codec
from manyhands.worker.rows import BadRow
from manyhands_sync import SyncFifoExecutor

from .support import LIMIT, ScriptedExecutor, run_pipe, wait_until


class Tap:
    """A feeder with the waiting that a driver does."""

    def __init__(self, adapter: BaseInputAdapter, *, chunksize: int | None = None, packed: bool = False) -> None:
        self._tokens: SimpleQueue[None] = SimpleQueue()
        self.feeder = Feeder(
            adapter,
            adapter.open(),
            chunksize=chunksize,
            packed=packed,
            compression="lz4",
            wake=lambda: self._tokens.put(None),
        )

    def __enter__(self) -> Self:
        self.feeder.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.feeder.close()

    def next(self) -> Chunk | None:
        """The next chunk; None when there are no more."""
        end = monotonic() + LIMIT
        while (chunk := self.feeder.take()) is None and not self.feeder.exhausted:
            assert monotonic() < end, "no chunk came"
            self.look()
        return chunk

    def look(self) -> None:
        """Wait until something happens, or a driver would look again."""
        with suppress(Empty):
            self._tokens.get(timeout=self.feeder.patience)

    def is_woken(self) -> bool:
        """Wait for it."""
        with suppress(Empty):
            self._tokens.get(timeout=LIMIT)
            return True
        return False

    def rest(self) -> list[Chunk]:
        return list(iter(self.next, None))


def chunks_of(adapter: BaseInputAdapter, **options: Any) -> list[Chunk]:
    with Tap(adapter, **options) as tap:
        chunks = tap.rest()
        tap.feeder.check()
    return chunks


def covered(chunks: list[Chunk]) -> list[int]:
    return [position for chunk in chunks for position in range(chunk.start + chunk.lo, chunk.start + chunk.hi)]


async def asynchronous(total: int) -> AsyncIterator[int]:
    for index in range(total):
        yield index


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.data())
def test_chunks_are_the_slice_that_was_asked_for_cut_by_number(data: st.DataObject) -> None:
    total, size = data.draw(st.integers(0, 40)), data.draw(st.integers(1, 12))
    skip, limit = data.draw(st.integers(0, 45)), data.draw(st.none() | st.integers(0, 45))
    packed, kind = data.draw(st.booleans()), data.draw(st.sampled_from(["list", "generator", "async"]))
    records: Any = {"list": range(total), "generator": iter(range(total)), "async": asynchronous(total)}[kind]
    chunks = chunks_of(IterableInputAdapter(records, limit=limit, skip_rows=skip), chunksize=size, packed=packed)
    wanted = list(range(total))[skip:][:limit]
    payloads = [codec.loads(codec.decompress(c.payload)) if packed else c.payload for c in chunks]
    assert payloads == [wanted[at : at + size] for at in range(0, len(wanted), size)]
    assert covered(chunks) == wanted
    assert [chunk.sequence for chunk in chunks] == list(range(len(chunks)))
    assert {chunk.kind for chunk in chunks} <= {ChunkKind.PACKED if packed else ChunkKind.LIST}


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.data())
def test_raw_blocks_are_bounded_to_the_slice_that_was_asked_for(data: st.DataObject) -> None:
    total, size = data.draw(st.integers(0, 40)), data.draw(st.none() | st.integers(1, 12))
    skip, limit = data.draw(st.integers(0, 45)), data.draw(st.none() | st.integers(0, 45))
    path = Path(tempfile.gettempdir(), "in.csv.gz")
    path.write_bytes(gzip.compress(b"k\n" + b"".join(b"%d\n" % index for index in range(total))))
    chunks = chunks_of(CSVInputAdapter(path, limit=limit, skip_rows=skip), chunksize=size)
    assert covered(chunks) == list(range(total))[skip:][:limit]
    assert all(chunk.size <= (size or total) for chunk in chunks)
    for chunk in chunks:
        assert [int(line) for line in chunk.payload.split()] == list(range(chunk.start, chunk.start + chunk.count))
    path.unlink()


class Hog(BaseHook):
    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def execute(self, entries: list[Entry], store: Any) -> None:
        self.sizes.append(len(entries))
        sum(range(4_000_000))  # one call into C: no other thread runs meanwhile


def test_boundaries_do_not_depend_on_hooks_that_keep_the_interpreter_to_themselves() -> None:
    def source() -> Iterator[dict[str, int]]:
        for index in range(12500):
            sum(range(1000))  # slow enough not to be ready whenever it is looked at
            yield {"k": index}

    hog = Hog()
    run_pipe(source(), ScriptedExecutor(slots=4), pre=[hog])
    assert sorted(hog.sizes) == [500] + [1000] * 12


def paused(opened: threading.Event) -> Iterator[int]:
    yield from range(3)
    assert opened.wait(LIMIT)
    yield 3


def test_a_trickle_is_flushed_soon_where_the_chunk_size_is_left_to_us() -> None:
    opened = threading.Event()
    with Tap(IterableInputAdapter(paused(opened))) as tap:
        assert tap.is_woken()  # by the first record: from then on the driver looks
        begun = monotonic()
        first = tap.next()
        waited = monotonic() - begun
        opened.set()
        rest = tap.rest()
    assert first is not None
    assert (first.payload, [chunk.payload for chunk in rest]) == ([0, 1, 2], [[3]])
    assert 0.045 <= waited < 0.3


def test_a_chunk_size_that_was_asked_for_is_kept_however_slow_the_source() -> None:
    opened = threading.Event()
    with Tap(IterableInputAdapter(paused(opened)), chunksize=4) as tap:
        end = monotonic() + 0.2
        while monotonic() < end:
            assert tap.feeder.take() is None
            tap.look()
        opened.set()
        assert [chunk.payload for chunk in tap.rest()] == [[0, 1, 2, 3]]


def broken(rows: int) -> Iterator[dict[str, int]]:
    for index in range(rows):
        yield {"k": index}
    raise ConnectionError("the line went dead")


@pytest.mark.parametrize("rows", [0, 1, 10, 25])
def test_what_came_before_an_error_of_the_source_is_processed(rows: int) -> None:
    output = MemoryOutputAdapter()
    pipe = Pipe(IterableInputAdapter(broken(rows)), output, executor=SyncFifoExecutor(chunksize=10))
    with pytest.raises(SourceError, match=rf"behind record {rows}: ConnectionError: the line went dead") as caught:
        pipe.run()
    assert isinstance(caught.value.__cause__, ConnectionError)
    assert [entry["validated_data"]["k"] for entry in output.results] == list(range(rows))
    assert pipe.report.counts == {"in": rows, "ok": rows, "rejected": 0, "dead": 0, "dropped": 0, "cancelled": 0}


async def broken_async() -> AsyncIterator[int]:
    yield 0
    raise ConnectionError("the line went dead")


def test_an_asynchronous_source_fails_likewise() -> None:
    with Tap(IterableInputAdapter(broken_async())) as tap:
        assert [chunk.payload for chunk in tap.rest()] == [[0]]
        with pytest.raises(SourceError, match="behind record 1: ConnectionError"):
            tap.feeder.check()


class Endless:
    """Counts for ever, plainly or asynchronously, and tells when it is closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()
        self.given = 0

    def plain(self) -> Iterator[int]:
        try:
            for self.given in count(1):
                yield self.given
        finally:
            self.closed.set()

    async def asynchronous(self) -> AsyncIterator[int]:
        try:
            for self.given in count(1):
                yield self.given
        finally:
            self.closed.set()


@pytest.mark.parametrize("kind", ["plain", "asynchronous"])
def test_an_endless_source_is_read_no_further_than_its_limit_and_closed(kind: str) -> None:
    endless = Endless()
    chunks = chunks_of(IterableInputAdapter(getattr(endless, kind)(), limit=25), chunksize=10)
    assert [chunk.size for chunk in chunks] == [10, 10, 5]
    assert endless.given == 25
    assert endless.closed.is_set()


@pytest.mark.parametrize("kind", ["plain", "asynchronous"])
def test_an_endless_source_is_read_a_little_ahead_and_closed_on_abort(kind: str) -> None:
    endless = Endless()
    with Tap(IterableInputAdapter(getattr(endless, kind)()), chunksize=10):
        wait_until(lambda: endless.given == 60)
        assert not endless.closed.is_set()
    assert endless.closed.is_set()
    assert endless.given == 60


async def silent(closed: threading.Event) -> AsyncIterator[int]:
    try:
        yield 0
        await asyncio.Event().wait()
    finally:
        closed.set()


def test_an_asynchronous_source_that_waits_for_ever_is_cancelled() -> None:
    closed = threading.Event()
    with Tap(IterableInputAdapter(silent(closed))) as tap:
        assert tap.next() is not None
    assert closed.is_set()


def test_a_source_that_blocks_does_not_hold_up_the_end_and_gives_nothing_more() -> None:
    opened, closed, taken = threading.Event(), threading.Event(), list[int]()

    def source() -> Iterator[int]:
        try:
            assert opened.wait(LIMIT)
            for index in range(100):
                taken.append(index)
                yield index
        finally:
            closed.set()

    begun = monotonic()
    with Tap(IterableInputAdapter(source())):
        pass
    assert monotonic() - begun < 1.0
    opened.set()
    assert closed.wait(LIMIT)
    assert taken == [0]


class Unpackable:
    """What no worker process can be sent."""


class Unspeakable:
    """Nor shown."""

    def __repr__(self) -> NoReturn:
        raise RuntimeError("no")


def test_a_record_that_cannot_travel_is_rejected_alone() -> None:
    records = [{"k": 0}, {"k": Unpackable()}, {"k": 2}, Unspeakable(), {"k": 4}]
    (chunk,) = chunks_of(IterableInputAdapter(records), packed=True)
    rows = codec.loads(codec.decompress(chunk.payload))
    bad = [rows.pop(3), rows.pop(1)]
    assert rows == [{"k": 0}, {"k": 2}, {"k": 4}]
    assert all(isinstance(row, BadRow) and row.error["type"] == "EncodeError" for row in bad)
    assert bad[0].raw == "<Unspeakable>"
    assert "0x…" in bad[1].raw  # the same in every run


def test_only_sources_of_bytes_with_a_length_tell_how_far_they_are(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"k":1}\n' * 10)
    with Tap(JSONInputAdapter(path)) as tap:
        assert len(tap.rest()) == 1
        assert tap.feeder.consumed(0) == 0.0
        assert tap.feeder.consumed(10**9) == 1.0
    with Tap(IterableInputAdapter([1])) as tap:
        assert tap.feeder.consumed(0) is None


def test_with_a_limit_the_fraction_is_of_what_will_be_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("n\n" + "1\n" * 1000)
    with Tap(CSVInputAdapter(path, limit=10, skip_rows=5)) as tap:
        tap.rest()
        assert [tap.feeder.consumed(done) for done in (0, 5, 10)] == [0.0, 0.5, 1.0]
    with Tap(CSVInputAdapter(path, limit=10_000)) as tap:
        tap.rest()
        assert [tap.feeder.consumed(done) for done in (500, 1000)] == [0.5, 1.0]
    with Tap(IterableInputAdapter(count(), limit=4)) as tap:
        tap.rest()
        assert tap.feeder.consumed(1) == 0.25
    with Tap(IterableInputAdapter([1], limit=0)) as tap:
        assert tap.feeder.consumed(0) is None


def test_the_seconds_spent_reading_are_told_and_those_of_waiting_are_not() -> None:
    with Tap(IterableInputAdapter(range(500)), chunksize=100) as tap:
        # Two chunks are ready and nobody takes them: the feeder waits for us, not for the source.
        end = monotonic() + 0.1
        while monotonic() < end:
            tap.look()
        tap.rest()
    assert tap.feeder.seconds < 0.1


def test_an_extension_of_msgpack_does_not_travel_and_its_neighbours_do() -> None:
    foreign = msgpack.ExtType(1, codec.dumps(["this", "Anything", "x"]))
    with Tap(IterableInputAdapter([{"a": 1}, {"a": foreign}, {"a": [3]}]), packed=True) as tap:
        (chunk,) = tap.rest()
    rows = codec.loads(codec.decompress(chunk.payload))
    assert (rows[0], rows[2]) == ({"a": 1}, {"a": [3]})
    assert isinstance(rows[1], BadRow)
    assert "this" not in sys.modules
