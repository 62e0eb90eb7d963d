"""Whole pipes on engines: a pipe in shards writes what it writes alone, and nothing is lost with a worker."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from pydantic import BaseModel

from manyhands import (
    BaseHook,
    CSVInputAdapter,
    CSVOutputAdapter,
    Engine,
    IterableInputAdapter,
    JSONInputAdapter,
    JSONOutputAdapter,
    Pipe,
    PipeManager,
    RunStatus,
    get_engine,
)
from manyhands.errors import InputError, OutputError, RunError, SourceError, UsageError
from manyhands_multiprocessing import MultiProcessEngine, MultiProcessingExecutor
from manyhands_sync import SequentialEngine, SyncFifoExecutor
from manyhands_zoosync import ZoosyncPoolEngine

from .backends import cluster_of, names
from .random_files import random_input
from .test_flights import EXAMPLE, copy_of_example, manyhands_command, results
from .test_flights import run as command_line

ENGINES = names(kind="engine")
POOLS = (MultiProcessEngine, ZoosyncPoolEngine)
OUTPUTS = {"jsonl": "out.jsonl", "json": "out.json", "csv": "out.csv", "jsonl.gz": "out.jsonl.gz"}
COUNTS = ("read", "ok", "rejected", "dead", "dropped", "cancelled")


class Row(BaseModel):
    a: int
    b: str = "none"


class Mark(BaseHook):
    """Sees batches and positions: both must be those of one process."""

    def execute(self, entries: list[Any], store: Any) -> None:
        for entry in entries:
            entry["raw_data"]["b"] = f"{entry['position']} of {len(entries)}"
            entry["metadata"]["id"] = entry["id"]


class KillOnce(BaseHook):
    """Kills the worker at a record, the first time."""

    def __init__(self, position: int, flag: Path) -> None:
        super().__init__()
        self.position, self.flag = position, flag

    def execute(self, entries: list[Any], store: Any) -> None:
        if any(entry["position"] == self.position for entry in entries) and not self.flag.exists():
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class KillAlways(KillOnce):
    def execute(self, entries: list[Any], store: Any) -> None:
        if any(entry["position"] == self.position for entry in entries):
            os.kill(os.getpid(), signal.SIGKILL)


def table(folder: Path, rows: int) -> Path:
    """A CSV file in which every seventh record is wrong and some have line ends in quotes."""
    file = folder / "in.csv"
    lines = [f'{"x" if n % 7 == 3 else n},"{"two" + chr(10) + "lines" if n % 5 == 0 else n}"' for n in range(rows)]
    file.write_text("a,b\n" + "".join(f"{line}\n" for line in lines))
    return file


def pipe_of(folder: Path, name: str, source: Any, *, output: str = "out.jsonl", **how: Any) -> Pipe:
    """A pipe with its outputs in a folder of its own."""
    out = folder / name
    out.mkdir(exist_ok=True)
    adapter = CSVOutputAdapter(out / output) if output.endswith(".csv") else JSONOutputAdapter(out / output)
    return Pipe(source, adapter, JSONOutputAdapter(out / "errors.jsonl"), **how)


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return get_engine(request.param, **cluster_of(request.param))


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
@pytest.mark.parametrize("hooks", [(), (Mark(),)], ids=["plain", "hooks"])
def test_a_pipe_in_shards_writes_what_it_writes_alone(engine: Engine, output: str, hooks: Any, tmp_path: Path) -> None:
    source = CSVInputAdapter(table(tmp_path, 500), skip_rows=3, limit=450)
    how = {"output": output, "schema_model": Row, "pre_validation_hooks": hooks}
    alone = pipe_of(tmp_path, "alone", source, **how, executor=SyncFifoExecutor(chunksize=16)).run()
    pipe = pipe_of(tmp_path, "shards", source, **how, executor=SyncFifoExecutor(chunksize=16))
    with PipeManager.parallelize_pipe(pipe, workers=3, engine=engine) as manager:
        report = manager.run()
    assert files(tmp_path / "shards") == files(tmp_path / "alone")
    assert report.status is RunStatus.COMPLETED
    assert [getattr(report, name) for name in COUNTS] == [getattr(alone, name) for name in COUNTS]
    assert len(manager.pipe_reports) == 3
    assert sum(each.ok for each in manager.pipe_reports) == report.ok > 0


@pytest.mark.parametrize("seed", range(5))
def test_any_file_in_any_number_of_shards(seed: int, tmp_path: Path) -> None:
    """With real workers: all files of a seed at a time, each by so many of them."""
    rng = random.Random(seed)
    for number in range(10):
        folder = tmp_path / str(number)
        folder.mkdir()
        source = random_input(rng, folder)
        output, chunksize = rng.choice(("out.jsonl", "out.json")), rng.choice((None, 1, 3))
        alone = pipe_of(folder, "alone", source, output=output, executor=SyncFifoExecutor(chunksize=chunksize))
        try:
            counts = alone.run().counts
        except InputError:
            continue
        pipe = pipe_of(folder, "shards", source, output=output, executor=SyncFifoExecutor(chunksize=chunksize))
        with PipeManager.parallelize_pipe(pipe, workers=rng.randint(1, 9), engine=POOLS[seed % 2](2)) as manager:
            assert manager.run().counts == counts
        assert files(folder / "shards") == files(folder / "alone")


def test_a_pipe_whose_worker_is_killed_runs_again_and_that_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = CSVInputAdapter(table(tmp_path, 500))
    hook = KillOnce(400, tmp_path / "killed")
    pipe = pipe_of(
        tmp_path,
        "shards",
        source,
        schema_model=Row,
        pre_validation_hooks=[hook],
        executor=SyncFifoExecutor(chunksize=16),
    )
    report = PipeManager.parallelize_pipe(pipe, workers=2).run()
    assert hook.flag.exists()  # so it is not killed again
    told = [record.getMessage() for record in caplog.records if record.name == "manyhands.engine"]
    assert len(told) == 1
    lost = r"worker \d+, which ran pipe 2 of 2, was lost, last seen at or after record \d+ of .*; worker"
    assert re.match(lost, told[0])
    pipe_of(tmp_path, "alone", source, schema_model=Row, pre_validation_hooks=[hook]).run()
    assert files(tmp_path / "shards") == files(tmp_path / "alone")
    assert report.counts["in"] == 500


def test_a_pipe_that_cannot_be_run_fails_the_run_and_publishes_nothing(tmp_path: Path) -> None:
    hook = KillAlways(400, tmp_path / "killed")
    pipe = pipe_of(
        tmp_path,
        "out",
        CSVInputAdapter(table(tmp_path, 500)),
        pre_validation_hooks=[hook],
        executor=SyncFifoExecutor(chunksize=16),
    )
    manager = PipeManager.parallelize_pipe(pipe, workers=2)
    with pytest.raises(RunError, match=r"pipe 2 of 2 cannot be run: its worker died twice \(SIGKILL\)"):
        manager.run()
    assert manager.report.status is RunStatus.FAILED
    assert set(files(tmp_path / "out")) == {"out.jsonl.partial"}  # what was complete from the beginning


def test_a_hook_that_fails_in_a_shard_is_no_failure_of_the_run(engine: Engine, tmp_path: Path) -> None:
    class Fails(BaseHook):
        def execute(self, entries: list[Any], store: Any) -> None:
            if any(entry["position"] == 400 for entry in entries):
                raise ValueError("bad luck")

    pipe = pipe_of(tmp_path, "out", CSVInputAdapter(table(tmp_path, 500)), pre_validation_hooks=[Fails()])
    report = PipeManager.parallelize_pipe(pipe, workers=2, engine=engine).run()
    assert (report.ok, report.rejected) == (499, 1)
    assert b'"position":400' in files(tmp_path / "out")["errors.jsonl"]


def test_pipes_side_by_side(engine: Engine, tmp_path: Path) -> None:
    source = CSVInputAdapter(table(tmp_path, 100))
    pipes = [pipe_of(tmp_path, str(number), source, schema_model=Row) for number in range(3)]
    with PipeManager(pipes, engine=engine) as manager:
        report = manager.run()
    assert report.counts["in"] == 300
    assert [each.status for each in manager.pipe_reports] == [RunStatus.COMPLETED] * 3
    assert files(tmp_path / "0") == files(tmp_path / "1") == files(tmp_path / "2")


def test_one_pipe_that_fails_ends_the_others_and_is_told(engine: Engine, tmp_path: Path) -> None:
    good = pipe_of(tmp_path, "good", CSVInputAdapter(table(tmp_path, 100)))
    (tmp_path / "bad.json").write_text("[1, 2, oops")
    bad = pipe_of(tmp_path, "bad", JSONInputAdapter(tmp_path / "bad.json"))
    manager = PipeManager([bad, good], engine=engine)
    with pytest.raises(SourceError, match=r"bad\.json"):
        manager.run()
    assert manager.report.status is RunStatus.FAILED
    assert manager.pipe_reports[0].status is RunStatus.FAILED
    assert "out.jsonl" not in files(tmp_path / "bad")


class Slow(BaseHook):
    def execute(self, entries: list[Any], store: Any) -> None:
        time.sleep(0.01 * len(entries))


def test_an_abort_ends_all_workers_and_publishes_nothing(tmp_path: Path) -> None:
    pipe = pipe_of(
        tmp_path,
        "out",
        CSVInputAdapter(table(tmp_path, 5000)),
        pre_validation_hooks=[Slow()],
        executor=SyncFifoExecutor(chunksize=5),
    )
    with PipeManager.parallelize_pipe(pipe, workers=2) as manager:
        manager.start()
        while not all(each.ok for each in manager.pipe_reports):  # live counts, while it runs
            assert not manager.wait(0.02)
        manager.report.abort()
        assert manager.wait(10)
    assert manager.report.status is RunStatus.ABORTED
    assert "out.jsonl" not in files(tmp_path / "out")
    assert not [name for name in files(tmp_path / "out") if ".part-" in name]


class Lingers(BaseHook):
    """Takes longer than pipes have after an abort."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def execute(self, entries: list[Any], store: Any) -> None:
        (self.folder / "begun").touch()
        time.sleep(1.5)
        (self.folder / "done").touch()


@pytest.mark.parametrize(("timeout", "left"), [(30, {"begun", "done"}), (0, {"begun"})])
def test_a_shutdown_gives_pipes_its_own_time_also_after_an_abort(timeout: int, left: set[str], tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    pipe = pipe_of(tmp_path, "out", CSVInputAdapter(table(tmp_path, 10)), pre_validation_hooks=[Lingers(notes)])
    engine = MultiProcessEngine()
    engine.start([pipe])
    while not files(notes):
        assert not engine.wait(0.02)
    engine.report.abort()
    engine.wait(0.2)
    engine.shutdown(timeout)
    assert files(notes).keys() == left
    assert engine.report.status is RunStatus.ABORTED


def test_parts_of_a_run_that_was_killed_are_removed_by_the_next(tmp_path: Path) -> None:
    pipe = pipe_of(tmp_path, "out", CSVInputAdapter(table(tmp_path, 10)), schema_model=Row)
    for name in ("out.jsonl.part-0007", "out.jsonl.part-0003.partial", "out.jsonl.part-two"):
        (tmp_path / "out" / name).write_text("left")
    PipeManager.parallelize_pipe(pipe, workers=2, engine=SequentialEngine()).run()
    assert set(files(tmp_path / "out")) == {"out.jsonl", "errors.jsonl", "out.jsonl.part-two"}  # the last is theirs


def test_running_it_twice_at_a_time_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    pipe = pipe_of(tmp_path, "out", CSVInputAdapter(table(tmp_path, 200)), pre_validation_hooks=[Slow()])
    with PipeManager.parallelize_pipe(pipe, workers=1) as manager:
        manager.start()
        with pytest.raises(UsageError, match="is running"):
            manager.run()
        with pytest.raises(UsageError, match="cannot be stopped"):
            manager.report.stop()
        assert manager.wait(60)
    assert manager.report.status is RunStatus.COMPLETED


def test_a_failure_while_pipes_are_made_ends_those_that_hang(tmp_path: Path) -> None:
    class Pipes(list[Pipe]):
        def __iter__(self) -> Iterator[Pipe]:
            yield self[0]
            while not (tmp_path / "begun").exists():
                time.sleep(0.01)
            raise SourceError("the second cannot be made")

    class Hangs(BaseHook):
        def execute(self, entries: list[Any], store: Any) -> None:
            (tmp_path / "begun").touch()
            time.sleep(1000)

    pipe = pipe_of(tmp_path, "out", CSVInputAdapter(table(tmp_path, 10)), pre_validation_hooks=[Hangs()])
    manager = PipeManager(Pipes([pipe, pipe]))
    with pytest.raises(SourceError, match="the second cannot be made"):
        manager.run()


def test_no_room_for_the_board_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    pipe = pipe_of(tmp_path, "out", CSVInputAdapter(table(tmp_path, 10)))
    with pytest.raises(RunError, match="the engine cannot be started: there is no room"):
        PipeManager.parallelize_pipe(pipe, 2, SequentialEngine()).run()
    assert files(tmp_path / "out") == {}


def test_one_deadline_for_all_pipes(tmp_path: Path) -> None:
    source = CSVInputAdapter(table(tmp_path, 1000))
    pipes = [pipe_of(tmp_path, str(number), source, pre_validation_hooks=[Slow()]) for number in range(4)]
    with PipeManager(pipes, engine=MultiProcessEngine(2)) as manager:
        manager.start()
        begun = time.monotonic()
        assert not manager.wait(0.3)
        assert 0.3 <= time.monotonic() - begun < 1.0


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"executor": MultiProcessingExecutor(max_workers=1)}, "'multiprocessing' has worker processes of its own"),
        ({"input_adapter": IterableInputAdapter([1])}, "IterableInputAdapter cannot be cut into shards"),
        ({"post_validation_hooks": [Mark()], "output_adapter": CSVOutputAdapter(Path("o.csv"))}, "give the columns as"),
        ({"observers": [print]}, "observers are not called"),
    ],
)
def test_what_cannot_be_parallelized_is_refused(change: dict[str, Any], why: str, tmp_path: Path) -> None:
    how = {"input_adapter": CSVInputAdapter(table(tmp_path, 1)), "output_adapter": JSONOutputAdapter(Path("o.jsonl"))}
    with pytest.raises((UsageError, OutputError), match=why):
        PipeManager.parallelize_pipe(Pipe(**{**how, **change}), 2, SequentialEngine())


def test_engines_are_chosen_by_name() -> None:
    assert isinstance(get_engine("multiprocessing", n_workers=2), MultiProcessEngine)
    assert isinstance(get_engine("zoosync", n_workers=2, stuck_timeout=60), ZoosyncPoolEngine)
    assert isinstance(get_engine("sync"), SequentialEngine)
    with pytest.raises(UsageError, match="n_workers"):
        get_engine("multiprocessing", workers=2)
    with pytest.raises(UsageError, match="'threads' is no engine"):
        get_engine("threads")


PROGRAM = """
import sys
from contextlib import suppress
from pathlib import Path
from manyhands import PipeManager, get_engine
from manyhands_sync import SyncFifoExecutor
from tests.test_engines import Careful, Row, pipe_of
from manyhands import CSVInputAdapter

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    pipe = pipe_of(
        folder, "out", CSVInputAdapter(folder / "in.csv"), schema_model=Row,
        pre_validation_hooks=[Careful()], executor=SyncFifoExecutor(chunksize=10),
    )
    print("begun", flush=True)
    PipeManager.parallelize_pipe(pipe, workers=3, engine=get_engine(sys.argv[2])).run()
"""


class Careful(BaseHook):
    """Takes its time."""

    def execute(self, entries: list[Any], store: Any) -> None:
        time.sleep(0.001 * len(entries))


def program(folder: Path, engine: str) -> subprocess.Popen[str]:
    script = folder / "program.py"
    script.write_text(PROGRAM)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "TMPDIR": str(folder / "tmp")}
    return subprocess.Popen([sys.executable, script, folder, engine], env=env, stdout=subprocess.PIPE, text=True)


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "tmp").mkdir()
    table(tmp_path, 2000)
    pipe_of(tmp_path, "alone", CSVInputAdapter(tmp_path / "in.csv"), schema_model=Row).run()
    return tmp_path


at_random = pytest.mark.parametrize("seed", range(int(os.environ.get("MANYHANDS_CHAOS_RUNS", "10")) // 5 or 1))
on_workers = pytest.mark.parametrize("engine", ["multiprocessing", "zoosync"])


@at_random
@on_workers
def test_workers_that_are_killed_at_any_time_change_nothing(home: Path, engine: str, seed: int) -> None:
    rng = random.Random(seed)
    with program(home, engine) as running:
        for _ in range(2):
            time.sleep(rng.uniform(0.0, 0.6))
            with suppress(psutil.Error, IndexError):
                rng.choice(descendants(running)).kill()
        assert running.wait(60) in (0, 1)
    if running.returncode == 0:
        assert files(home / "out") == files(home / "alone")
    else:  # the same pipe was hit twice
        assert not {"out.jsonl", "errors.jsonl"} & files(home / "out").keys()


@at_random
@on_workers
def test_a_program_that_is_killed_at_any_time_leaves_no_worker_and_its_files_to_the_next(
    home: Path, engine: str, seed: int
) -> None:
    rng = random.Random(seed)
    with program(home, engine) as running:
        assert running.stdout is not None
        running.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.8))
        workers = descendants(running)
        running.kill()
    _, alive = psutil.wait_procs(workers, timeout=2)
    assert not alive
    assert not {"out.jsonl", "errors.jsonl"} & files(home / "out").keys()
    with program(home, engine) as again:
        assert again.wait(60) == 0
    assert files(home / "out") == files(home / "alone")
    assert [path.name for path in (home / "tmp").iterdir() if path.name.startswith("manyhands")] == []


@on_workers
def test_a_job_file_names_an_engine(engine: str, tmp_path: Path) -> None:
    copy = copy_of_example(tmp_path, EXAMPLE / "flights.csv")
    command_line(manyhands_command(), "run", "job.toml", folder=copy)
    alone = results(copy)
    with (copy / "job.toml").open("a") as job:
        job.write(f'\n[engine]\nname = "{engine}"\nworkers = 3\nn_workers = 2\n')
    command_line(manyhands_command(), "check", "job.toml", folder=copy)
    command_line(manyhands_command(), "run", "job.toml", "--report", "report.json", folder=copy)
    assert results(copy) == alone
    report = json.loads((copy / "report.json").read_text())
    assert (report["engine"], report["status"], len(report["workers"])) == (engine, "completed", 3)
