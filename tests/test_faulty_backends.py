"""The kit finds what is wrong with a backend, and the first thing that it says names it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.strangers.site import install

ROOT = Path(__file__).resolve().parents[1]

# Each fault: the case that is the first to see it, the clause that is broken, and what the first line says.
FAULTS = {
    "loses a chunk": ("test_concurrent", "hang", r"1 of 4 futures are not done after 8 s, those of chunks \[1\]"),
    "swaps results": ("test_each_chunk_gives_its_own_result", "chunks", r"chunk \d .*gave the result of chunk \(\d"),
    "leaks a process": ("test_inline", "leaks", r"left behind: .*child process \d+"),
    "swallows a crash": (
        "test_records_that_kill_have_their_outcomes",
        "accounting",
        "wrong outcomes .*52: 'not written instead of dead'",
    ),
    "sets up twice": (
        "test_each_worker_is_set_up_once_and_torn_down_once",
        "workers",
        r"setup ran more often than teardown: 2 times in process \d",
    ),
    "blocks in submit": ("test_inline", "submit", r"submit\(\) returned only when a worker had run the chunk"),
    "leaves early": (
        "test_nothing_runs_when_shutdown_has_returned",
        "shutdown",
        r"it returned while there were workers: process \d",
    ),
    "shares a store": (
        "test_each_worker_is_set_up_once_and_torn_down_once",
        "workers",
        r"teardown was given other stores than setup, in processes \{\d",
    ),
    "packs wrongly": (
        "test_values_reach_the_worker_with_their_types",
        "codec",
        "values reach hooks.* changed: .*instead of",
    ),
    "boasts": ("test_can_kill", "capabilities", r"declares can_kill, but evict\(\) .* returned False"),
}

TESTS = """
import multiprocessing.forkserver

from manyhands.testing import Bench, ExecutorTests

multiprocessing.set_forkserver_preload(["tests.strangers.faulty"])
multiprocessing.forkserver.ensure_running()  # Python keeps it, so no case has left it behind
for wait in (Bench.finish, Bench.wait_for):
    wait.__kwdefaults__["seconds"] = 8.0  # what hangs need not take a minute to be seen

class TestIt(ExecutorTests):
    backend = {backend!r}
    options = {options!r}
"""


def run_kit(folder: Path, backend: str, *arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
    """The kit on the backend, as its author runs it, up to the first failure."""
    site = install(folder / "site", "tests.strangers.faulty", "faulty", "boasting")
    (folder / "test_it.py").write_text(TESTS.format(backend=backend, options={"max_workers": 2, **options}))
    fixed = ["-m", "pytest", "test_it.py", "--rootdir", ".", "-p", "no:cacheprovider", "-x", "-q"]
    paths = os.pathsep.join([str(site), str(ROOT)])
    return subprocess.run(
        [sys.executable, *fixed, *arguments],
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=110,
    )


def test_without_a_fault_the_same_cases_pass(tmp_path: Path) -> None:
    cases = {case for case, _, _ in FAULTS.values()}
    done = run_kit(tmp_path, "faulty", "-k", " or ".join(cases))
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d+ passed", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.chaos
def test_without_a_fault_the_whole_kit_passes(tmp_path: Path) -> None:
    done = run_kit(tmp_path, "faulty")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("fault", FAULTS)
def test_the_first_failure_names_the_fault(tmp_path: Path, fault: str) -> None:
    case, clause, words = FAULTS[fault]
    done = run_kit(tmp_path, "boasting") if fault == "boasts" else run_kit(tmp_path, "faulty", fault=fault)
    assert done.returncode == 1, done.stdout
    assert f"::{case}" in done.stdout.partition("FAILED ")[2]
    error = next(line for line in done.stdout.splitlines() if line.startswith("E   "))
    assert re.search(words, error), done.stdout
    assert f"The contract says ({clause})" in done.stdout
