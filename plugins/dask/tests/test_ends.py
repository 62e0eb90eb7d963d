"""A program ends in the middle of a run: what it has started ends with it, somebody else's cluster goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from core.tests.terminal import in_terminal

from manyhands_dask import DaskExecutor

from .clusters import Cluster, has_ended, wait_until
from .deeds import pipe_to

PROGRAM = """
import os, sys
from pathlib import Path
from manyhands import BaseHook, IterableInputAdapter, JSONOutputAdapter, Pipe
from manyhands_dask import DaskExecutor

class Naps(BaseHook):
    def execute(self, entries, store):
        import time
        time.sleep(0.02)

def rows():
    for k in range(10**6):
        if k == 30:
            Path("pid.part").write_text(str(os.getpid()))
            Path("pid.part").rename("pid")
        yield {"k": k}

address = sys.argv[1] if sys.argv[1:] else None
executor = DaskExecutor(address=address, max_workers=2, chunksize=1)
output = JSONOutputAdapter("out.jsonl")
Pipe(IterableInputAdapter(rows()), output, executor=executor, pre_validation_hooks=[Naps()]).run()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the program has its temporary files."""
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def all_of(folder: Path) -> list[psutil.Process]:
    """The program, once it runs records, and all that it has started."""
    wait_until((folder / "pid").exists, "records are read", 60)
    program = psutil.Process(int((folder / "pid").read_text()))
    return [program, *program.children(recursive=True)]


def interrupt(command: list[str], folder: Path) -> list[psutil.Process]:
    """Press ^C, which reaches all that runs in the terminal."""
    with in_terminal(*command, cwd=folder) as terminal:
        started = all_of(folder)
        terminal.press(b"\x03")
        assert terminal.end() != 0
        assert "KeyboardInterrupt" in terminal.lines[-1]
    return started


def kill(command: list[str], folder: Path) -> list[psutil.Process]:
    """Let it say nothing any more."""
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) as program:
        started = all_of(folder)
        program.send_signal(signal.SIGKILL)
    return started


@pytest.mark.parametrize("end", [interrupt, kill])
def test_its_own_cluster_ends_with_it(
    end: Callable[[list[str], Path], list[psutil.Process]], tmp_path: Path, temporary: Path
) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    started = end([sys.executable, "program.py"], tmp_path)
    assert len(started) > 3  # the cluster's own process, and two workers
    wait_until(lambda: all(map(has_ended, started)), "all that the program has started ends")
    assert not (tmp_path / "out.jsonl").exists()
    assert end is kill or not [*temporary.iterdir()]


HOOK = """
import time
from pathlib import Path
from manyhands import BaseHook

class Hangs(BaseHook):
    def execute(self, entries, store):
        Path("hangs").touch()
        time.sleep(100)
"""

JOB = """
[input]
adapter = "csv"
path = "rows.csv"
[output]
adapter = "jsonl"
path = "out.jsonl"
[hooks]
pre = ["slow:Hangs"]
[{}]
name = "dask"
"""


@pytest.mark.parametrize("kind", ["executor", "engine"])
def test_a_job_whose_workers_are_in_the_midst_of_a_call_ends_its_cluster(
    kind: str, tmp_path: Path, temporary: Path
) -> None:
    """Were ^C to reach the workers, Dask would wait for the call, and say much of that."""
    (tmp_path / "slow.py").write_text(HOOK)
    (tmp_path / "job.toml").write_text(JOB.format(kind))
    (tmp_path / "rows.csv").write_text("n\n1\n2\n")
    with in_terminal(sys.executable, "-m", "manyhands", "run", "job.toml", cwd=tmp_path) as terminal:
        wait_until(lambda: terminal.watch(0.02) or (tmp_path / "hangs").exists(), "a record is in the hook", 60)
        terminal.press(b"\x03")
        assert terminal.end() == 1
        assert terminal.lines[-1] == "manyhands: the run was aborted"
    assert not [*temporary.iterdir()]


@pytest.mark.parametrize("kind", ["executor", "engine"])
def test_a_program_that_is_killed_leaves_nobody_busy_with_its_call(
    kind: str, tmp_path: Path, shared: Cluster, temporary: Path
) -> None:
    """Who would have killed it cannot any more: the worker itself does, and its nanny starts another."""
    (tmp_path / "slow.py").write_text(HOOK.replace('"hangs"', repr(str(tmp_path / "hangs"))))
    (tmp_path / "job.toml").write_text(JOB.format(kind) + f'address = "{shared.address}"\n')
    (tmp_path / "rows.csv").write_text("n\n1\n2\n")
    before = shared.wait_for_workers(2)
    command = [sys.executable, "-m", "manyhands", "run", "job.toml", "--progress", "none"]
    with subprocess.Popen(command, cwd=tmp_path) as program:
        wait_until((tmp_path / "hangs").exists, "a record is in the hook", 60)
        program.kill()
    wait_until(lambda: shared.wait_for_workers(2).keys() - before.keys(), "there is another worker")
    executor = DaskExecutor(address=shared.address, chunksize=1)
    assert pipe_to(tmp_path, 20, executor).run().ok == 20
    left = {path.name.rpartition("-")[2][:5] for path in temporary.iterdir()}
    assert left == ({"board"} if kind == "engine" else set())  # the next run removes it


ASKS = """
import subprocess
from manyhands import BaseHook

class Hangs(BaseHook):
    def execute(self, entries, store):
        subprocess.run(["sh", "-c", "stty -echo < /dev/tty"], stderr=subprocess.DEVNULL)
"""


def test_who_asks_the_terminal_something_stops_nobody(tmp_path: Path, temporary: Path) -> None:
    """As `ssh` does in a hook; it is told that there is none."""
    (tmp_path / "slow.py").write_text(ASKS)
    (tmp_path / "job.toml").write_text(JOB.format("executor"))
    (tmp_path / "rows.csv").write_text("n\n1\n2\n")
    with in_terminal(sys.executable, "-m", "manyhands", "run", "job.toml", cwd=tmp_path) as terminal:
        wait_until(lambda: terminal.watch(0.1) or (tmp_path / "out.jsonl").exists(), "it is done", 60)
        assert terminal.end() == 0
    assert not [*temporary.iterdir()]


@pytest.mark.parametrize("end", [interrupt, kill])
def test_the_cluster_of_somebody_else_goes_on(
    end: Callable[[list[str], Path], list[psutil.Process]], tmp_path: Path, shared: Cluster, temporary: Path
) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    workers = shared.wait_for_workers(2)
    started = end([sys.executable, "program.py", shared.address], tmp_path)
    wait_until(lambda: all(map(has_ended, started)), "all that the program has started ends")
    assert not (tmp_path / "out.jsonl").exists()
    assert end is kill or not [*temporary.iterdir()]
    assert pipe_to(tmp_path, 20, DaskExecutor(address=shared.address, chunksize=1)).run().ok == 20
    assert shared.wait_for_workers(2).keys() == workers.keys()
