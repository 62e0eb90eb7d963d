"""Nodes on which a folder is empty that is not where the program is, as if nothing were mounted there."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from manyhands import CSVInputAdapter, JSONOutputAdapter, Pipe, PipeManager, RunStatus
from manyhands.errors import InputError, OutputError, SinkError
from manyhands_ray import RayEngine

from .support import LIMIT, connected, head

NAMESPACE = ["unshare", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"']


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder; the program is connected to the cluster that does not see what is in it."""
    folder = tmp_path_factory.mktemp("hidden")
    within = [*NAMESPACE, str(folder)]
    if subprocess.run([*within, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system permits no namespaces of mounts")
    with head(within=within) as running, connected(running.address):
        yield folder


def run(source: Path, target: Path) -> BaseException | None:
    """Run a pipe in two shards; why it failed."""
    source.write_text("n\n" + "".join(f"{n}\n" for n in range(100)))
    target.parent.mkdir(exist_ok=True)
    pipe = Pipe(CSVInputAdapter(source), JSONOutputAdapter(target))
    with PipeManager.parallelize_pipe(pipe, workers=2, engine=RayEngine(2)) as manager:
        manager.start()
        assert manager.wait(LIMIT)
    assert manager.report.status is RunStatus.FAILED
    assert not target.exists()
    return manager.report.exception


def test_an_input_that_is_not_there(hidden: Path, tmp_path: Path) -> None:
    told = run(hidden / "in.csv", tmp_path / "out.jsonl")
    assert isinstance(told, InputError)
    assert str(hidden / "in.csv") in str(told)
    assert f"on the node {socket.gethostname()}" in str(told)


def test_a_folder_of_the_output_that_is_not_there(hidden: Path, tmp_path: Path) -> None:
    told = run(tmp_path / "in.csv", hidden / "sub" / "out.jsonl")
    assert isinstance(told, OutputError)
    assert f"the folder {hidden / 'sub'} does not exist" in str(told)
    assert f"on the node {socket.gethostname()}" in str(told)


def test_a_folder_of_the_output_that_is_another_one_there(hidden: Path, tmp_path: Path) -> None:
    told = run(tmp_path / "in.csv", hidden / "out.jsonl")
    assert isinstance(told, SinkError)
    assert f"{hidden / 'out.jsonl.part-0000'}, which a worker has written, is not there" in str(told)
