"""The executor: what goes through memory, who gets a chunk, and what becomes of those of dead workers."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from manyhands import (
    BaseHook,
    CSVInputAdapter,
    IterableInputAdapter,
    JSONOutputAdapter,
    MemoryOutputAdapter,
    Pipe,
    RunOptions,
    get_executor,
)
from manyhands.chunks import Chunk, ChunkKind
from manyhands.config.build import build_pipe
from manyhands.config.load import load_job
from manyhands.errors import OptionsError, ProtocolError
from manyhands.events import ChunkDone, ChunkFailed
from manyhands.worker import codec
from manyhands.worker.context import WorkerContext
from manyhands_zoosync import ZoosyncExecutor
from manyhands_zoosync import executor as executors
from manyhands_zoosync.chunkdesk import ChunkDesk
from manyhands_zoosync.layout import Layout

from .helpers import LIMIT, die_with_the_lock, once, wait_until


def run(records: Any, *hooks: BaseHook, run: Any = None, events: Any = None, **options: Any) -> Any:
    """Report, ok entries and error records of a pipe."""
    pipe = make(records, *hooks, run=run, events=events, **options)
    report = pipe.run()
    return report, pipe.output_adapter.results, pipe.error_output_adapter.results


def make(records: Any, *hooks: BaseHook, run: Any = None, events: Any = None, **options: Any) -> Any:
    executor = ZoosyncExecutor(**{"max_workers": 2, "chunksize": 1, **options})
    adapter, observers = IterableInputAdapter(records), [] if events is None else [events.append]
    outputs = MemoryOutputAdapter(), MemoryOutputAdapter()
    return Pipe(adapter, *outputs, None, executor, hooks, options=RunOptions(**(run or {})), observers=observers)


# How it is chosen.


def test_it_is_chosen_by_name_with_its_options() -> None:
    executor: Any = get_executor("zoosync", max_workers=3, chunksize=7, start_method="spawn", compression="lz4")
    assert type(executor) is ZoosyncExecutor
    assert (executor.max_workers, executor.chunksize, executor.compression) == (3, 7, "lz4")
    assert (executor.start_method, executor.name) == ("spawn", "zoosync")


def test_a_job_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))  # a job looks for modules in its own folder
    (tmp_path / "rows.jsonl").write_text('{"n": 1}\n{"n": 2}\n')
    job = tmp_path / "job.toml"
    job.write_text("""
        [input]
        adapter = "jsonl"
        path = "rows.jsonl"
        [output]
        adapter = "jsonl"
        path = "out.jsonl"
        [executor]
        name = "zoosync"
        max_workers = 1
    """)
    report = build_pipe(job, load_job(job)).run()
    assert (report.executor, report.ok) == ("zoosync", 2)
    assert (tmp_path / "out.jsonl").read_text() == '{"n":1}\n{"n":2}\n'


def test_what_the_plugin_says_is_what_the_executor_can() -> None:
    (point,) = entry_points(group="manyhands", name="zoosync")
    backend = next(each for each in point.load().manyhands_backends() if each.kind == "executor")
    assert backend.capabilities == ZoosyncExecutor.capabilities
    executor = ZoosyncExecutor(**backend.options(max_workers=2, chunksize=3, compression="lz4").model_dump())
    assert (executor.max_workers, executor.chunksize, executor.compression) == (2, 3, "lz4")
    assert (executor.start_method, ZoosyncExecutor().max_workers) == ("forkserver", len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_workers": 0}, "max_workers must be None or a number from 1, not 0"),
        ({"start_method": "fork"}, "start_method must be one of .*forkserver.*, not 'fork': a run has threads"),
        ({"start_method": "nonsense"}, "start_method must be one of .*forkserver.*, not 'nonsense'$"),
        ({"chunksize": 0}, "chunksize must be"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_in_words(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionsError, match=words):
        ZoosyncExecutor(**options)
    with pytest.raises(OptionsError, match=next(iter(options))):
        get_executor("zoosync", **options)


def test_one_executor_serves_one_run_after_the_other_and_none_in_between() -> None:
    executor, output = ZoosyncExecutor(max_workers=1), MemoryOutputAdapter()
    chunk: Any = None
    for n in (1, 2):
        with pytest.raises(ProtocolError, match="before start"):
            executor.submit(chunk)
        Pipe(IterableInputAdapter([{"k": n}]), output, executor=executor).run()
        assert [entry["validated_data"] for entry in output.results] == [{"k": n}]
    executor.shutdown()


# What goes through memory.


def moved() -> int:
    """Bytes that this process has read and written so far, from files, pipes and sockets."""
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["rchar"]) + int(counts["wchar"])


class Counts(BaseHook):
    """Notes what the worker has moved from its setup to its teardown."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def setup(self, store: Any) -> None:
        self.before = moved()

    def execute(self, entries: Any, store: Any) -> None:
        pass

    def teardown(self, store: Any) -> None:
        (self.folder / f"{os.getpid()}").write_text(str(moved() - self.before))


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="this system does not count it")
@pytest.mark.parametrize("kind", ["raw", "packed"])
def test_less_than_a_hundredth_of_the_payload_goes_through_a_pipe(kind: str, tmp_path: Path) -> None:
    """Of a run that has files as well, only what the workers move can be told apart."""
    rows = [{"k": str(k), "text": "x" * 1000} for k in range(8000)]
    (tmp_path / "in.csv").write_text("k,text\n" + "".join(f"{row['k']},{row['text']}\n" for row in rows))
    (tmp_path / "workers").mkdir()
    source = CSVInputAdapter(tmp_path / "in.csv") if kind == "raw" else IterableInputAdapter(rows)
    output: Any = JSONOutputAdapter(tmp_path / "out.jsonl", format="lines") if kind == "raw" else MemoryOutputAdapter()
    seen: list[int] = []
    pipe = Pipe(
        source,
        output,
        executor=ZoosyncExecutor(max_workers=2),
        pre_validation_hooks=[Counts(tmp_path / "workers")],
        observers=[lambda event: seen.append(moved()) if isinstance(event, ChunkDone) else None],
    )
    assert pipe.run().ok == len(rows)
    by_workers = [int(file.read_text()) for file in (tmp_path / "workers").iterdir()]
    assert len(by_workers) == 2
    assert 0 < sum(by_workers) < 8_000_000 / 100
    if kind == "packed":
        assert 0 < seen[-1] - seen[0] < 8_000_000 / 100


@pytest.mark.parametrize("compression", [None, "lz4"])
def test_chunks_wait_for_room_in_memory(compression: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "arena_bytes", lambda: 16 << 10)
    rows = [{"k": k, "text": "x" * 9_000} for k in range(50)]
    report, output, _ = run(rows, compression=compression)
    assert report.ok == 50
    assert [entry["validated_data"] for entry in output] == rows


def test_a_chunk_that_no_memory_holds_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "arena_bytes", lambda: 16 << 10)
    report, _, errors = run([{"text": "x" * (20_000 if k == 3 else 10)} for k in range(6)])
    assert (report.ok, report.rejected) == (5, 1)
    (error,) = errors[0]["errors"]
    assert errors[0]["position"] == 3
    assert error["type"] == "PayloadTooLarge"
    assert error["message"].startswith("the 1 records from position 3 have 2")
    assert error["message"].endswith("all chunks under way together may have 16384: set a smaller chunksize")


def test_memory_of_large_chunks_is_given_back() -> None:
    desk = ChunkDesk(Layout(4, 1, 1 << 10, 64 << 20), "robust")
    try:
        empty = os.fstat(desk.segment.descriptor).st_blocks
        for tsk_id in (1, 2):
            assert desk.give(tsk_id, Chunk(0, 0, 1, ChunkKind.RAW, bytes(16 << 20)))
        assert os.fstat(desk.segment.descriptor).st_blocks - empty >= 2 * (16 << 20) // 512
        desk.take_back([1, 2])
        assert os.fstat(desk.segment.descriptor).st_blocks - empty < (1 << 20) // 512
        assert desk.arena.free_bytes == desk.arena.size
    finally:
        desk.close()


def test_where_files_must_be_small_it_works_as_well() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 << 20, hard))
    try:
        report, _, _ = run([{"k": k} for k in range(20)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert report.ok == 20


def test_without_anonymous_memory_it_works_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    assert run([{"k": k} for k in range(20)])[0].ok == 20


# Who gets a chunk.


class Waits(BaseHook):
    """The record at position 0 waits until all others are through."""

    def __init__(self, folder: Path, others: int) -> None:
        super().__init__()
        self.folder, self.others = folder, others

    def execute(self, entries: Any, store: Any) -> None:
        for entry in entries:
            if entry["position"]:
                (self.folder / str(entry["position"])).touch()
            else:
                wait_until(lambda: len(list(self.folder.iterdir())) == self.others)


def test_no_chunk_waits_behind_one_that_takes_long(tmp_path: Path) -> None:
    report, output, _ = run([{"k": k} for k in range(40)], Waits(tmp_path, 39), run={"ordered": False})
    assert report.ok == 40
    assert output[0]["position"] != 0  # of two workers nobody says whose last results are taken first


def test_a_chunk_that_is_cancelled_while_it_waits_is_not_run(tmp_path: Path) -> None:
    """The first takes until the four after it have run, which another worker does; the rest wait that long."""
    context = WorkerContext(pre_hooks=[Waits(tmp_path, 40)])
    executor = ZoosyncExecutor(max_workers=2)
    executor.start(context)
    try:
        futures = [executor.submit(chunk(n)) for n in range(executor.slots() + 1)]
        assert futures[-1].cancel()
        futures += [executor.submit(chunk(n)) for n in range(len(futures), 42)]
        assert [future.result(LIMIT).ok for future in futures if not future.cancelled()] == [1] * 41
    finally:
        executor.shutdown()
    assert len(list(tmp_path.iterdir())) == 40


def chunk(n: int) -> Chunk:
    return Chunk(n, n, 1, ChunkKind.PACKED, codec.dumps([{"k": n}]))


# Workers that die.


def failures(events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, ChunkFailed)]


class Notes(BaseHook):
    """Notes who works."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def setup(self, store: Any) -> None:
        (self.folder / str(os.getpid())).touch()

    def execute(self, entries: Any, store: Any) -> None:
        pass


def test_a_chunk_that_no_worker_has_begun_is_charged_to_nobody(tmp_path: Path) -> None:
    """Its worker is stopped while it sleeps, and killed when the chunk is there."""

    def records() -> Any:
        yield {"k": 0}
        wait_until(lambda: pipe.report.ok == 1)
        (pid,) = map(int, os.listdir(tmp_path))  # noqa: PTH208  # the names are all that is asked
        time.sleep(0.05)
        os.kill(pid, signal.SIGSTOP)
        yield {"k": 1}
        wait_until(lambda: len(executor._crew.dispatcher))
        os.kill(pid, signal.SIGKILL)

    events: list[Any] = []
    pipe = make(records, Notes(tmp_path), max_workers=1, run={"crash_retries": 0}, events=events)
    executor: Any = pipe.executor
    assert pipe.run().ok == 2
    assert failures(events) == []
    assert len(list(tmp_path.iterdir())) == 2


class DiesInItsClaim(BaseHook):
    """The first worker dies when it has just claimed a chunk, with the lock in its hands."""

    def __init__(self, path: Path, how: str) -> None:
        super().__init__()
        self.path, self.how = path, how

    def setup(self, store: Any) -> None:
        die_with_the_lock(str(self.path), self.how)

    def execute(self, entries: Any, store: Any) -> None:
        pass


@pytest.mark.parametrize("how", ["before the claim", "before the head", "after the head"])
def test_a_chunk_that_was_claimed_and_not_begun_is_charged_to_nobody(how: str, tmp_path: Path) -> None:
    events: list[Any] = []
    hook = DiesInItsClaim(tmp_path / "died", how)
    report, output, _ = run([{"k": k} for k in range(30)], hook, run={"crash_retries": 0}, events=events)
    assert report.ok == 30
    assert (tmp_path / "died").exists()
    assert failures(events) == []
    assert [entry["position"] for entry in output] == list(range(30))


class Runs(BaseHook):
    """Dies of the record at position 3 once, after it was noted that it ran."""

    replay = False

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def execute(self, entries: Any, store: Any) -> None:
        for entry in entries:
            assert once(str(self.folder / str(entry["position"]))), "it runs twice"
            if entry["position"] == 3:
                os.kill(os.getpid(), signal.SIGKILL)


def test_where_records_must_not_run_twice_a_chunk_that_had_begun_is_dead(tmp_path: Path) -> None:
    report, _, errors = run([{"k": k} for k in range(12)], Runs(tmp_path), chunksize=4)
    assert (report.ok, report.dead) == (8, 4)
    assert [error["position"] for error in errors] == [0, 1, 2, 3]


def test_a_record_for_which_a_worker_has_no_memory_is_rejected_alone(tmp_path: Path) -> None:
    from plugins.multiprocessing.tests.test_supervision import Does, takes_little

    rows = [{"n": "x" * (80 << 20) if k == 2 else k} for k in range(6)]
    report, _, errors = run(rows, Does(setup=takes_little))
    assert (report.ok, report.rejected) == (5, 1)
    assert [(error["position"], error["errors"][0]["type"]) for error in errors] == [(2, "MemoryError")]
