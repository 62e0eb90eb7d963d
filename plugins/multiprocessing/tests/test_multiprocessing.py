"""The multiprocessing backend: how it is chosen, what can travel, and that its results are those of sync."""

from __future__ import annotations

import decimal
import json
import locale
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from manyhands import (
    BaseHook,
    CSVInputAdapter,
    IterableInputAdapter,
    JSONOutputAdapter,
    MemoryOutputAdapter,
    Pipe,
    get_executor,
)
from manyhands.config.build import build_pipe
from manyhands.config.load import load_job
from manyhands.errors import OptionsError, ProtocolError, UnpicklableError, WorkerInitError
from manyhands.processes.launch import StartMethod
from manyhands.processes.owner import Owner, owner_of
from manyhands_multiprocessing import MultiProcessEngine, MultiProcessingExecutor
from manyhands_multiprocessing.board import Board
from manyhands_sync import SyncFifoExecutor

from .deeds import Acts, Adds, Discovers, Measures, Plain, Surrounded, Values
from .support import make_pipe, rows, run

# How it is chosen.


def test_it_is_chosen_by_name_with_its_options() -> None:
    executor: Any = get_executor(
        "multiprocessing", schema_model=Plain, max_workers=3, chunksize=7, start_method="spawn"
    )
    assert type(executor) is MultiProcessingExecutor
    assert (executor.schema_model, executor.max_workers, executor.chunksize) == (Plain, 3, 7)
    assert (executor.start_method, executor.name) == ("spawn", "multiprocessing")


def test_a_job_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))  # a job looks for modules in its own folder
    (tmp_path / "rows.jsonl").write_text('{"n": 1}\n{"n": 2}\n')
    job = tmp_path / "job.toml"
    job.write_text("""
        [input]
        adapter = "jsonl"
        path = "rows.jsonl"
        [output]
        adapter = "json"
        path = "out.json"
        [executor]
        name = "multiprocessing"
        max_workers = 1
        chunksize = 1
        compression = "lz4"
    """)
    report = build_pipe(job, load_job(job)).run()
    assert (report.executor, report.ok) == ("multiprocessing", 2)
    assert json.loads((tmp_path / "out.json").read_text()) == [{"n": 1}, {"n": 2}]


def test_what_the_plugin_says_is_what_the_executor_can() -> None:
    (point,) = entry_points(group="manyhands", name="multiprocessing")
    backend, _ = point.load().manyhands_backends()  # and the engine
    assert backend.capabilities == MultiProcessingExecutor.capabilities
    options = backend.options(max_workers=2, chunksize=3, compression="lz4", max_chunks_per_worker=4)
    executor = MultiProcessingExecutor(**options.model_dump())
    assert (executor.max_workers, executor.chunksize, executor.compression) == (2, 3, "lz4")
    assert (executor.max_chunks_per_worker, executor.start_method) == (4, "forkserver")


def test_it_takes_what_the_seed_gives_it_by_place() -> None:
    executor = MultiProcessingExecutor(Plain, 4, 100, "lz4")
    assert (executor.schema_model, executor.max_workers, executor.chunksize) == (Plain, 4, 100)
    assert executor.compression == "lz4"
    assert MultiProcessingExecutor().max_workers == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_workers": 0}, "max_workers must be None or a number from 1, not 0"),
        ({"max_workers": "2"}, "max_workers must be None or a number from 1, not '2'"),
        ({"max_chunks_per_worker": 0}, "max_chunks_per_worker must be None or a number from 1, not 0"),
        ({"start_method": "fork"}, "start_method must be one of .*forkserver.*, not 'fork': a run has threads"),
        ({"start_method": "nonsense"}, "start_method must be one of .*forkserver.*, not 'nonsense'$"),
        ({"chunksize": 0}, "chunksize must be"),
        ({"compression": "zip"}, "compression must be None or 'lz4'"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_in_words(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionsError, match=words):
        MultiProcessingExecutor(**options)
    if options.keys() == {"start_method"}:
        with pytest.raises(OptionsError, match=words):
            MultiProcessEngine(**options)


@pytest.mark.parametrize("options", [{"max_workers": 0}, {"start_method": "fork"}, {"workers": 2}])
def test_a_job_with_such_an_option_is_refused_likewise(options: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match=next(iter(options))):
        get_executor("multiprocessing", **options)


def test_one_executor_serves_one_run_after_the_other() -> None:
    executor, output = MultiProcessingExecutor(Plain, 1), MemoryOutputAdapter()
    for n in (1, 2):
        Pipe(IterableInputAdapter([{"k": n}]), output, executor=executor).run()
        assert [entry["validated_data"] for entry in output.results] == [{"k": n}]


def test_it_may_be_shut_down_at_any_time_and_used_at_none_after() -> None:
    executor = MultiProcessingExecutor()
    executor.shutdown()
    executor.shutdown(cancel=True)
    chunk: Any = None
    with pytest.raises(ProtocolError, match="before start"):
        executor.submit(chunk)


# What can travel.


def never() -> Iterator[Any]:
    """A source that must not be read."""
    yield {"k": 0}
    raise AssertionError("a record was read")


@pytest.mark.parametrize("thing", ["lock", "socket"])
def test_a_hook_that_cannot_travel_is_named_before_anything_runs(thing: str) -> None:
    class Holds(BaseHook):
        def execute(self, entries: Any, store: Any) -> None:
            pass

    hook, read = Holds(), list[int]()
    with socket.socket() as opened:
        hook.held = threading.Lock() if thing == "lock" else opened  # type: ignore[attr-defined]
        with pytest.raises(UnpicklableError, match=f"Holds .* cannot be sent to a worker process: .*{thing}"):
            make_pipe(map(read.append, range(10)), pre=[hook]).run()
    assert read == []


@pytest.fixture
def passing_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that is here, and that no worker can import."""
    (tmp_path / "passing.py").write_text(
        "from pydantic import BaseModel\n\nclass Row(BaseModel):\n    k: int\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import passing  # type: ignore[import-not-found]

    (tmp_path / "passing.py").unlink()
    yield passing
    del sys.modules["passing"]


def test_a_module_that_workers_do_not_find_is_named(passing_module: Any, start_method: StartMethod) -> None:
    pipe = make_pipe(never, schema=passing_module.Row, start_method=start_method)
    with pytest.raises(WorkerInitError, match="No module named 'passing'"):
        pipe.run()
    assert pipe.report.counts["in"] == 0


def test_classes_of_a_function_travel() -> None:
    class Row(Plain):
        name: str = "x"

    class Triples(BaseHook):
        def execute(self, entries: Any, store: Any) -> None:
            for entry in entries:
                entry["validated_data"]["k"] *= factor

    factor = 3
    assert run(rows(3), schema=Row, post=[Triples()]).values == [{"k": 3 * k, "name": "x"} for k in range(3)]


SCRIPT = """
import sys
from enum import Enum
from pydantic import BaseModel
from manyhands import BaseHook, IterableInputAdapter, MemoryOutputAdapter, Pipe
from manyhands_multiprocessing import MultiProcessingExecutor

print("imported")

class Colour(Enum):
    RED = "red"

class Row(BaseModel):
    n: int
    colour: Colour

class Doubles(BaseHook):
    def execute(self, entries, store):
        for entry in entries:
            entry["validated_data"]["n"] *= 2

output = MemoryOutputAdapter()
records = IterableInputAdapter([{"n": 0, "colour": "red"}, {"n": 1, "colour": Colour.RED}, {"n": 2, "colour": "red"}])
executor = MultiProcessingExecutor(max_workers=2, chunksize=1, start_method=sys.argv[1])
pipe = Pipe(records, output, None, Row, executor, post_validation_hooks=[Doubles()])
assert pipe.run().ok == 3, pipe.report.counts
for n, entry in enumerate(output.results):
    assert entry["validated_data"] == {"n": 2 * n, "colour": Colour.RED}
    assert entry["validated_data"]["colour"] is Colour.RED
print("done")
"""


def test_a_plain_script_needs_no_guard(start_method: StartMethod, tmp_path: Path) -> None:
    """Its classes are in `__main__`, which no worker runs again."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), start_method], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "imported\ndone\n", "")


# What comes out.


class Colour(Enum):
    RED = "red"


VALUES = {
    "datetime": datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=UTC),
    "date": date(2024, 2, 29),
    "delta": timedelta(days=-1, microseconds=3),
    "decimal": Decimal("1.10"),
    "uuid": UUID(int=7),
    "set": {1, 2},
    "tuple": (1, (2, 3)),
    "bytes": b"\xff\x00",
    "big": 1 << 100,
    "complex": 1 + 2j,
    "enum": Colour.RED,
    "nan": float("inf"),
    "nested": {"a": [{"b": None}]},
}


@pytest.mark.parametrize("compression", [None, "lz4"])
def test_values_of_every_kind_come_back_as_on_sync(compression: Any) -> None:
    records = [{"k": k, "value": value} for k, value in enumerate(VALUES.values())]
    records.append({"k": "no number", "value": Decimal(1)})
    ran = run(records, schema=Values, post=[Adds()], chunksize=4, compression=compression)
    output, errors = MemoryOutputAdapter(), MemoryOutputAdapter()
    executor = SyncFifoExecutor(chunksize=4)
    Pipe(IterableInputAdapter(records), output, errors, Values, executor, post_validation_hooks=[Adds()]).run()
    assert ran.output == output.results
    assert ran.errors == errors.results
    assert len(ran.output) == len(VALUES)
    assert [type(entry["validated_data"]["value"]) for entry in ran.output] == list(map(type, VALUES.values()))


def test_an_entry_that_cannot_travel_is_rejected_alone() -> None:
    ran = run(rows(10), schema=Plain, post=[Adds(object_at=4)], chunksize=10)
    assert ran.counts == {"in": 10, "ok": 9, "rejected": 1}
    assert ran.positions == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert ran.refused == [(4, "rejected", "EncodeError", "a value of type object cannot travel to a worker")]
    assert ran.errors[0]["raw_data"] == {"k": 4}


def test_a_value_that_only_the_workers_can_read_costs_its_record_alone(tmp_path: Path) -> None:
    (tmp_path / "discovered.py").write_text("from enum import Enum\n\nclass Kind(Enum):\n    RARE = 1\n")
    ran = run(rows(10), schema=Plain, post=[Discovers(tmp_path, at=4)], chunksize=5)
    assert ran.counts == {"in": 10, "ok": 9, "rejected": 1}
    assert ran.refused == [(4, "rejected", "ModuleNotFoundError", "No module named 'discovered'")]


def test_records_of_many_megabytes_pass_both_ways() -> None:
    """While a worker writes what no pipe holds, it is given the next one of that size."""
    records = [{"k": k, "text": str(k) * 4_000_000} for k in range(8)]
    ran = run(records, post=[Acts()], chunksize=1)
    assert [entry["validated_data"] for entry in ran.output] == records


def written(source: Path, target: Path, executor: Any, **job: Any) -> list[bytes]:
    """The bytes of the output and of the error output."""
    paths = [target.with_suffix(".jsonl"), target.with_suffix(".errors")]
    output, errors = (JSONOutputAdapter(path, format="lines") for path in paths)
    Pipe(CSVInputAdapter(source), output, errors, Plain, executor, **job).run()
    return [path.read_bytes() for path in paths]


@pytest.mark.parametrize("hooks", [False, True])
def test_files_are_byte_for_byte_those_of_sync(hooks: bool, tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_text("k,text\n" + "".join(f"{'x' if k % 97 == 5 else k},{'y' * (k % 50)}\n" for k in range(3000)))
    job: dict[str, Any] = {"pre_validation_hooks": [Acts()]} if hooks else {}
    expected = written(source, tmp_path / "sync", SyncFifoExecutor(chunksize=250), **job)
    assert [part.count(b"\n") for part in expected] == [2969, 31]
    for compression in (None, "lz4"):
        executor: Any = MultiProcessingExecutor(max_workers=2, chunksize=250, compression=compression)  # type: ignore[arg-type]
        assert written(source, tmp_path / str(compression), executor, **job) == expected


# What surrounds the code.


def test_a_zone_a_locale_and_a_precision_hold_for_hooks(
    start_method: StartMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = locale.setlocale(locale.LC_ALL)
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    try:
        locale.setlocale(locale.LC_ALL, "C")  # Python itself begins with an encoding of the system's
        with decimal.localcontext(prec=5, rounding=decimal.ROUND_UP):
            ran = run(rows(1), pre=[Surrounded()], max_workers=1, start_method=start_method)
    finally:
        locale.setlocale(locale.LC_ALL, before)
        monkeypatch.undo()
        time.tzset()
    assert ran.output[0]["metadata"] == {"zone": "IST", "third": "0.33334", "locale": "ANSI_X3.4-1968"}


def test_a_precision_holds_on_sync_too() -> None:
    output = MemoryOutputAdapter()
    with decimal.localcontext(prec=5, rounding=decimal.ROUND_UP):
        Pipe(
            IterableInputAdapter(rows(1)), output, executor=SyncFifoExecutor(), pre_validation_hooks=[Surrounded()]
        ).run()
    assert output.results[0]["metadata"]["third"] == "0.33334"


def test_the_folder_and_the_environment_are_those_of_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MANYHANDS_TEST_WORD", "zwölf")
    ran = run(rows(1), pre=[Measures()], max_workers=1)
    assert ran.output[0]["metadata"] == {"folder": str(tmp_path), "word": "zwölf"}


def test_without_anonymous_memory_the_file_that_stands_for_it_says_whose_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    prefixes: list[str] = []
    make = tempfile.mkstemp

    def mkstemp(*, prefix: str) -> tuple[int, str]:
        prefixes.append(prefix)
        return make(prefix=prefix)

    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)
    board = Board.create(2)
    board.begin(1, 5)
    assert board.begun_by(1) == 5
    board.close()
    assert [owner_of(f"{prefix}x") for prefix in prefixes] == [Owner.this()]
