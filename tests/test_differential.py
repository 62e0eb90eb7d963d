"""The same job on every installed backend: the same bytes in the output, in the error output and among the dead.

What one backend does alone proves little here: the reference is the one in which nothing is concurrent.
"""

from __future__ import annotations

import decimal
import json
import os
import re
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cache
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands import CSVOutputAdapter, JSONOutputAdapter, MemoryOutputAdapter, Pipe, RunOptions
from manyhands.adapters.base import BaseInputAdapter, BaseOutputAdapter

from .backends import (
    CLUSTERS,
    FOUND,
    IN_OTHER_PROCESSES,
    NOT_INLINE,
    OTHERS,
    PLUGINS,
    REFERENCE,
    every_backend,
    every_other_backend,
    make,
    variants,
)
from .differential_jobs import (
    JOBS,
    KILLERS,
    SIMPLE,
    Careful,
    Drop,
    DropAsync,
    Fail,
    FailAsync,
    Hits,
    Item,
    Job,
    Kill,
    KillAsync,
    Lethal,
    Lookup,
    Mark,
    MarkAsync,
    Point,
    Stuck,
    StuckAsync,
    Unencodable,
    csv_file,
    json_file,
    name_entry,
    python,
)
from .test_accounting import CSV_PIECES, JSON_PIECES, JSON_VALUES, PROPERTIES
from .test_flights import EXAMPLE, ROOT, Outputs, copy_of_example, manyhands_command, results
from .test_flights import run as command_line


@dataclass(frozen=True)
class Result:
    """What a run leaves."""

    output: bytes
    errors: bytes
    counts: dict[str, int]


@pytest.fixture(autouse=True, scope="module")
def _surroundings() -> Iterator[None]:
    """What a program sets and its hooks expect everywhere: neither is the default."""
    with pytest.MonkeyPatch.context() as patch, decimal.localcontext(prec=9, rounding=decimal.ROUND_UP):
        patch.setenv("TZ", "Asia/Kathmandu")
        time.tzset()
        yield
    time.tzset()


def make_pipe(
    job: Job, name: str, folder: Path, output: BaseOutputAdapter, errors: BaseOutputAdapter, **how: Any
) -> Pipe:
    asked = {option: how.pop(option) for option in ("ordered", "record_timeout") if option in how}
    return Pipe(
        job.source(folder),
        output,
        errors,
        job.schema,
        make(name, **how),
        job.pre,
        job.post,
        max_hook_chunk_size=job.batch,
        id_generator=job.make_id,
        options=RunOptions(**asked),
    )


def run(job: Job, name: str, folder: Path, **how: Any) -> Result:
    """Run a job to its end.

    Args:
        job: the job.
        name: of the backend.
        folder: for its files.
        how: options of the backend and of the run.
    """
    output, errors = folder / job.output, folder / "errors.jsonl"
    adapter = (CSVOutputAdapter if output.suffix == ".csv" else JSONOutputAdapter)(output)
    counts = make_pipe(job, name, folder, adapter, JSONOutputAdapter(errors), **how).run().counts
    return Result(output.read_bytes(), errors.read_bytes(), counts)


@cache
def expected(title: str, chunksize: int | None) -> Result:
    """What the reference makes of a job."""
    with TemporaryDirectory() as folder:
        return run(JOBS[title], REFERENCE, Path(folder), chunksize=chunksize)


def test_every_backend_of_this_house_takes_part():
    assert [found for found in FOUND if found.error] == []
    assert set(PLUGINS) <= {found.name for found in FOUND}
    assert OTHERS


@pytest.mark.parametrize("title", JOBS)
@every_backend
def test_a_job_gives_the_same_bytes(title, name, tmp_path):
    """Of any chunk size too, where what comes out does not depend on who shares a batch."""
    job = JOBS[title]
    for chunksize in (5, 1000) if job.by_batch else (None, 7) if job.pre or job.post else (None,):
        assert run(job, name, tmp_path, chunksize=chunksize) == expected(title, chunksize if job.by_batch else None)


@pytest.mark.parametrize("title", JOBS)
def test_no_job_is_trivial(title):
    """Something is written, and what should go wrong does."""
    counts = expected(title, 5 if JOBS[title].by_batch else None).counts
    assert counts["ok"] >= 10
    assert counts["rejected"] or title in ("csv, some rows of hooks", "typed dict")
    assert counts["dropped"] or not any(isinstance(hook, Drop) for hook in (*JOBS[title].pre, *JOBS[title].post))


@pytest.mark.parametrize("title", ["hooks", "all kinds", "json lines without schema"])
@pytest.mark.parametrize("variant", variants("compression", "start_method", of=OTHERS), ids=str)
def test_how_chunks_travel_changes_nothing(variant, title, tmp_path):
    assert run(JOBS[title], variant.name, tmp_path, chunksize=7, **variant.options) == expected(title, None)


@pytest.mark.parametrize("title", ["validators", "all kinds", "async hooks"])
@every_backend
def test_batch_validation_changes_nothing(title, name, tmp_path):
    assert run(JOBS[title], name, tmp_path, chunksize=7, use_batch_validation=True) == expected(title, None)


@pytest.mark.parametrize("title", ["csv", "async hooks"])
@every_backend
def test_without_order_the_same_lines_are_written(title, name, tmp_path):
    found, wanted = run(JOBS[title], name, tmp_path, chunksize=3, ordered=False), expected(title, None)
    assert found.counts == wanted.counts
    assert sorted(found.output.splitlines()) == sorted(wanted.output.splitlines())
    assert sorted(found.errors.splitlines()) == sorted(wanted.errors.splitlines())


def exactly(value: Any) -> Any:
    """The value such that equal means of equal type too, at every depth."""
    if isinstance(value, dict):
        return [(exactly(key), exactly(item)) for key, item in value.items()]
    if isinstance(value, set | frozenset):
        return type(value), sorted(map(repr, value))
    if isinstance(value, list | tuple):
        return type(value), list(map(exactly, value))
    return type(value), repr(value)


@cache
def expected_entries(title: str) -> tuple[Any, Any, Any]:
    with TemporaryDirectory() as folder:
        return entries_of(JOBS[title], REFERENCE, Path(folder))


def entries_of(job: Job, name: str, folder: Path) -> tuple[Any, Any, Any]:
    """The entries in memory, the error records, and what is streamed."""
    output, errors = MemoryOutputAdapter(), MemoryOutputAdapter()
    make_pipe(job, name, folder, output, errors, chunksize=7).run()
    streamed = list(make_pipe(job, name, folder, MemoryOutputAdapter(), MemoryOutputAdapter(), chunksize=7).stream())
    return exactly(output.results), exactly(errors.results), exactly(streamed)


@pytest.mark.parametrize("title", ["json lines", "all kinds through hooks", "hooks"])
@every_other_backend
def test_entries_are_the_same_down_to_their_types(title, name, tmp_path):
    assert entries_of(JOBS[title], name, tmp_path) == expected_entries(title)


@pytest.fixture(scope="module")
def flights(tmp_path_factory) -> Path:
    """The flights example as a newcomer has it, with the first 20,000 rows of the table, or those of the sample."""
    folder = tmp_path_factory.mktemp("example")
    table = Path(os.environ.get("MANYHANDS_FLIGHTS") or ROOT.parent / "shared" / "data" / "flights.csv.zip")
    if table.suffix == ".zip" and table.is_file():
        with zipfile.ZipFile(table) as archive, archive.open("flights.csv") as rows:
            data = b"".join(islice(rows, 20_001))
    else:
        with (table if table.is_file() else EXAMPLE / "flights.csv").open("rb") as rows:
            data = b"".join(islice(rows, 20_001))
    (folder / "table.csv").write_bytes(data)
    return copy_of_example(folder, folder / "table.csv")


@pytest.fixture(scope="module")
def flights_by_reference(flights):
    return fly(flights, REFERENCE)


def fly(folder: Path, name: str) -> tuple[Outputs, dict[str, int]]:
    """What the command makes of the example on this backend, with its own defaults."""
    report = folder / "report.json"
    command = (manyhands_command(), "run", folder / "job.toml", "--executor", name, "--report", report)
    command_line(*command, "--progress", "none", folder=folder.parent)
    return results(folder), json.loads(report.read_text(encoding="utf-8"))["counts"]


@every_other_backend
def test_the_flights_example_gives_the_same_bytes(name, flights, flights_by_reference):
    assert flights_by_reference[1]["ok"] > 10_000
    assert flights_by_reference[1]["rejected"] > 10
    assert fly(flights, name) == flights_by_reference


def dead_letters(positions: Iterable[int], reason: str, stage: str, message: str) -> bytes:
    """The error records of the dead among the rows of `SIMPLE`."""
    error = {"type": reason, "message": f"{message} in stage {stage}", "loc": []}
    letters = [
        {
            "position": position,
            "line": position + 2,
            "outcome": "dead",
            "raw_data": {"a": str(position), "b": f"row {position}"},
            "errors": [error],
            "metadata": {},
        }
        for position in sorted(positions)
    ]
    return b"".join(json.dumps(letter, separators=(",", ":")).encode() + b"\n" for letter in letters)


LETHAL = {
    "validate": {"schema": Lethal},
    "pre": {"pre": [Kill()]},
    "post": {"post": [Kill()]},
    "pre, async": {"pre": [KillAsync()]},
}


@pytest.mark.parametrize("chunksize", [1, 7, 1000])
@pytest.mark.parametrize("stage", LETHAL)
@pytest.mark.parametrize("name", IN_OTHER_PROCESSES)
def test_the_dead_are_the_same_whatever_the_chunk_size(name, stage, chunksize, tmp_path):
    job = Job(source=csv_file(SIMPLE), **LETHAL[stage])
    found = run(job, name, tmp_path, chunksize=chunksize)
    message = "the worker died (SIGKILL)"
    # Ray has another word for it, because it does not know the signal.
    errors = re.sub(rb"the worker died \([^)]*\)", message.encode(), found.errors) if CLUSTERS else found.errors
    assert errors == dead_letters(KILLERS, "WorkerLost", stage.partition(",")[0], message)
    assert (found.counts["ok"], found.counts["dead"]) == (90 - len(KILLERS), len(KILLERS))


@pytest.mark.parametrize("variant", variants("start_method", of=IN_OTHER_PROCESSES), ids=str)
def test_the_dead_are_the_same_however_workers_start(variant, tmp_path):
    job = Job(source=csv_file(SIMPLE), schema=Lethal)
    found = run(job, variant.name, tmp_path, chunksize=30, **variant.options)
    assert found.errors == dead_letters(KILLERS, "WorkerLost", "validate", "the worker died (SIGKILL)")


@pytest.fixture
def gate(tmp_path) -> Iterator[Path]:
    """Who waits for it to be opened may go when the test is over: what cannot be killed still runs then."""
    path = tmp_path / "gate"
    path.touch()
    yield path
    path.unlink()


@pytest.mark.parametrize(
    ("hook", "stage", "chunksize"),
    [(Stuck, "pre", 7), (Stuck, "post", 1), (StuckAsync, "pre", 1), (StuckAsync, "post", 7)],
)
@pytest.mark.parametrize("name", NOT_INLINE)
def test_who_takes_too_long_is_dead_alone(name, hook, stage, *, chunksize, gate, tmp_path):
    job = Job(source=csv_file(SIMPLE, limit=20), schema=Item, **{stage: [hook(gate, 10)]})
    found = run(job, name, tmp_path, chunksize=chunksize, record_timeout=0.5)
    assert found.errors == dead_letters([10], "RecordTimeout", stage, "took longer than record_timeout allows")
    assert (found.counts["ok"], found.counts["dead"]) == (19, 1)
    assert found.output == b"".join(b'{"a":%d,"b":"row %d"}\n' % (n, n) for n in range(20) if n != 10)


# The same of jobs that nobody thought of.

KINDS = [Mark, Drop, Fail, Fail, MarkAsync, DropAsync, FailAsync]


@st.composite
def hooks(draw: st.DrawFn, *more: type[Hits]) -> list[Hits]:
    kinds = draw(st.lists(st.sampled_from([*KINDS, *more]), max_size=3))
    rhythm, replay = st.tuples(st.integers(2, 7), st.integers(0, 6)), st.sampled_from([True, True, True, False])
    return [kind(*draw(rhythm), replay=draw(replay)) for kind in kinds]


@st.composite
def sources(draw: st.DrawFn) -> Callable[[Path], BaseInputAdapter]:
    part = {"skip_rows": draw(st.sampled_from([0, 0, 0, 2])), "limit": draw(st.sampled_from([None, None, 5]))}
    kind = draw(st.sampled_from(["csv", "lines", "array", "python"]))
    if kind == "csv":
        pieces = draw(st.lists(st.sampled_from(CSV_PIECES), max_size=30))
        return csv_file(b"a,b\n" + b"\n".join(pieces), **part)
    if kind == "lines":
        return json_file(b"\n".join(draw(st.lists(st.sampled_from(JSON_PIECES), max_size=30))), **part)
    if kind == "array":
        values = draw(st.lists(st.sampled_from(JSON_VALUES), max_size=30))
        return json_file(b"[" + b",".join(values) + b"]", "in.json", **part)
    values = [1, "2", "x", 1.5, float("nan"), None, Decimal(3), {"y", "x"}, date(2024, 1, 31), b"bytes", [1, {"c": 2}]]
    return python(draw(st.lists(st.fixed_dictionaries({"a": st.sampled_from(values)}), max_size=30)), **part)


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    return Job(
        source=draw(sources()),
        schema=draw(st.sampled_from([None, Item, Item, Point, Careful])),
        pre=draw(hooks()),
        post=draw(hooks(Lookup, Unencodable)),
        output=draw(st.sampled_from(["out.jsonl", "out.jsonl", "out.json", "out.csv"])),
        batch=draw(st.sampled_from([None, None, 1, 3])),
        make_id=draw(st.sampled_from([None, None, name_entry])),
    )


@every_other_backend
@settings(PROPERTIES, max_examples=12)
@given(
    job=jobs(),
    chunksize=st.integers(1, 9),
    how=st.fixed_dictionaries(
        {
            "use_batch_validation": st.booleans(),
            "compression": st.sampled_from([None, "lz4"]),
            "max_workers": st.integers(1, 4),
            "concurrency": st.integers(1, 4),
        }
    ),
)
def test_any_job_gives_the_same_bytes(name, job, chunksize, how, tmp_path):
    assert run(job, name, tmp_path, chunksize=chunksize, **how) == run(job, REFERENCE, tmp_path, chunksize=chunksize)
