"""Hooks that fail by script do what it says, at each attempt, and count it whatever dies."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic
from typing import Any

import cloudpickle
import pytest

from manyhands import IterableInputAdapter, MemoryOutputAdapter, Pipe
from manyhands.errors import UsageError
from manyhands.testing.faults import CAUSES, commit
from manyhands.testing.script import Script, attempts, deterministic_failure, fate, release, seeded

from .support import wait_until
from .workers import as_list
from .workers import run as run_chunk

both_kinds = pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])


def run(folder: Path, script: Script, count: int = 5, **how: Any) -> dict[int, str]:
    """The outcomes of records, each alone in its chunk."""
    hook = deterministic_failure(folder, script, **how)
    return {record: outcome_of(hook, record) for record in range(count)}


def outcome_of(hook: Any, record: int) -> str:
    result = run_chunk(as_list([{"k": record}], start=record), pre_hooks=[hook])
    return "ok" if result.ok else "rejected" if result.rejected else "dropped"


@both_kinds
def test_each_attempt_has_its_deed_and_the_last_one_stays(is_async: bool, tmp_path: Path) -> None:
    script: Script = {1: ["raise", "drop", "ok", "reject"], 3: ["drop"]}
    found = [run(tmp_path, script, is_async=is_async) for _ in range(5)]
    assert [outcomes[1] for outcomes in found] == ["rejected", "dropped", "ok", "rejected", "rejected"]
    assert {outcomes[3] for outcomes in found} == {"dropped"}
    assert {outcomes[k] for outcomes in found for k in (0, 2, 4)} == {"ok"}
    assert attempts(tmp_path) == dict.fromkeys(range(5), 5)


@both_kinds
@pytest.mark.parametrize("stage", ["pre", "post"])
def test_a_hook_of_either_stage_says_why(stage: str, is_async: bool, tmp_path: Path) -> None:
    hook = deterministic_failure(tmp_path, {0: ["raise"], 1: ["reject"]}, is_async=is_async)
    errors = MemoryOutputAdapter()
    job: Any = {f"{stage}_validation_hooks": [hook], "error_output_adapter": errors}
    Pipe(IterableInputAdapter([{"k": 0}, {"k": 1}]), **job).run()
    assert [error["errors"][0]["message"] for error in errors.results] == [
        f"{type(hook).__name__}: record 0 fails by script",
        "rejected by script",
    ]


def test_a_batch_is_counted_up_to_the_record_that_fails(tmp_path: Path) -> None:
    run_chunk(as_list([{}] * 4), pre_hooks=[deterministic_failure(tmp_path, {1: ["raise"]}, replay=False)])
    assert attempts(tmp_path) == {0: 1, 1: 1}


@both_kinds
def test_a_hook_travels(is_async: bool, tmp_path: Path) -> None:
    hook = deterministic_failure(tmp_path, {0: ["raise", "ok"]}, is_async=is_async)
    copies = [cloudpickle.loads(cloudpickle.dumps(hook)) for _ in range(2)]
    assert [outcome_of(copy, 0) for copy in copies] == ["rejected", "ok"]


def test_counts_survive_the_death_of_a_process(tmp_path: Path) -> None:
    hook = deterministic_failure(tmp_path, {4: ["die", "ok"]})
    code = "import pickle, sys; pickle.load(sys.stdin.buffer).execute([{'position': 4}], None)"
    died = subprocess.run([sys.executable, "-c", code], input=cloudpickle.dumps(hook), check=False)
    assert died.returncode == -signal.SIGKILL
    assert attempts(tmp_path) == {4: 1}
    assert outcome_of(hook, 4) == "ok"
    assert attempts(tmp_path) == {4: 2}


def test_the_process_that_made_a_hook_does_not_die_of_it(tmp_path: Path) -> None:
    assert outcome_of(deterministic_failure(tmp_path, {0: ["die"]}), 0) == "rejected"
    for fault in CAUSES:
        with pytest.raises(Exception, match="must not declare crosses_process"):
            commit(fault)


@both_kinds
def test_sleep_is_bounded(is_async: bool, tmp_path: Path) -> None:
    begun = monotonic()
    assert run(tmp_path, {0: ["sleep"]}, 1, is_async=is_async, seconds=0.05) == {0: "ok"}
    assert monotonic() - begun >= 0.05


@both_kinds
def test_sleepers_are_woken(is_async: bool, tmp_path: Path) -> None:
    thread = threading.Thread(target=run, args=(tmp_path, {0: ["sleep"]}, 1), kwargs={"is_async": is_async})
    thread.start()
    wait_until(lambda: attempts(tmp_path) == {0: 1})
    release(tmp_path)
    thread.join(15)
    assert not thread.is_alive()
    assert run(tmp_path, {0: ["sleep"]}, 1, is_async=is_async) == {0: "ok"}
    assert attempts(tmp_path) == {0: 2}


def test_the_same_seed_draws_the_same_script() -> None:
    drawn = seeded(7, 200, deeds=["raise", "die"], share=0.5, longest=3)
    assert drawn == seeded(7, 200, deeds=["raise", "die"], share=0.5, longest=3) != seeded(8, 200)
    assert 60 < len(drawn) < 140
    assert {len(deeds) for deeds in drawn.values()} == {1, 2, 3}
    assert {deed for deeds in drawn.values() for deed in deeds} == {"raise", "die"}
    assert seeded(7, 200, share=0.0) == {}
    assert list(seeded(7, 20, share=1.0)) == list(range(20))


@pytest.mark.parametrize(
    ("deeds", "retries", "wanted"),
    [
        (["ok"], 1, ("ok", 1)),
        (["drop", "raise"], 1, ("dropped", 1)),
        (["die", "reject"], 1, ("rejected", 2)),
        (["die", "ok"], 0, ("dead", 1)),
        (["die"], 2, ("dead", 3)),
        (["die", "die", "sleep"], 2, ("ok", 3)),
    ],
)
def test_the_fate_of_a_record_is_known_beforehand(deeds: Any, retries: int, wanted: tuple[str, int]) -> None:
    assert fate(deeds, crash_retries=retries) == wanted


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ({7: ["dye"]}, "record 7: 'dye' is no deed; there are ok, raise, reject, drop, sleep, die"),
        ({7: []}, r"record 7 needs a list of one deed or more, not \[\]"),
        ({7: "die"}, "record 7 needs a list of one deed or more, not 'die'"),
    ],
)
def test_what_is_no_script_is_refused(script: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        deterministic_failure(tmp_path, script)


def test_the_example_works() -> None:
    import manyhands.testing.script as module

    example = (module.__doc__ or "").partition("\n\n")[2].rpartition("\n\n")[0]
    exec("\n".join(line.removeprefix("    ") for line in example.splitlines()), {})
