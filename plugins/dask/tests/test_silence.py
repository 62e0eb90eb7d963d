"""Code that holds the interpreter lock: its worker can say nothing, not even where it is."""

from __future__ import annotations

import ctypes
import json
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from manyhands import BaseHook, Chunk, ChunkKind
from manyhands.executor import Progress
from manyhands.worker.cell import ProgressCell
from manyhands_dask import DaskExecutor
from manyhands_dask.hand import Hand
from manyhands_dask.keeper import Keeper
from manyhands_dask.tasks import Task

from .clusters import cluster
from .deeds import pipe_to


class Holds(BaseHook):
    """One record lets nothing else run."""

    def execute(self, entries: list[Any], store: Any) -> None:
        for entry in entries:
            time.sleep(0.03)
            if entry["raw_data"]["k"] == 6:
                ctypes.PyDLL(None).sleep(10)


@pytest.mark.parametrize("options", [(), ("--no-nanny",)], ids=["nanny", "no nanny"])
def test_a_record_that_holds_the_lock_too_long_is_given_up_alone(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manyhands_dask.hand._END_SECONDS", 0.5)
    with cluster(3 if options else 2, *options) as made:
        executor = DaskExecutor(address=made.address, chunksize=20)
        pipe = pipe_to(tmp_path, 20, executor, Holds(), record_timeout=1.0)
        pipe.max_hook_chunk_size = 1
        pipe.start()
        assert pipe.report.wait(60)
        assert (pipe.report.ok, pipe.report.dead) == (19, 1)
    (letter,) = map(json.loads, (tmp_path / "errors.jsonl").read_text().splitlines())
    assert letter["position"] == 6
    assert letter["errors"][0]["type"] == "RecordTimeout"


def silent(chunk: Chunk, *, keeper: Keeper | None = None) -> tuple[Hand, Task, ProgressCell]:
    """A worker that says nothing while it has a chunk."""
    hand: Any = Hand("there", {}, 1, None, None)  # type: ignore[arg-type]  # neither is used but for the next line
    hand._shop = type("Shop", (), {"batch_size": None})
    hand._words, hand._heard_at, hand._keeper = [0], float("-inf"), keeper
    return hand, Task(chunk, Future(), hand, hand.seats[0], has_begun=True), ProgressCell(hand._words)


CHUNK = Chunk(3, 0, 20, ChunkKind.PACKED, b"")


def test_who_says_nothing_may_be_anywhere_behind_where_it_was() -> None:
    hand, task, cell = silent(CHUNK)
    assert hand.progress(task) == Progress("pre", 0, 20)
    cell.begin(CHUNK)
    assert hand.progress(task) == Progress("pre", 0, 20)
    cell.record("post", 7)
    assert hand.progress(task) == Progress("post", 7, 20)
    cell.batch("pack", 0)
    assert hand.progress(task) == Progress("pack", 0, 20)


def test_what_its_nanny_says_is_taken_as_it_is() -> None:
    hand, task, cell = silent(CHUNK, keeper=object())  # type: ignore[arg-type]  # it is not called
    assert hand.progress(task) is None
    cell.begin(CHUNK)
    cell.record("post", 7)
    assert hand.progress(task) == Progress("post", 7, 8)
