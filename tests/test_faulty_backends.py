"""The kit finds what is wrong with a backend, and says it in words that name it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.strangers.site import install

ROOT = Path(__file__).resolve().parents[1]

# Each fault: the case that must see it, the clause that is broken, and what the first line says.
FAULTS = {
    "loses a chunk": ("test_hooks_run_by_priority", "hang", "a run does not end"),
    "swaps results": ("test_each_chunk_gives_its_own_result", "chunks", r"chunk \d .*gave the result of chunk \(\d"),
    "leaks a process": ("test_shutdown_may_be_called_again", "leaks", r"left behind: .*child process \d+"),
    "swallows a crash": ("test_killers_are_found_in_batches", "crashes", r"5: '.* instead of dead'"),
    "sets up twice": ("test_each_worker_sets_its_store_up", "workers", r"4 setups and 2 teardowns"),
    "blocks in submit": ("test_submit_returns_while_all_workers", "submit", r"submit\(\) waits for a worker"),
    "leaves early": (
        "test_nothing_runs_when_shutdown_has_returned",
        "shutdown",
        r"while there were workers: process \d",
    ),
    "shares a store": ("test_each_worker_sets_its_store_up", "workers", "workers share a store"),
    "packs wrongly": (
        "test_values_reach_the_worker_with_their_types",
        "codec",
        "values reach hooks.* changed: .*instead of",
    ),
    "boasts": ("test_can_kill", "capabilities", r"declares can_kill, but evict\(\) .* returned False"),
}

TESTS = """
from manyhands.testing import Bench, ExecutorTests

Bench.finish.__defaults__ = (8.0,)  # seconds: what hangs need not take a minute to be seen

class TestIt(ExecutorTests):
    backend = {backend!r}
    options = {options!r}
"""


def run_kit(folder: Path, backend: str, cases: str, **options: str) -> subprocess.CompletedProcess[str]:
    """The kit's cases of these names, on the backend, as its author runs them."""
    site = install(folder / "site", "tests.strangers.faulty", "faulty", "boasting")
    file = folder / "test_it.py"
    file.write_text(TESTS.format(backend=backend, options={"max_workers": 2, **options}))
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(file),
        "--rootdir",
        str(folder),
        "-p",
        "no:cacheprovider",
        "-x",
        "-q",
    ]
    paths = os.pathsep.join([str(site), str(ROOT)])
    return subprocess.run(
        [*command, "-k", cases],
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=110,
    )


def test_without_a_fault_the_same_cases_pass(tmp_path: Path) -> None:
    cases = " or ".join({case for case, _, _ in FAULTS.values()} - {"test_can_kill"})
    done = run_kit(tmp_path, "faulty", cases)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d\d passed", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_named(tmp_path: Path, fault: str) -> None:
    case, clause, words = FAULTS[fault]
    done = run_kit(tmp_path, "boasting", case) if fault == "boasts" else run_kit(tmp_path, "faulty", case, fault=fault)
    assert done.returncode == 1, done.stdout
    error = next(line for line in done.stdout.splitlines() if line.startswith("E   "))
    assert re.search(words, error), done.stdout
    assert f"The contract says ({clause})" in done.stdout
