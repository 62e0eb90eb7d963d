"""The conformance kit for engines: it is guarded as that for executors is."""

from __future__ import annotations

from typing import Any

import pytest

from manyhands import CSVInputAdapter, JSONOutputAdapter, Pipe, get_executor
from manyhands.engines.split import ShardPipes
from manyhands.testing.engine_bench import EngineBench
from manyhands.testing.engine_contract import CLAUSES, broken
from manyhands.testing.engine_kit import EngineTests

NAME = "test_nothing_is_reported_before_the_start"
HEAD = "import pytest\nfrom manyhands.testing import EngineTests\n"
GOOD = '    engine = "sync"\n'
SPOILT = f"    def {NAME}(self, bench):\n        assert False\n"

FAULTS = {
    "removed": (f"{GOOD}    {NAME} = None", f"*{NAME}: it is removed;*"),
    "replaced": (f"{GOOD}{SPOILT}", f"*{NAME}: it is replaced; let it be inherited, or say why it fails*"),
    "no reason": (f"{GOOD}    @pytest.mark.xfail\n{SPOILT}", f"*{NAME}: its xfail gives no reason;*"),
    "no engine": ('    backend = "sync"', '*it does not name the engine: set engine = "name"'),
}


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a class of tests; by default only the one case."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(body: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(f"{HEAD}\nclass TestIt(EngineTests):\n{body}\n")
        fixed = ("--strict-markers", "-rA", "-p", "no:hypothesispytest")
        return pytester.runpytest_inprocess(*fixed, "-k", NAME, *options)

    return run


def test_a_class_with_a_name_is_a_whole_file(run: Any) -> None:
    result = run(GOOD)
    result.assert_outcomes(passed=1, deselected=result.parseoutcomes()["deselected"])


@pytest.mark.parametrize("what", FAULTS)
def test_what_leaves_a_case_out_is_refused(run: Any, what: str) -> None:
    body, message = FAULTS[what]
    result = run(body)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["TestIt must have all cases of the conformance kit:", message])


def test_a_case_that_is_expected_to_fail_runs_and_must_fail(run: Any) -> None:
    result = run(f'{GOOD}    @pytest.mark.xfail(reason="we cannot")\n{SPOILT}', "-o", "xfail_strict=false")
    result.stdout.fnmatch_lines(["*XPASS(strict)*we cannot*"])


def test_a_case_fails_that_leaves_something_behind(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manyhands.testing.engine_bench.EngineBench.check_leaks", _left)
    result = run(GOOD)
    result.assert_outcomes(failed=1, deselected=result.parseoutcomes()["deselected"])
    result.stdout.fnmatch_lines(["*sync: left behind: a sock*", "*The contract says (leaks): shutdown*"])


def _left(bench: EngineBench) -> None:
    raise AssertionError(bench.broken("leaks", "left behind: a sock"))


def test_no_case_hides_another() -> None:
    names = [name for base in EngineTests.__bases__ for name in vars(base) if not name.startswith("__")]
    assert sorted(names) == sorted(set(names))
    assert all(name.startswith("test_") for name in names)


@pytest.mark.parametrize("key", CLAUSES)
def test_a_broken_clause_names_fault_text_and_place(key: str) -> None:
    fault, text, where = broken(key, "sync: it is wrong").splitlines()
    assert fault == "sync: it is wrong"
    assert text.startswith(f"The contract says ({key}): ")
    assert where.startswith("See: manyhands.")


def test_shards_have_executors_of_their_own(tmp_path: Any) -> None:
    """They may run side by side in one process."""
    (tmp_path / "in.csv").write_text("a\n1\n2\n")
    source, output = CSVInputAdapter(tmp_path / "in.csv"), JSONOutputAdapter(tmp_path / "out.jsonl")
    whole = Pipe(source, output, executor=get_executor("sync", chunksize=1))
    executors = [pipe.executor for pipe in ShardPipes(whole, 2)]
    assert len({id(executor) for executor in (whole.executor, *executors)}) == 3
    assert [getattr(executor, "chunksize", None) for executor in executors] == [1, 1]
