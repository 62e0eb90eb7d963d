"""Several short chunks in one call of a worker: none is lost, run too often for anybody, or blamed for another."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from time import sleep
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, field_validator

from manyhands import IterableInputAdapter, MemoryOutputAdapter, Pipe, Pool, RunOptions
from manyhands.chunks import ChunkKind
from manyhands.hooks import BaseHook
from manyhands_ray import RayExecutor, supervisor
from manyhands_ray import hand as hands
from manyhands_ray.line import Task
from manyhands_ray.parcels import Parcels

from .support import LIMIT, Head, connected, wait_until


@pytest.fixture(scope="module", autouse=True)
def here(cluster: Head) -> Iterator[None]:
    """The program is connected."""
    with connected(cluster.address):
        yield


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many chunks the calls had, in order."""
    seen: list[int] = []
    give = hands.Hand.give

    def note(self: hands.Hand, tasks: list[Task], then: Any) -> None:
        seen.append(len(tasks))
        give(self, tasks, then)

    monkeypatch.setattr(hands.Hand, "give", note)
    return seen


class Row(BaseModel):
    """Does what it says when it is validated."""

    model_config = ConfigDict(strict=True)
    n: int
    do: str = ""

    @field_validator("do")
    @classmethod
    def deed(cls, do: str) -> str:
        what, _, where = do.partition(" ")
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "nap":
            sleep(float(where))
        if what == "wait":
            (Path(where) / f"{os.getpid()}").touch()
            while not (Path(where) / "go").exists():
                sleep(0.01)
        return do


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks share calls though the schema calls code, for deeds that only code can do."""
    monkeypatch.setattr(supervisor, "calls_code", lambda *_: False)


class Plain(BaseModel):
    """Calls no code."""

    n: int
    do: str = ""


def rows(count: int, deeds: dict[int, str] | None = None) -> list[dict[str, Any]]:
    return [{"n": n, "do": (deeds or {}).get(n, "")} for n in range(count)]


def make(
    records: Iterable[Any], schema: type[BaseModel] = Row, *, run: RunOptions | None = None, **options: Any
) -> Pipe:
    executor = RayExecutor(**{"max_workers": 2, "chunksize": 1, **options})
    outputs = MemoryOutputAdapter(), MemoryOutputAdapter()
    return Pipe(IterableInputAdapter(records), *outputs, schema, executor, options=run)


def check(pipe: Pipe, count: int, dead: dict[int, str]) -> None:
    """Each record has one outcome, in the order of the input, and these are dead, of what the second says."""
    output: Any = pipe.output_adapter
    errors: Any = pipe.error_output_adapter
    assert [entry["validated_data"]["n"] for entry in output.results] == [n for n in range(count) if n not in dead]
    found = {entry["raw_data"]["n"]: entry["errors"][0]["type"] for entry in errors.results}
    assert found == dead
    assert len(errors.results) == len(dead)


def test_short_chunks_share_calls(sizes: list[int]) -> None:
    pipe = make(rows(3000), Plain)
    pipe.run()
    check(pipe, 3000, {})
    assert max(sizes) == 5  # twice that for each worker, and 20 in flight at most
    assert len(sizes) < 1000
    sizes.clear()
    pipe = make(rows(3000), Plain, max_inflight=None)
    pipe.run()
    check(pipe, 3000, {})
    assert max(sizes) == 8


@pytest.mark.usefixtures("blind")
def test_long_chunks_do_not(sizes: list[int]) -> None:
    pipe = make([{"n": n, "do": "nap 0.03"} for n in range(40)])
    pipe.run()
    check(pipe, 40, {})
    assert max(sizes) == 1


class Counts(BaseHook):
    """Writes down each record that it sees."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def execute(self, entries: list[Any], store: Any) -> None:
        with (self.folder / f"{os.getpid()}").open("a") as seen:
            for entry in entries:
                seen.write(f"{entry['raw_data']['n']}\n")


def test_what_somebody_watches_goes_alone(sizes: list[int], tmp_path: Path) -> None:
    executor = RayExecutor(max_workers=2, chunksize=1)
    Pipe(IterableInputAdapter(rows(300)), MemoryOutputAdapter(), None, None, executor, [Counts(tmp_path)]).run()
    seen = [int(line) for path in tmp_path.iterdir() for line in path.read_text().split()]
    assert sorted(seen) == list(range(300))
    named: Any = {"id_generator": str}
    for schema, options in ((Row, {}), (Plain, named)):
        executor = RayExecutor(max_workers=2, chunksize=1)
        report = Pipe(IterableInputAdapter(rows(300)), MemoryOutputAdapter(), None, schema, executor, **options).run()
        assert report.ok == 300
    with Pool(2, "ray") as pool:
        assert list(pool.map(abs, range(300), chunksize=1)) == list(range(300))
    assert set(sizes) == {1}


@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize("max_workers", [1, 2])
def test_records_that_kill(max_workers: int, sizes: list[int]) -> None:
    killers = dict.fromkeys((150, 151, 400), "die")
    pipe = make(rows(600, killers), max_workers=max_workers)
    pipe.run()
    check(pipe, 600, dict.fromkeys(killers, "WorkerLost"))
    assert max(sizes) > 1


@pytest.mark.usefixtures("blind")
@pytest.mark.parametrize("limit", ["record_timeout", "chunk_timeout"])
@pytest.mark.parametrize("max_workers", [1, 2])
def test_records_that_hang(limit: str, max_workers: int, sizes: list[int]) -> None:
    """Not those that had run in the same call, and wait with it."""
    hang = dict.fromkeys((150, 203), "nap 600")
    options: dict[str, Any] = {limit: 0.5}
    pipe = make(rows(300, hang), run=RunOptions(**options), max_workers=max_workers)
    pipe.run()
    check(pipe, 300, dict.fromkeys(hang, "RecordTimeout"))
    assert max(sizes) > 1


@pytest.mark.usefixtures("blind")
def test_nothing_waits_for_a_slow_record_in_its_call(tmp_path: Path, sizes: list[int]) -> None:
    pipe = make(rows(400, {200: f"wait {tmp_path}"}), run=RunOptions(ordered=False))
    report = pipe.start()
    wait_until(lambda: report.ok == 399, "the other worker has done all the rest")
    (tmp_path / "go").touch()
    assert report.wait(LIMIT)
    assert report.counts["ok"] == 400
    assert max(sizes) > 1


@pytest.mark.usefixtures("blind")
def test_workers_that_somebody_kills(cluster: Head) -> None:
    """At random moments: whoever was at work then may be run again, and nobody else is blamed."""
    random = Random(7)
    slow = {n: "nap 0.002" for n in range(2000) if random.random() < 0.1}
    pipe = make(rows(2000, slow))
    report = pipe.start()
    wait_until(lambda: report.ok > 50, "there is something done")
    for _ in range(5):
        sleep(0.2 * random.random())
        for actor in cluster.actors()[:1]:
            actor.kill()
    assert report.wait(LIMIT)
    check(pipe, 2000, {})


def test_short_chunks_before_long_ones(sizes: list[int]) -> None:
    """A call with several of these takes so long that it is stopped, time and again."""
    lengths = [*[1] * 200, *[10 << 20] * 6]
    pipe = make(({"n": n, "do": "x" * length} for n, length in enumerate(lengths)), Plain, max_workers=1)
    report = pipe.start()
    assert report.wait(2 * LIMIT)
    check(pipe, len(lengths), {})
    assert max(sizes) > 1


@pytest.mark.usefixtures("blind")
def test_an_aborted_run_ends(tmp_path: Path) -> None:
    report = make(rows(400, {200: f"wait {tmp_path}"})).start()
    wait_until(lambda: list(tmp_path.iterdir()), "a worker waits")
    report.abort()
    assert report.wait(LIMIT)


def test_the_size_of_a_call() -> None:
    parcels = Parcels(None, alone=False)
    sizes = []
    for given, ran, seconds in [
        (1, 1, 0.001),
        (2, 2, 0.001),
        (4, 4, 0.01),
        (4, 4, 0.004),
        (8, 8, 0.001),
        (8, 3, 0.006),
    ]:
        parcels.learn(given, ran, seconds)
        sizes.append(parcels.size(2))
    assert sizes == [2, 4, 4, 8, 8, 4]
    parcels.learn(4, 4, 0.1)
    assert parcels.size(2) == 2
    parcels.see(ChunkKind.CALLS)
    parcels.learn(1, 1, 0.001)
    assert parcels.size(2) == 1
    alone = Parcels(None, alone=True)
    alone.learn(1, 1, 0.001)
    assert alone.size(2) == 1
