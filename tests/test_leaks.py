"""The leak check of the root conftest.py sees every kind of leak, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
HEAD = """
import multiprocessing, os, pathlib, subprocess, sys, tempfile, threading, time
import pytest

kept = []

@pytest.fixture(scope="session")
def leak_grace():
    return {grace}
"""
LEAKS = {
    "<Thread(*": "threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
    "child process *": "kept.append(subprocess.Popen(['sleep', '3']))",
    "descriptor * of /dev/null": "os.open(os.devnull, os.O_RDONLY)",
    "*/t0/*/tmp*": "tempfile.mkdtemp()",
    "/dev/shm/manyhands-*": "kept.append(tempfile.mkdtemp(prefix='manyhands-', dir='/dev/shm'))",
    "/dev/shm/sem.mp-*": "kept.append(multiprocessing.get_context('spawn').Semaphore())",
    "/dev/shm/sem.left-*": "kept.append(left_by_a_process())",
}
CLEAN = """
    for leak in kept:
        if isinstance(leak, str):
            pathlib.Path(leak).rmdir() if os.path.isdir(leak) else os.unlink(leak)
        elif isinstance(leak, subprocess.Popen):
            leak.kill()
            leak.wait()
    kept.clear()
"""
LEFT = """
def left_by_a_process():
    code = "import os, _multiprocessing as m; n = f'left-{os.getpid()}-1'; m.SemLock(1, 1, 1, '/' + n, 0); print(n)"
    name = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True).stdout.strip()
    return "/dev/shm/sem." + name
"""
STRANGER = """
import multiprocessing, pathlib, os, sys, tempfile, time
from multiprocessing.shared_memory import SharedMemory

go, made, end = map(pathlib.Path, sys.argv[1:])
while not go.exists():
    time.sleep(0.005)
spawn = multiprocessing.get_context("spawn")
semaphore, memory = spawn.Semaphore(), SharedMemory(create=True, size=1)
named, full = (tempfile.TemporaryDirectory(prefix=f"{name}_", dir="/dev/shm") for name in (f"of_{os.getpid()}", "x"))
with open(pathlib.Path(full.name, "file"), "x"):
    made.touch()
    while not end.exists():
        another, more = spawn.Semaphore(), SharedMemory(create=True, size=1)
        time.sleep(0.001)
        more.close()
        more.unlink()
memory.close()
memory.unlink()
"""
MEETS = """
def test_while_another_program_makes_its_own():
    pathlib.Path({go!r}).touch()
    while not os.path.exists({made!r}):
        time.sleep(0.005)

@pytest.mark.parametrize("again", range(5))
def test_of_something_else(again):
    pass

def test_that_leaks():
    kept.append(multiprocessing.get_context("spawn").Semaphore())
"""
SETTLES = """
def test_short_thread():
    threading.Thread(target=time.sleep, args=(0.1,)).start()

def test_cycle():
    cycle = [open(os.devnull)]
    cycle.append(cycle)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only threads, children and files are seen")


@pytest.fixture
def run(pytester):
    """Runs test code under the leak check, in a process of its own."""
    pytester.makeconftest(CONFTEST.read_text())

    def run(code, grace):
        pytester.makepyfile(HEAD.format(grace=grace) + code)
        return pytester.runpytest_subprocess("--import-mode=importlib", "-W", "ignore")

    return run


@pytest.mark.parametrize("what", LEAKS)
def test_a_leak_is_an_error_that_names_it(run, what):
    result = run(f"{LEFT}\ndef test_leaks():\n    {LEAKS[what]}\n\ndef teardown_module():\n{CLEAN}", grace=0.05)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([f"left behind: {what}"])


def test_what_ends_within_the_grace_is_no_leak(run):
    run(SETTLES, grace=5).assert_outcomes(passed=2)


def test_a_grandchild_that_outlives_its_parent_is_found_at_the_end(run):
    result = run("def test_orphan():\n    subprocess.run(['sh', '-c', '(sleep 3; :) &'])", grace=0.05)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*processes outlived their tests: sh -c '(sleep 3; :) &' of *::test_orphan*"])


def test_what_another_program_has_in_shared_memory_is_no_leak(run, tmp_path):
    go, made, end = (str(tmp_path / name) for name in ("go", "made", "end"))
    with subprocess.Popen([sys.executable, "-c", STRANGER, go, made, end]) as stranger:
        try:
            result = run(MEETS.format(go=go, made=made), grace=2)
        finally:
            Path(go).touch()
            Path(end).touch()
    result.assert_outcomes(passed=7, errors=1)
    result.stdout.re_match_lines([r"^left behind: /dev/shm/sem\.mp-\w+$"])
    assert stranger.returncode == 0
