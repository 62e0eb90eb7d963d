"""What the tests of the other backend with worker processes ask of it holds here, too: these are the same tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from plugins.multiprocessing.tests import (
    support,
    test_control,
    test_crashes,
    test_multiprocessing,
    test_orphans,
    test_supervision,
    test_timeouts,
    test_workers,
)
from plugins.multiprocessing.tests.conftest import diary, start_method
from plugins.multiprocessing.tests.test_multiprocessing import passing_module

from manyhands_zoosync import ZoosyncExecutor, chunkstaff

__all__ = ["diary", "passing_module", "start_method"]

MODULES = (
    test_control,
    test_crashes,
    test_multiprocessing,
    test_orphans,
    test_supervision,
    test_timeouts,
    test_workers,
)

NOT_HERE = {
    "test_a_chunk_that_was_sent_and_not_begun_is_charged_to_nobody",  # it looks inside; see test_executor.py
    "test_a_job_names_it",  # another name
    "test_a_job_with_such_an_option_is_refused_likewise",  # likewise
    "test_a_worker_that_closes_its_pipe_is_told_from_one_that_is_killed",  # there is none
    "test_a_record_that_is_too_large_for_a_worker_is_dead_alone",  # it is rejected: see test_executor.py
    "test_an_option_that_makes_no_sense_is_refused_in_words",  # it has others
    "test_it_is_chosen_by_name_with_its_options",
    "test_it_takes_what_the_seed_gives_it_by_place",
    "test_one_executor_serves_one_run_after_the_other",
    "test_what_the_plugin_says_is_what_the_executor_can",
    "test_without_anonymous_memory_the_file_that_stands_for_it_says_whose_it_is",  # see test_segment.py
    "test_ctrl_c_ends_the_run_and_its_workers",  # it reads the name in the summary; below with this one
    "test_workers_are_replaced_after_so_many_chunks",  # there is no such option
}

OF_THE_DRIVER = {
    "test_a_batch_is_narrowed_down_by_sixteenths",
    "test_a_slow_output_holds_an_endless_input_up",
    "test_a_slow_output_holds_an_endless_input_up_for_long",
    "test_three_killers_in_ten_thousand_are_found_in_batches",
}
"""They take long, and what they look at does not know the backend."""


def cases_of(module: ModuleType) -> Iterator[tuple[str, Any]]:
    for name, test in vars(module).items():
        if name.startswith("test_") and callable(test) and name not in NOT_HERE | OF_THE_DRIVER:
            yield name, test


for module in MODULES:
    globals().update(cases_of(module))


@pytest.fixture(autouse=True)
def on_this_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (support, *MODULES):
        if hasattr(module, "MultiProcessingExecutor"):
            monkeypatch.setattr(module, "MultiProcessingExecutor", ZoosyncExecutor)
    monkeypatch.setattr(test_supervision, "supervisor", chunkstaff)
    monkeypatch.setattr(test_workers, "JOB", test_workers.JOB.replace("multiprocessing", "zoosync"))
    monkeypatch.setattr(
        test_multiprocessing,
        "SCRIPT",
        test_multiprocessing.SCRIPT.replace("manyhands_multiprocessing import MultiProcessingExecutor", IMPORT),
    )
    monkeypatch.setattr(test_orphans, "PROGRAM", PATCH + test_orphans.PROGRAM)


IMPORT = "manyhands_zoosync import ZoosyncExecutor as MultiProcessingExecutor"
PATCH = """
from manyhands_zoosync import ZoosyncExecutor
from plugins.multiprocessing.tests import support
support.MultiProcessingExecutor = ZoosyncExecutor
"""


@pytest.mark.parametrize(
    ("hook", "start_method"),
    [("works", "forkserver"), ("holds the interpreter lock", "forkserver"), ("sleeps", "spawn")],
)
def test_ctrl_c_ends_the_run_with_its_workers(hook: str, start_method: str, tmp_path: Path) -> None:
    test_workers.job_in(tmp_path, hook, start_method)
    terminal = support.in_time(1.0, lambda: test_workers.interrupt(tmp_path, b"\x03"))
    test_workers.clear_end(terminal.lines)
    assert "aborted: zoosync" in terminal.lines
    assert not (tmp_path / "out.jsonl").exists()
