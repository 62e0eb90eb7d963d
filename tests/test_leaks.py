"""The leak check of the root conftest.py sees every kind of leak, and nothing else."""

import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
HEAD = """
import os, subprocess, tempfile, threading, time
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
}
CLEAN = "[os.rmdir(leak) if isinstance(leak, str) else leak.kill() or leak.wait() for leak in kept]"
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
    result = run(f"def test_leaks():\n    {LEAKS[what]}\n\ndef teardown_module():\n    {CLEAN}", grace=0.05)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([f"left behind: {what}"])


def test_what_ends_within_the_grace_is_no_leak(run):
    run(SETTLES, grace=5).assert_outcomes(passed=2)


def test_a_grandchild_that_outlives_its_parent_is_found_at_the_end(run):
    result = run("def test_orphan():\n    subprocess.run(['sh', '-c', 'sleep 3 &'])", grace=0.05)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*processes outlived their tests: sleep 3 of *::test_orphan"])
