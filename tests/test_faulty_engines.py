"""The kit finds what is wrong with an engine, and says it in words that name it."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from tests.strangers.site import install

ROOT = Path(__file__).resolve().parents[1]

# Each fault: the case that must see it, the clause that is broken, and what the first line says.
FAULTS = {
    "loses a pipe": ("test_each_pipe_writes_what_it_writes_alone", "pipes", "pipe 3 of 3 has written nothing"),
    "hides failures": ("test_shards_that_fail_publish_nothing", "failures", r"raised .* and is "),
    "stops instead of aborting": (
        "test_an_abort_publishes_nothing",
        "abort",
        r"ended by abort\(\) leaves errors.jsonl, out.jsonl",
    ),
    "mixes up reports": ("test_reports_are_the_sums_and_in_order", "reports", "pipe 1 counts .*, alone"),
    "waits for each pipe": ("test_start_returns_and_wait_has_one_deadline", "wait", r"returned False after [23]\.\d s"),
    "tells late": ("test_reports_move_while_pipes_run", "reports", "that has come to record 8 say so while it runs"),
    "leaks a thread": ("test_shutdown_before_start_does_nothing", "leaks", "left behind: <Thread"),
    "starts twice": ("test_start_is_refused_while_pipes_run", "start", "raised no UsageError"),
    "trusts a worker that is gone": (
        "test_a_record_that_always_kills_fails_the_run",
        "losses",
        "the run is completed with None",
    ),
}

HEAD = """
from manyhands.testing import EngineBench, EngineTests, engine_bench
from manyhands.testing.engine_cases import losses

EngineBench.wait_until.__defaults__ = (3.0,)  # seconds: what never happens need not take long to be seen
engine_bench._LEAK_SECONDS = 2.0
losses._LONG = 500

class TestNoFault(EngineTests):
    engine = "faulty-engine"
"""
CLASS = """
class Test{number}(EngineTests):
    engine = {engine!r}
    options = {options!r}
"""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What came of each class: its failures by case. All of them run once, each but the first with one case alone."""
    folder = tmp_path_factory.mktemp("kit")
    site = install(folder / "site", "tests.strangers.faulty_engine", "faulty-engine", "trusting")
    code, wanted = HEAD, ["TestNoFault"]
    for number, (fault, (case, _, _)) in enumerate(FAULTS.items()):
        trusting = fault.startswith("trusts")
        options = {} if trusting else {"fault": fault}
        code += CLASS.format(number=number, engine="trusting" if trusting else "faulty-engine", options=options)
        wanted.append(f"Test{number} and {case}")
    (folder / "test_it.py").write_text(code)
    command = ["pytest", "test_it.py", "--rootdir", str(folder), "-p", "no:cacheprovider", "--junitxml", "out.xml"]
    subprocess.run(
        [sys.executable, "-m", *command, "-k", " or ".join(f"({words})" for words in wanted)],
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])},
        capture_output=True,
        timeout=110,
    )
    found = {}
    for case in ET.parse(folder / "out.xml").iter("testcase"):
        failures = found.setdefault(case.get("classname").rpartition(".")[2], {})
        failures[case.get("name")] = "".join(each.text for each in (*case.iter("failure"), *case.iter("error")))
    return found


def test_without_a_fault_all_cases_pass(outcomes):
    assert {case: text for case, text in outcomes["TestNoFault"].items() if text} == {}
    assert len(outcomes["TestNoFault"]) > 30


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_named(outcomes, fault):
    _, clause, words = FAULTS[fault]
    text, *_ = outcomes[f"Test{list(FAULTS).index(fault)}"].values()
    error = next((line for line in text.splitlines() if line.startswith("E   ")), "")
    assert re.search(words, error), text
    assert f"The contract says ({clause})" in text
