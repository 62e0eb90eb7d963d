"""The shards of an input give together what the whole gives: the same blocks, positions and lines, nothing twice."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from tests.random_files import random_input

from manyhands import CSVInputAdapter, IterableInputAdapter, JSONInputAdapter, JSONOutputAdapter, Pipe
from manyhands.adapters import blocks as blocks_module
from manyhands.adapters import csv as csv_module
from manyhands.adapters.base import BaseInputAdapter
from manyhands.engines.shards import Shard, ShardInput, Shards, open_blocks
from manyhands.errors import InputError, UsageError
from manyhands_sync import SyncFifoExecutor


def pipe_of(adapter: BaseInputAdapter, chunksize: int | None) -> Pipe:
    return Pipe(adapter, JSONOutputAdapter(Path("never-written.jsonl")), executor=SyncFifoExecutor(chunksize=chunksize))


def blocks_of(adapter: BaseInputAdapter, chunksize: int | None) -> list[tuple[int, int | None, bytes]]:
    """Position, line and bytes of each block; those behind the limit may or may not be read."""
    source, position, found = open_blocks(adapter) if not isinstance(adapter, ShardInput) else adapter.open(), 0, []
    position = adapter.position
    last = None if adapter.limit is None else adapter.skip_rows + adapter.limit
    for block in source.blocks(chunksize):
        if last is None or position < last:
            found.append((position, block.line, block.data))
        position += block.count
    source.close()
    return found


def parts_of(adapter: BaseInputAdapter, shards: Iterable[Shard], chunksize: int | None = None) -> list[Any]:
    return list(chain.from_iterable(blocks_of(ShardInput(adapter, shard), chunksize) for shard in shards))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small files have many."""
    monkeypatch.setattr(blocks_module, "BLOCK_BYTES", 48)
    monkeypatch.setattr(csv_module, "BLOCK_BYTES", 48)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("seed", range(20))
def test_shards_have_the_blocks_of_the_whole(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    for _ in range(100):
        adapter, count, chunksize = random_input(rng, tmp_path), rng.randint(1, 9), rng.choice((None, None, 1, 3))
        try:
            whole = blocks_of(adapter, chunksize)
        except InputError:  # a column twice, for example
            continue
        shards = list(Shards(pipe_of(adapter, chunksize), count))
        assert len(shards) == count
        assert parts_of(adapter, shards, chunksize) == whole


@pytest.mark.usefixtures("small_blocks")
def test_shards_are_about_equally_long(tmp_path: Path) -> None:
    file = tmp_path / "long.csv"
    file.write_text("a,b\n" + "1,2\n" * 1000)
    adapter = CSVInputAdapter(file)
    sizes = [
        sum(len(data) for *_, data in blocks_of(ShardInput(adapter, s), None))
        for s in Shards(pipe_of(adapter, None), 4)
    ]
    assert sum(sizes) == 4000
    assert all(abs(size - 1000) <= 48 for size in sizes)


def test_a_shard_is_known_before_what_is_behind_it_has_been_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "input.csv"
    file.write_text("a\n1\n2\n")
    shards = Shards(pipe_of(CSVInputAdapter(file), None), 2)
    monkeypatch.setattr(blocks_module.BlockSource, "blocks", lambda *_: pytest.fail("it was read"))
    assert shards[0].offset == 0


def test_a_record_that_spans_several_blocks_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "input.csv"
    file.write_text("a,b\n" + "".join(f'{n},"{"x" * 300_000}\n"\n' for n in range(8)))
    adapter = CSVInputAdapter(file)
    whole = blocks_of(adapter, None)
    for count in (2, 3, 8):
        assert parts_of(adapter, Shards(pipe_of(adapter, None), count)) == whole


@pytest.mark.parametrize(
    ("adapter", "why"),
    [
        (IterableInputAdapter([1, 2]), "IterableInputAdapter cannot be cut into shards: it has no file"),
        (JSONInputAdapter(Path("array.json")), "only CSV and JSON lines can"),
        (CSVInputAdapter(Path("pipe.csv")), "no regular file"),
    ],
)
def test_what_cannot_be_cut_is_refused(
    adapter: BaseInputAdapter, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("array.json").write_text("[]")
    os.mkfifo("pipe.csv")
    with pytest.raises(UsageError, match=why):
        Shards(pipe_of(adapter, None), 2)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-be", "latin-1"])
def test_other_encodings_are_cut_as_well(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "input.csv"
    file.write_text("a,b\n" + "".join(f'{n},"é{n}\n"\n' for n in range(3000)), encoding=encoding)
    adapter = CSVInputAdapter(file, encoding=encoding)
    whole = blocks_of(adapter, None)
    assert len(whole) > 100
    for count in (2, 3, 7):
        shards = list(Shards(pipe_of(adapter, None), count))
        assert len({shard.offset for shard in shards}) == count
        assert parts_of(adapter, shards) == whole
