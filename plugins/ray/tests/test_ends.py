"""What is left when a program is interrupted or killed: of its own nothing, of a cluster of somebody else's all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from core.tests.terminal import in_terminal

from manyhands.processes.owner import owned_name
from manyhands_ray import local

from .support import Head, Program, processes, runs, terminal, wait_until


@pytest.mark.parametrize("how", ["^C", "killed"])
def test_a_cluster_of_somebody_else_is_left_running(cluster: Head, tmp_path: Path, how: str) -> None:
    before = cluster.pids("gcs_server") + cluster.pids("raylet/raylet")
    with ended(tmp_path, cluster.address, how) as program:
        assert program.end()["code"] != 0
    wait_until(lambda: not cluster.pids("ray::Actor"), "the actors are gone")
    assert cluster.pids("gcs_server") + cluster.pids("raylet/raylet") == before
    assert not program.published


@pytest.mark.parametrize("how", ["^C", "killed"])
def test_a_ray_of_our_own_is_gone(tmp_path: Path, how: str) -> None:
    with ended(tmp_path, "none", how) as program:
        workers = program.workers
        assert program.end()["code"] != 0
        wait_until(lambda: not processes(program.process.pid), "its processes are gone")
        wait_until(lambda: not any(map(runs, workers)), "its workers are gone")
    assert not program.published
    sessions = f"mhray*/session_*_{program.process.pid}"
    wait_until(lambda: not [*Path("/tmp").glob(sessions)], "its files are gone")


def test_the_folder_of_a_program_that_runs_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / owned_name("ray")).touch()
    assert not local._is_orphan(tmp_path)


def test_the_folder_of_a_program_that_is_gone_is_removed_by_the_next(tmp_path: Path) -> None:
    """Where what is to remove it was killed, too."""
    code = "from manyhands.processes.owner import owned_name; print(owned_name('ray'), end='')"
    name = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    (tmp_path / name).touch()
    assert local._is_orphan(tmp_path)


@contextmanager
def ended(folder: Path, address: str, how: str) -> Iterator[Program]:
    """A program in a terminal that is ended in the midst of its run: by somebody at the keyboard, or from outside."""
    with terminal() as (keyboard, stdin):
        program = Program(folder, address, terminal=stdin, count=100_000, pace=0.01)
        try:
            program.wait_for_workers(2)
            os.write(keyboard, b"\x03") if how == "^C" else os.kill(program.process.pid, signal.SIGKILL)
            yield program
        finally:
            program.kill()


JOB = """
[input]
adapter = "csv"
path = "rows.csv"
[output]
adapter = "jsonl"
path = "out.jsonl"
{}
name = "ray"
"""


def test_an_engine_that_is_interrupted_leaves_no_parts(cluster: Head, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("n,text\n" + "".join(f"{n},{'x' * 40}\n" for n in range(500_000)))
    (tmp_path / "job.toml").write_text(JOB.format("[engine]") + f'workers = 8\naddress = "{cluster.client_address}"\n')
    command = (sys.executable, "-m", "manyhands", "run", "job.toml")
    with in_terminal(*command, cwd=tmp_path) as terminal:
        wait_until(lambda: terminal.watch(0.02) or list(tmp_path.glob("out.jsonl.part-*")), "parts are written", 60)
        terminal.press(b"\x03")
        assert terminal.end() != 0
    assert not list(tmp_path.glob("out.jsonl.part-*"))
    assert not (tmp_path / "out.jsonl").exists()


HOOK = """
import time
from pathlib import Path
from manyhands import BaseHook

class Hangs(BaseHook):
    def execute(self, entries, store):
        Path("{}/hangs").touch()
        time.sleep(100)
"""


@contextmanager
def hanging(folder: Path, kind: str) -> Iterator[Path]:
    """A job whose workers hang in the midst of a call; the folder that it has for temporary files, empty afterwards."""
    (folder / "slow.py").write_text(HOOK.format(folder))
    (folder / "job.toml").write_text(JOB.format(f'[hooks]\npre = ["slow:Hangs"]\n[{kind}]'))
    (folder / "rows.csv").write_text("n\n1\n2\n")
    with TemporaryDirectory(prefix="mhr", dir="/tmp") as short:
        yield Path(short)
        assert not [*Path(short).iterdir()]


@pytest.mark.parametrize("kind", ["executor", "engine"])
def test_a_job_whose_workers_hang_ends_its_ray(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with hanging(tmp_path, kind) as temporary:
        monkeypatch.setenv("TMPDIR", str(temporary))
        with in_terminal(sys.executable, "-m", "manyhands", "run", "job.toml", cwd=tmp_path) as terminal:
            wait_until(lambda: terminal.watch(0.02) or (tmp_path / "hangs").exists(), "a record is in the hook", 90)
            terminal.press(b"\x03")
            assert terminal.end() == 1
            assert terminal.lines[-1] == "manyhands: the run was aborted"


def test_a_job_that_is_told_to_end_does_as_at_ctrl_c(tmp_path: Path) -> None:
    """Ray would end it on the spot."""
    line = [sys.executable, "-m", "manyhands", "run", "job.toml", "--progress", "none"]
    with hanging(tmp_path, "executor") as temporary:
        env = {**os.environ, "TMPDIR": str(temporary)}
        with subprocess.Popen(line, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True) as process:
            wait_until((tmp_path / "hangs").exists, "a record is in the hook", 90)
            process.terminate()
            assert process.communicate()[1] == "manyhands: the run was aborted\n"
            assert process.returncode == 1
