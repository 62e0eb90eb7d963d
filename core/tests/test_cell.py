"""The progress word: what it can hold, and that it is right at every moment at which a worker may die."""

from __future__ import annotations

import asyncio
from array import array
from dataclasses import replace
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, PlainSerializer

from manyhands.chunks import Chunk, ChunkKind
from manyhands.errors import ProtocolError
from manyhands.executor import Progress
from manyhands.records import Entry
from manyhands.worker.cell import STAGES, ProgressCell, read_progress
from manyhands.worker.context import WorkerContext
from manyhands.worker.encode import JSONEncoder
from manyhands.worker.pipeline import process_chunk_on_worker
from manyhands.worker.rows import JSONLinesDecoder

from .workers import Awaits, Does, as_list, as_raw, working

SEQUENCES = st.one_of(st.integers(0, 5), st.integers(2**32 - 3, 2**32 + 3), st.integers(0, 2**40))
INDEXES = st.one_of(st.integers(0, 9), st.integers(2**24 - 9, 2**24 - 1))


def chunk_of(sequence: int, lo: int, hi: int) -> Chunk:
    return Chunk(sequence, 0, 2**24, ChunkKind.LIST, [], lo=lo, hi=hi)


@given(
    sequence=SEQUENCES,
    index=INDEXES,
    stage=st.sampled_from(STAGES[1:]),
    size=st.one_of(st.none(), st.integers(1, 2**24)),
)
@settings(derandomize=True, deadline=None)
def test_a_word_says_what_was_put_into_it(sequence: int, index: int, stage: str, size: int | None) -> None:
    words = array("Q", [0])
    cell, chunk = ProgressCell(words), chunk_of(sequence, 0, 2**24)
    cell.begin(chunk)
    assert read_progress(words[0], chunk, size) == Progress("unpack", 0, 2**24)
    cell.record(stage, index)
    assert read_progress(words[0], chunk, size) == Progress(stage, index, index + 1)
    cell.batch(stage, index)
    whole = size is None or stage in ("unpack", "pack")
    assert read_progress(words[0], chunk, size) == Progress(stage, index, 2**24 if whole else min(index + size, 2**24))
    assert read_progress(words[0], chunk_of(sequence + 1, 0, 9), size) is None
    cell.overlap()
    overlapping = read_progress(words[0], chunk, size)
    assert overlapping == Progress(stage, index, 2**24 if whole else min(index + size, 2**24), overlap=True)
    cell.overlap()
    assert read_progress(words[0], chunk, size) == overlapping
    assert read_progress(words[0], chunk_of(sequence + 1, 0, 9), size) is None
    cell.record(stage, index)
    cell.overlap()
    assert read_progress(words[0], chunk, size) == Progress(stage, index, index + 1, overlap=True)
    cell.end()
    assert read_progress(words[0], chunk, size) is None
    cell.overlap()
    assert read_progress(words[0], chunk, size) is None


def test_a_cell_that_was_never_written_says_nothing() -> None:
    assert read_progress(0, chunk_of(0, 0, 9)) is None


def test_a_narrowed_chunk_begins_with_its_own_range() -> None:
    words = memoryview(bytearray(8)).cast("Q")
    chunk = chunk_of(3, 4, 7)
    ProgressCell(words).begin(chunk)
    assert read_progress(words[0], chunk) == Progress("unpack", 4, 7)
    words.release()


class Observed:
    """A job in which every function of the person's notes what the cell says while it runs."""

    def __init__(self, chunk: Chunk, size: int | None = None) -> None:
        self.words = array("Q", [0])
        self.chunk = chunk
        self.size = size
        self.log: list[tuple[str, Progress | None]] = []

    def note(self, what: Any) -> None:
        self.log.append((str(what), read_progress(self.words[0], self.chunk, self.size)))

    def hook(self, name: str, *, later: bool = False, order: int = 1) -> Does:
        def look(given: list[Entry], store: Any) -> list[Entry]:
            self.note(f"{name} {[entry['position'] for entry in given]}")
            return given[::order]

        async def look_later(given: list[Entry], store: Any) -> None:
            await asyncio.sleep(0)
            look(given, store)

        return Awaits(look_later) if later else Does(look)

    def model(self) -> type[BaseModel]:
        def check(value: int) -> int:
            self.note(f"check {value}")
            return value

        class Model(BaseModel):
            a: Annotated[int, AfterValidator(check)]

        return Model

    def run(self, **job: Any) -> list[tuple[str, Progress | None]]:
        with working(WorkerContext(cell=ProgressCell(self.words), max_hook_chunk_size=self.size, **job)) as context:
            process_chunk_on_worker(self.chunk, context)
        assert read_progress(self.words[0], self.chunk) is None
        return self.log


def numbers(*given: Any) -> Chunk:
    return as_list([{"a": value} for value in given], sequence=5, start=100)


@pytest.mark.parametrize("encoder", [None, JSONEncoder()])
@pytest.mark.parametrize("lo", [0, 1])
def test_the_cell_names_the_record_that_is_validated(encoder: Any, lo: int) -> None:
    job = Observed(replace(numbers(0, "x", 2, 3), lo=lo))
    log = job.run(schema_model=job.model(), encoder=encoder)
    assert log == [(f"check {n}", Progress("validate", n, n + 1)) for n in (0, 2, 3) if n >= lo]


def test_the_cell_names_the_batch_that_a_hook_runs_on() -> None:
    job = Observed(numbers(0, 1, 2, 3, 4), size=2)
    log = job.run(pre_hooks=[job.hook("pre")], post_hooks=[job.hook("post")])
    assert [entry for entry in log if entry[0].startswith("pre")] == [
        ("pre [100, 101]", Progress("pre", 0, 2)),
        ("pre [102, 103]", Progress("pre", 2, 4)),
        ("pre [104]", Progress("pre", 4, 5)),
    ]
    assert [progress for name, progress in log if name.startswith("post")] == [
        Progress("post", 0, 2), Progress("post", 2, 4), Progress("post", 4, 5),
    ]  # fmt: skip


def test_the_cell_names_the_record_that_an_async_hook_runs_on_alone() -> None:
    job = Observed(numbers(0, 1))
    assert job.run(post_hooks=[job.hook("post", later=True)]) == [
        ("post [100]", Progress("post", 0, 1)),
        ("post [101]", Progress("post", 1, 2)),
    ]


def test_the_cell_names_no_single_record_while_several_are_under_way() -> None:
    job = Observed(numbers(0, 1))
    log = job.run(post_hooks=[job.hook("post", later=True)], concurrency=2)
    assert [progress for _, progress in log] == [Progress("post", 0, 2, overlap=True)] * 2


def test_the_cell_names_the_right_record_when_hooks_dropped_and_reordered() -> None:
    job = Observed(numbers(0, 1, 2, 3, 4, 5))
    drop = Does(lambda given, store: [entry for entry in given if entry["position"] not in (100, 102)])
    log = job.run(schema_model=job.model(), pre_hooks=[drop, job.hook("pre", order=-1)], post_hooks=[job.hook("post")])
    assert log == [
        ("pre [101, 103, 104, 105]", Progress("pre", 1, 6)),
        ("check 5", Progress("validate", 5, 6)),
        ("check 4", Progress("validate", 4, 5)),
        ("check 3", Progress("validate", 3, 4)),
        ("check 1", Progress("validate", 1, 2)),
        ("post [105, 104, 103, 101]", Progress("post", 1, 6)),
    ]


def test_the_cell_names_each_record_of_a_replay() -> None:
    job = Observed(numbers(0, 1, 2))
    fail = Does(lambda given, store: 1 / 0 if len(given) > 1 else None)
    assert job.run(pre_hooks=[job.hook("pre"), fail])[1:] == [
        (f"pre [{100 + n}]", Progress("pre", n, n + 1)) for n in range(3)
    ]


def test_the_cell_names_the_record_that_is_written() -> None:
    job = Observed(numbers(0, 1, 2), size=2)

    def write(value: int) -> int:
        job.note(f"write {value}")
        return value

    class Model(BaseModel):
        a: Annotated[int, PlainSerializer(write)]

    for more in ({}, {"pre_hooks": [Does(lambda given, store: None)]}):
        job.log.clear()
        log = job.run(schema_model=Model, encoder=JSONEncoder(), **more)
        assert log == [(f"write {n}", Progress("pack", n, n + 1)) for n in range(3)]
    job.log.clear()
    log = job.run(schema_model=Model, encoder=JSONEncoder(), post_hooks=[Does(lambda given, store: None)])
    assert [progress for _, progress in log] == [Progress("validate", 0, 2)] * 2 + [Progress("validate", 2, 3)]


def test_decoding_is_under_way_until_a_record_is_named() -> None:
    job = Observed(as_raw(b'{"a": 1}\n{"a": 2}\n', 2))

    class Decoder(JSONLinesDecoder):
        def rows(self, block: bytes) -> list[Any]:
            job.note("decode")
            return super().rows(block)

    log = job.run(schema_model=job.model(), decoder=Decoder(), json_input=True, encoder=JSONEncoder())
    assert log[0] == ("decode", Progress("unpack", 0, 2))


def test_a_worker_that_could_not_run_a_chunk_is_idle() -> None:
    job = Observed(as_raw(b"{}", 1))
    with pytest.raises(ProtocolError, match="without a decoder"):
        job.run()
    assert job.words[0] >> 28 & 0b111 == 0
