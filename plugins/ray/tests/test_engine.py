"""Pipes on nodes that share no temporary folder with the program: as far as they can tell, these are such."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from manyhands import BaseHook, CSVInputAdapter, JSONOutputAdapter, Pipe, RunStatus
from manyhands_ray import RayEngine
from manyhands_ray import hand as hands
from manyhands_sync import SyncFifoExecutor

from .support import LIMIT, Head, connected, wait_until


@pytest.fixture(scope="module", autouse=True)
def here(cluster: Head) -> Iterator[None]:
    with connected(cluster.address):
        yield


@pytest.fixture(autouse=True)
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hands, "HERE", "elsewhere")


class Wait(BaseHook):
    """Lets the second chunk wait until there is a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def setup(self, store: Any) -> None:
        self.end = monotonic() + LIMIT

    def execute(self, entries: list[Any], store: Any) -> None:
        for entry in entries:
            while int(entry["raw_data"]["n"]) >= 10 and not self.path.exists() and self.end > monotonic():
                sleep(0.01)


class Pace(BaseHook):
    """Takes its time."""

    def execute(self, entries: list[Any], store: Any) -> None:
        sleep(0.1 * len(entries))


class Where(BaseHook):
    """Notes the folder in which the worker is."""

    def execute(self, entries: list[Any], store: Any) -> None:
        for entry in entries:
            entry["raw_data"]["folder"] = str(Path.cwd())


def pipe(folder: Path, source: str = "in.csv", hook: BaseHook | None = None) -> Pipe:
    (folder / "in.csv").write_text("n\n" + "".join(f"{n}\n" for n in range(100)))
    output = JSONOutputAdapter(folder / "out.jsonl")
    hooks = [hook or Wait(folder / "go")]
    return Pipe(CSVInputAdapter(folder / source), output, None, None, SyncFifoExecutor(chunksize=10), hooks)


def test_its_report_is_live(tmp_path: Path) -> None:
    running = RayEngine(1)
    running.start([pipe(tmp_path)])
    try:
        wait_until(lambda: running.report.total_processed == 10, "the report tells of the first chunk")
        (tmp_path / "go").touch()
        assert running.wait(LIMIT)
    finally:
        running.shutdown()
    assert (running.report.status, running.report.ok) == (RunStatus.COMPLETED, 100)
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 100


def test_it_can_be_aborted(tmp_path: Path) -> None:
    running = RayEngine(1)
    running.start([pipe(tmp_path, hook=Pace())])
    wait_until(lambda: running.report.total_processed >= 10, "the report tells of the first chunk")
    running.shutdown(LIMIT)
    assert running.report.status is RunStatus.ABORTED
    assert not (tmp_path / "out.jsonl").exists()


def test_relative_paths_are_those_of_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    running = RayEngine(1)
    running.start([pipe(Path(), hook=Where())])
    assert running.wait(LIMIT)
    running.shutdown()
    assert running.report.exception is None
    folders = {json.loads(line)["folder"] for line in Path("out.jsonl").read_text().splitlines()}
    assert len(folders) == 1
    assert not tmp_path.samefile(folders.pop())  # or there is nothing to be seen here


def test_a_file_that_is_not_there_is_told_with_the_node(tmp_path: Path) -> None:
    running = RayEngine(1)
    running.start([pipe(tmp_path, "other.csv")])
    assert running.wait(LIMIT)
    running.shutdown()
    told = str(running.report.exception)
    assert str(tmp_path / "other.csv") in told
    assert f"on the node {socket.gethostname()}" in told
