"""No worker outlives the program, however that ends and whatever the worker is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from manyhands.processes.launch import StartMethod

from .support import Diary, session_of, wait_until

ROOT = Path(__file__).parents[3]
PROMISE = 2.0

PROGRAM = """
import sys
import time
from plugins.multiprocessing.tests.deeds import Lives
from plugins.multiprocessing.tests.support import make_pipe

if __name__ == "__main__":
    end, start_method, setup, *deeds = sys.argv[1:]
    records = [{"k": k, "do": deed} for k, deed in enumerate(deeds)]
    job = {"pre": [Lives(setup)], "max_workers": 4, "chunksize": 1, "start_method": start_method}
    report = make_pipe(records, **job).start()
    if end == "waits":
        report.wait()
    sys.stdin.readline()
"""


@contextmanager
def program(
    folder: Path, *deeds: str, start_method: StartMethod, end: str = "waits", setup: str = "nothing"
) -> Iterator[subprocess.Popen[str]]:
    """A program of its own with four workers of which each does one of the deeds; who is left is killed in the end."""
    path = folder / "program.py"
    path.write_text(PROGRAM)
    line = [sys.executable, str(path), end, start_method, setup, *deeds]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(line, cwd=folder, env=environment, stdin=-1, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            for pid in session_of(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def all_gone(leader: int, what: Sequence[object]) -> None:
    """See that no process of the program is left in time; shared memory is looked for after every test."""
    with_names = lambda: {pid: psutil.Process(pid).cmdline()[:6] for pid in session_of(leader)}  # noqa: E731
    try:
        wait_until(lambda: not session_of(leader), PROMISE)
    except AssertionError:
        pytest.fail(f"still there after {PROMISE} s: {with_names()}; what they did: {what}", pytrace=False)


def test_workers_die_with_a_program_that_is_killed(start_method: StartMethod, diary: Diary, tmp_path: Path) -> None:
    """One works, one holds the interpreter lock, one waits for somebody to read what it prints, one has no work."""
    with program(tmp_path, "spin", "hold", "flood", start_method=start_method) as process:
        wait_until(lambda: len(diary.of("setup")) == 4)
        wait_until(lambda: all(diary.of(deed) for deed in ("spin", "hold", "flood")))
        (flooder,) = diary.of("flood")
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: psutil.Process(flooder.pid).status() == psutil.STATUS_SLEEPING)
        assert len(session_of(process.pid)) >= 5
        process.kill()
        process.wait()
        all_gone(process.pid, diary.lines)


def test_workers_die_with_a_program_that_is_killed_while_they_start(
    start_method: StartMethod, diary: Diary, tmp_path: Path
) -> None:
    with program(tmp_path, "nothing", start_method=start_method, setup="hold") as process:
        wait_until(lambda: diary.of("setup"))
        process.kill()
        process.wait()
        all_gone(process.pid, diary.lines)


@pytest.mark.parametrize("end", ["waits", "returns"])
def test_workers_die_with_a_program_that_leaves_them(end: str, diary: Diary, tmp_path: Path) -> None:
    """It gets a signal that it does not handle, or returns while its pipe runs in the background."""
    with program(tmp_path, "spin", "hold", "sleep", start_method="forkserver", end=end) as process:
        wait_until(lambda: all(diary.of(deed) for deed in ("spin", "hold", "sleep")))
        if end == "waits":
            process.terminate()
        else:
            process.stdin.close()
        assert process.wait(10) == (-signal.SIGTERM if end == "waits" else 0)
        all_gone(process.pid, diary.lines)


@pytest.mark.chaos
@pytest.mark.parametrize("milliseconds", range(0, 800, 20))
def test_whenever_the_program_is_killed(milliseconds: int, start_method: StartMethod, tmp_path: Path) -> None:
    """Also in the middle of the start of the server, of the interpreters and of the workers."""
    with program(tmp_path, "spin", start_method=start_method) as process:
        with suppress(subprocess.TimeoutExpired):
            process.wait(milliseconds / 1000)
        process.kill()
        process.wait()
        all_gone(process.pid, [])
