"""Nodes that join and leave, and a head that is lost. All nodes are on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from time import monotonic

import pytest
import ray

from manyhands import IterableInputAdapter, MemoryOutputAdapter, Pipe
from manyhands.worker.context import WorkerContext
from manyhands_ray import RayExecutor

from .support import LIMIT, Program, connected, end, wait_until
from .test_workers import Deeds, dead, rows


class Nodes:
    """The cluster of a program of its own; see `nodes.py`."""

    def __init__(self, folder: Path) -> None:
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("nodes.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
            env=os.environ | {"RAY_TMPDIR": str(folder)},
        )
        self.address = self._answer()

    def ask(self, command: str) -> int:
        """Answer of a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return int(self._answer())

    def kill(self, command: str) -> None:
        """Kill the process that a command names."""
        os.kill(self.ask(command), signal.SIGKILL)

    def close(self) -> None:
        end(self._process.pid)
        self._process.communicate()
        self._log.close()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline().strip()
        assert answer, Path(self._log.name).read_text()
        return answer


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    folder = Path(mkdtemp(prefix="mhr", dir="/tmp"))
    cluster = Nodes(folder)
    try:
        yield cluster
    finally:
        cluster.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def leaves_nothing() -> None:
    """Instead of the look for leaks: Ray keeps sockets to nodes that are gone for a while."""


@pytest.fixture(scope="module")
def here(nodes: Nodes) -> Iterator[None]:
    with connected(nodes.address):
        yield


def test_the_window_follows_the_nodes(nodes: Nodes, here: None) -> None:
    executor = RayExecutor(max_inflight=None)
    executor.start(WorkerContext())
    try:
        assert executor.slots() == 2
        number = nodes.ask("add")
        wait_until(lambda: executor.slots() == 4, "a node that has joined raises the window", 4.0)  # 2 s are promised
        nodes.kill(f"raylet {number}")
        wait_until(lambda: executor.slots() == 2, "a node that is gone lowers it", LIMIT)
    finally:
        executor.shutdown()


def test_a_node_that_is_lost_in_a_run(nodes: Nodes, here: None, tmp_path: Path) -> None:
    number = nodes.ask("add")
    wait_until(lambda: ray.cluster_resources().get("CPU") == 2, "the node is there")
    hook = Deeds(tmp_path)
    source = IterableInputAdapter(rows(100, {3: "wait", 60: "wait"}))
    outputs = MemoryOutputAdapter(), MemoryOutputAdapter()
    report = Pipe(source, *outputs, None, RayExecutor(chunksize=10, max_inflight=None), [hook]).start()
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2, "two workers wait")
    nodes.kill(f"raylet {number}")
    (tmp_path / "go").touch()
    assert report.wait(2 * LIMIT)
    assert dead(report) == (100, 0)


def test_the_head_is_lost(nodes: Nodes, tmp_path: Path) -> None:
    """Last, for it ends the cluster."""
    program = Program(tmp_path, nodes.address, count=100_000, pace=0.01)
    wait_until(lambda: program.workers and unpublished(tmp_path), "a worker has a record")
    nodes.kill("gcs")
    nodes.kill("raylet 0")
    begun = monotonic()
    told = program.end()
    assert (told["code"], told["type"]) == (1, "ExecutorBroken"), told
    assert f"the Ray cluster at {nodes.address} is lost" in told["error"]
    assert monotonic() - begun < 2 * LIMIT  # 30 s are promised on a machine that does nothing else
    assert not program.published
    assert unpublished(tmp_path)


def unpublished(folder: Path) -> list[Path]:
    """Outputs under other names than their final ones."""
    return [path for path in folder.iterdir() if "out.jsonl" in path.name and path.name != "out.jsonl"]
