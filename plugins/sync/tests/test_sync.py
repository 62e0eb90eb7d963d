"""The sync backend: found by name, inline, one chunk after the other in one thread."""

import json
import sys
import threading
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from manyhands import BaseHook, HookStore, IterableInputAdapter, MemoryOutputAdapter, Pipe, get_executor
from manyhands.config.build import build_pipe
from manyhands.config.load import load_job
from manyhands.errors import ProtocolError, WorkerInitError
from manyhands_sync import SyncFifoExecutor


class Row(BaseModel):
    n: int


class Witness(BaseHook):
    """Notes what is called, and in which thread."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []
        self.threads: set[threading.Thread] = set()

    def note(self, what: Any) -> None:
        self.calls.append(what)
        self.threads.add(threading.current_thread())

    def setup(self, store: HookStore) -> None:
        self.note("setup")

    def execute(self, entries: list[Any], store: HookStore) -> None:
        self.note([entry["position"] for entry in entries])

    def teardown(self, store: HookStore) -> None:
        self.note("teardown")


def run(executor: SyncFifoExecutor, rows: list[Any], *hooks: BaseHook) -> list[Any]:
    output = MemoryOutputAdapter()
    source = IterableInputAdapter(rows)
    Pipe(source, output, executor=executor, pre_validation_hooks=hooks).run()
    return [entry["validated_data"] for entry in output.results]


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
        name = "sync"
        chunksize = 1
    """)
    report = build_pipe(job, load_job(job)).run()
    assert (report.executor, report.ok) == ("sync", 2)
    assert json.loads((tmp_path / "out.json").read_text()) == [{"n": 1}, {"n": 2}]


def test_it_is_chosen_by_name() -> None:
    executor = get_executor("sync", schema_model=Row, chunksize=7)
    assert type(executor) is SyncFifoExecutor
    assert (executor.schema_model, executor.chunksize, executor.name) == (Row, 7, "sync")


def test_it_is_made_by_its_class_with_the_schema_first() -> None:
    assert run(SyncFifoExecutor(Row), [{"n": "1"}, {"n": "x"}, {"n": 3}]) == [{"n": 1}, {"n": 3}]
    assert run(SyncFifoExecutor(schema_model=Row, chunksize=1), [{"n": "2"}]) == [{"n": 2}]


def test_one_executor_serves_one_run_after_the_other() -> None:
    executor = SyncFifoExecutor(Row)
    assert [run(executor, [{"n": n}]) for n in (1, 2)] == [[{"n": 1}], [{"n": 2}]]


def test_what_the_plugin_says_is_what_the_executor_can() -> None:
    (point,) = entry_points(group="manyhands", name="sync")
    backend, _ = point.load().manyhands_backends()  # and the engine
    assert backend.capabilities == SyncFifoExecutor.capabilities
    assert backend.capabilities.inline


def test_chunks_run_first_in_first_out_between_setup_and_teardown_in_one_thread() -> None:
    witness = Witness()
    run(SyncFifoExecutor(chunksize=2), [{"n": n} for n in range(5)], witness)
    assert witness.calls == ["setup", [0, 1], [2, 3], [4], "teardown"]
    assert len(witness.threads) == 1


def test_a_setup_that_fails_ends_the_run_before_it_begins() -> None:
    class Broken(Witness):
        def setup(self, store: HookStore) -> None:
            raise RuntimeError("no database")

    broken = Broken()
    with pytest.raises(WorkerInitError, match="setup of hook Broken failed: no database"):
        run(SyncFifoExecutor(), [{"n": 1}], broken)
    assert broken.calls == []


def test_a_chunk_before_the_start_fails_its_future() -> None:
    chunk: Any = None
    assert isinstance(SyncFifoExecutor().submit(chunk).exception(), ProtocolError)


def test_shutdown_may_come_at_any_time() -> None:
    executor = SyncFifoExecutor()
    executor.shutdown()
    executor.shutdown(cancel=True)
