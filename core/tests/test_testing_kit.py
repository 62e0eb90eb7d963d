"""The conformance kit itself: no case can be left out, what came of the cases is told, and the page shows it."""

from __future__ import annotations

import json
from concurrent.futures import Future
from dataclasses import fields
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Any

import pytest

from manyhands import BaseExecutor, Capabilities
from manyhands.errors import UsageError
from manyhands.testing.bench import Bench
from manyhands.testing.cases.capabilities import CapabilityCases
from manyhands.testing.cases.needs import needs
from manyhands.testing.contract import CLAUSES, broken
from manyhands.testing.kit import CASES, ExecutorTests
from manyhands.testing.matrix import load, main, render
from manyhands.testing.notes import Meeting
from manyhands.testing.results import Results

NAME = "test_the_class_and_the_plugin_declare_the_same"

HEAD = """
import pytest
from manyhands.testing import ExecutorTests
"""

GOOD = '    backend = "sync"\n'
SPOILT = f"""
    def {NAME}(self, bench):
        pass
"""

FAULTS = {
    "removed": (f"    {NAME} = None", f"*{NAME}: it is removed;*"),
    "replaced": (SPOILT, f"*{NAME}: it is replaced; let it be inherited, or say why it fails by @pytest.mark.xfail*"),
    "a value": (f"    {NAME} = pytest.mark.xfail(reason='x')", f"*{NAME}: it is replaced;*"),
    "skipped": (f"    @pytest.mark.skip{SPOILT}", f"*{NAME}: it is replaced;*"),
    "no reason": (f"    @pytest.mark.xfail{SPOILT}", f"*{NAME}: its xfail gives no reason;*"),
    "blank reason": (f"    @pytest.mark.xfail(reason=' '){SPOILT}", f"*{NAME}: its xfail gives no reason;*"),
    "not run": (f"    @pytest.mark.xfail(reason='x', run=False){SPOILT}", f"*{NAME}: it must run, and fail;*"),
    "not strict": (f"    @pytest.mark.xfail(reason='x', strict=False){SPOILT}", f"*{NAME}: it must run, and fail;*"),
    "skipped, too": (
        f"    @pytest.mark.skip\n    @pytest.mark.xfail(reason='x'){SPOILT}",
        f"*{NAME}: it must run, and fail;*",
    ),
    "another bench": ("    @pytest.fixture\n    def bench(self):\n        pass", "*bench: it is the kit's own;*"),
    "two reasons": (
        f"    @pytest.mark.xfail(reason='x')\n    @pytest.mark.xfail(reason='y'){SPOILT}",
        f"*{NAME}: it has 2 xfail marks; say all reasons in one",
    ),
    "an initialiser": (
        "    def __init__(self):\n        pass",
        "*pytest collects no class with an __init__*",
    ),
    "class mark": (
        "    pytestmark = pytest.mark.skip(reason='x')",
        "*the mark skip on the class, a base of it or*",
    ),
    "class parameters": (
        "    pytestmark = pytest.mark.parametrize('nothing', [1])",
        "*the mark parametrize on the class, a base of it or*",
    ),
    "class needs": (
        "    pytestmark = pytest.mark.manyhands_case(capabilities=('can_kill',), not_=None)",
        "*the mark manyhands_case on the class, a base of it or*",
    ),
    "class marks": (
        "    pytestmark = [pytest.mark.xfail(reason='x')]",
        "*the mark xfail on the class, a base of it or*",
    ),
}


def a_class(body: str = "", head: str = HEAD) -> str:
    return f"{head}\nclass TestSync(ExecutorTests):\n{GOOD}{body}\n"


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a file of tests; by default only the one case."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(code: str, *options: str, only: str = NAME) -> pytest.RunResult:
        pytester.makepyfile(code)
        # Each run would import hypothesis anew, which takes longer than all of its cases.
        fixed = ("--strict-markers", "-rA", "-p", "no:hypothesispytest")
        return pytester.runpytest_inprocess(*fixed, "-k", only, *options)

    return run


def test_a_class_with_a_name_is_a_whole_file(run: Any) -> None:
    result = run(a_class())
    result.assert_outcomes(passed=1, deselected=result.parseoutcomes()["deselected"])


def test_the_kit_itself_is_not_collected(run: Any) -> None:
    run(HEAD, "-o", "python_classes=*Tests", only="test").assert_outcomes()


@pytest.mark.parametrize("what", FAULTS)
def test_what_leaves_a_case_out_is_refused(run: Any, what: str) -> None:
    body, message = FAULTS[what]
    result = run(a_class(body))
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["TestSync must have all cases of the conformance kit:", message])


def test_a_mark_on_the_module_is_refused(run: Any) -> None:
    result = run(a_class(head=HEAD + "pytestmark = pytest.mark.skipif(True, reason='x')"))
    result.stdout.fnmatch_lines(["*the mark skipif on the class, a base of it or*"])


@pytest.mark.parametrize("bases", ["ExecutorTests, Slow", "Slow, ExecutorTests"])
def test_a_mark_on_a_base_is_refused(run: Any, bases: str) -> None:
    head = f"{HEAD}\n@pytest.mark.skip(reason='x')\nclass Slow:\n    pass\n"
    code = a_class("    pytestmark = pytest.mark.usefixtures()", head).replace("(ExecutorTests)", f"({bases})")
    run(code).stdout.fnmatch_lines(["*the mark skip on the class, a base of it or*"])


CHANGES = {"replaced": lambda self, bench: None, "excused": pytest.mark.xfail(reason="x")(lambda self: None)}


@pytest.mark.parametrize("change", ["removed", *CHANGES])
def test_a_case_that_is_changed_in_the_kit_is_missed(run: Any, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    if change == "removed":
        monkeypatch.delattr(CapabilityCases, NAME)
    else:
        monkeypatch.setattr(CapabilityCases, NAME, CHANGES[change])
    run(a_class()).stdout.fnmatch_lines([f"*{NAME}: it is changed in the kit itself, for all backends;*"])


def test_a_class_without_a_backend_is_refused(run: Any) -> None:
    result = run(f"{HEAD}\nclass TestNothing(ExecutorTests):\n    pass\n")
    result.stdout.fnmatch_lines(['*it does not name the backend: set backend = "name"'])


def test_the_kits_own_method_is_not_marked_for_all(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    case = getattr(ExecutorTests, NAME)
    monkeypatch.setattr(case, "pytestmark", [], raising=False)  # and as it was in the end
    result = run(a_class(f"    {NAME} = pytest.mark.xfail(reason='x')(ExecutorTests.{NAME})"))
    result.stdout.fnmatch_lines([f"*{NAME}: the mark xfail is on the kit's own method, for all backends*"])


def own(fixture: str, more: str = "") -> str:
    """A body whose fixture does something before each case."""
    return f"    @pytest.fixture(autouse=True)\n    def spoil(self, request):\n        {fixture}\n{more}"


MARK = "request.applymarker(pytest.mark."
NO_BENCH = "    def pytest_generate_tests(self, metafunc):\n        metafunc.parametrize('bench', [])"
EXCUSES = {
    "a fixture skips": (own("pytest.skip('later')"), "errors"),
    "the cluster skips": ("    def cluster(self):\n        pytest.skip('later')", "errors"),
    "a method skips": ("    def setup_method(self):\n        pytest.skip('later')", "errors"),
    "a fixture excuses": (own("pytest.xfail('later')"), "errors"),
    "a mark excuses": (own(f"{MARK}xfail(reason='later'))", '    options = {"chunksize": 0}'), "failed"),
    "a mark excuses what passes": (own(f"{MARK}xfail(reason='later', strict=False))"), "failed"),
    "no parameter": (NO_BENCH, "errors"),
    "another need": (
        own(f"{MARK}manyhands_case(capabilities=('can_kill',), not_=None))\n        pytest.skip('later')"),
        "errors",
    ),
}


@pytest.mark.parametrize("what", EXCUSES)
def test_only_a_capability_skips_and_only_a_marked_method_excuses(run: Any, pytester: Any, what: str) -> None:
    body, outcome = EXCUSES[what]
    result = run(a_class(body), "--manyhands-results", "results.json")
    assert {name: count for name, count in result.parseoutcomes().items() if name != "deselected"} == {outcome: 1}
    result.stdout.fnmatch_lines([f"{NAME}*: it is *; let it be inherited, or say why it fails by @pytest.mark.xfail*"])
    cases = cases_of(pytester.path / "results.json")
    assert [case["outcome"] for name, case in cases.items() if name.startswith(NAME)] == ["failed"]


def test_a_mark_that_a_hook_adds_does_not_skip(run: Any, pytester: pytest.Pytester) -> None:
    add = "item.add_marker(pytest.mark.skip(reason='not ours'))"
    pytester.makeconftest(f"import pytest\ndef pytest_collection_modifyitems(items):\n    for item in items: {add}")
    result = run(a_class())
    result.assert_outcomes(errors=1, deselected=result.parseoutcomes()["deselected"])
    result.stdout.fnmatch_lines([f"{NAME}: it is skipped (not ours), but not for what its backend declares;*"])


def test_a_skip_inside_a_case_fails(run: Any) -> None:
    head = f"""{HEAD}
from manyhands.testing.bench import Bench

@pytest.fixture(autouse=True)
def skip(monkeypatch):
    monkeypatch.setattr(Bench, "make", lambda *_, **__: pytest.skip("not mine"))
"""
    result = run(a_class(head=head))
    result.assert_outcomes(failed=1, deselected=result.parseoutcomes()["deselected"])
    result.stdout.fnmatch_lines([f"{NAME}: it is skipped (not mine), but not for what its backend declares;*"])


def test_tests_of_ones_own_are_skipped_and_excused_as_their_author_likes(run: Any) -> None:
    body = """
    @pytest.mark.skip
    def test_mine(self):
        pass
    @pytest.mark.xfail(strict=False)
    def test_mine_too(self):
        pass
"""
    result = run(a_class(body), only="test_mine")
    result.assert_outcomes(skipped=1, xpassed=1, deselected=result.parseoutcomes()["deselected"])


BENCHES = {
    "named otherwise": """
    @pytest.fixture(name="bench")
    def other(self, tmp_path):
        return Mine("sync", {}, tmp_path)
""",
    "a parameter": NO_BENCH.replace("[]", "[object()]"),
}


@pytest.mark.parametrize("what", BENCHES)
def test_another_bench_is_refused_when_it_is_used(run: Any, what: str) -> None:
    head = f"{HEAD}\nfrom manyhands.testing import Bench\n\nclass Mine(Bench):\n    pass\n"
    result = run(a_class(BENCHES[what], head))
    result.assert_outcomes(failed=1, deselected=result.parseoutcomes()["deselected"])
    result.stdout.fnmatch_lines([f"{NAME}*: bench is not the kit's own fixture; name yours otherwise"])


def test_another_function_is_refused_when_it_runs(run: Any) -> None:
    body = """
    def __getattribute__(self, name):
        return (lambda bench: None) if name.startswith("test_") else super().__getattribute__(name)
"""
    result = run(a_class(body))
    result.assert_outcomes(failed=1, deselected=result.parseoutcomes()["deselected"])
    result.stdout.fnmatch_lines([f"{NAME}: it is replaced before it runs;*"])


PASSED_OVER = {
    "its name": "class Conformance(ExecutorTests):\n    backend = 'sync'",
    "not to be tested": "class TestIt(ExecutorTests):\n    backend = 'sync'\n    __test__ = False",
    "its base is not": (
        "class Base(ExecutorTests):\n    backend = 'sync'\n    __test__ = False\nclass TestIt(Base):\n    pass"
    ),
    "its module": "__test__ = False\nclass TestIt(ExecutorTests):\n    backend = 'sync'",
    "where it is": "class Group:\n    class TestIt(ExecutorTests):\n        backend = 'sync'",
}


@pytest.mark.parametrize("what", PASSED_OVER)
def test_a_class_that_pytest_passes_over_is_refused(run: Any, what: str) -> None:
    result = run(f"{HEAD}\n{PASSED_OVER[what]}\n")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["pytest passes over *, which tests the backend 'sync': let its name begin*"])


def test_bases_and_what_is_not_selected_may_be_passed_over(run: Any, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_other=f"{HEAD}\nclass Other(ExecutorTests):\n    backend = 'sync'\n")
    bases = "class Base(ExecutorTests):\n    pass\nclass Small(Base):\n    backend = 'sync'\n    __test__ = False\n"
    tests = f"class TestSmall(Small):\n    __test__ = True\nclass TestBase(Base):\n{GOOD}"
    pytester.makepyfile(test_these=f"{HEAD}\n{bases}{tests}")
    result = pytester.runpytest_inprocess("-p", "no:hypothesispytest", f"test_these.py::TestBase::{NAME}")
    result.assert_outcomes(passed=1)


def test_a_case_that_is_expected_to_fail_runs_and_must_fail(run: Any) -> None:
    result = run(a_class(f'    @pytest.mark.xfail(reason="we cannot"){SPOILT}'), "-o", "xfail_strict=false")
    result.assert_outcomes(failed=1, deselected=result.parseoutcomes()["deselected"])
    result.stdout.fnmatch_lines(["*XPASS(strict)*we cannot*"])


def test_a_case_that_fails_as_expected_is_told_with_its_reason(run: Any, pytester: pytest.Pytester) -> None:
    spoil = "CASE = 'spoilt'\n"
    body = f'    options = {{"chunksize": 0}}\n    @pytest.mark.xfail(reason="we cannot"){SPOILT}'
    result = run(a_class(body, head=HEAD + spoil), "--manyhands-results", "results.json")
    result.assert_outcomes(xfailed=1, deselected=result.parseoutcomes()["deselected"])
    assert cases_of(pytester.path / "results.json")[NAME]["outcome"] == "xfailed"
    assert cases_of(pytester.path / "results.json")[NAME]["reason"] == "we cannot"


def test_a_class_whose_module_is_missing_is_skipped_and_says_so(run: Any) -> None:
    result = run(a_class().replace("class", '@pytest.mark.manyhands_needs("no_such_module")\nclass'), only="test_")
    assert set(result.parseoutcomes()) == {"skipped"}
    result.stdout.fnmatch_lines(["*it needs no_such_module, which is not installed"])


def test_a_class_whose_module_is_there_runs(run: Any) -> None:
    result = run(a_class().replace("class", '@pytest.mark.manyhands_needs("json")\nclass'))
    assert result.parseoutcomes()["passed"] == 1


def test_what_a_backend_does_not_declare_skips_a_case_and_says_so(run: Any, pytester: pytest.Pytester) -> None:
    name = "test_a_hook_that_cannot_be_sent_is_refused_before_a_record_is_read"
    result = run(a_class(), "--manyhands-results", "results.json", only=name)
    result.stdout.fnmatch_lines(["*sync does not declare crosses_process"])
    found = cases_of(pytester.path / "results.json")[name]
    assert found == {"topic": "pickling", "outcome": "skipped", "reason": "sync does not declare crosses_process"}


def test_what_it_declares_skips_a_case_for_others(run: Any) -> None:
    result = run(a_class(), only="test_submit_returns_while_all_workers_are_busy")
    result.stdout.fnmatch_lines(["*sync declares inline"])


def test_a_case_fails_that_leaves_something_behind(run: Any) -> None:
    body = """
    def test_of_its_own(self, bench):
        pass
"""
    head = f"""{HEAD}
import os
from manyhands.testing.bench import Bench

ends = []

@pytest.fixture(autouse=True)
def leak(monkeypatch):
    monkeypatch.setattr("manyhands.testing.bench._LEAK_SECONDS", 0.05)
    monkeypatch.setattr(Bench, "observe", lambda *_, **__: ends.extend(os.pipe()))
    yield
    while ends:
        os.close(ends.pop())
"""
    result = run(a_class(body, head), only="test_crosses_process or test_of_its_own")
    assert (result.parseoutcomes()["failed"], result.parseoutcomes()["passed"]) == (1, 1)
    result.stdout.fnmatch_lines(["*sync: left behind: descriptor*pipe:*", "*The contract says (leaks): shutdown*"])


def test_a_case_fails_that_leaves_a_process_without_a_parent(run: Any) -> None:
    head = f"""{HEAD}
import subprocess
from manyhands.testing.bench import Bench

@pytest.fixture(autouse=True)
def leak(monkeypatch):
    monkeypatch.setattr("manyhands.testing.bench._LEAK_SECONDS", 0.05)
    monkeypatch.setattr(Bench, "observe", lambda *_, **__: subprocess.run(["sh", "-c", "(sleep 3; :) &"]))
"""
    result = run(a_class(head=head), only="test_crosses_process")
    result.stdout.fnmatch_lines(["*sync: left behind: sh -c '(sleep 3; :) &' of this test*"])


def test_what_no_case_foresees_is_told_with_the_contract(run: Any) -> None:
    head = f"""{HEAD}
from manyhands.testing.bench import Bench

@pytest.fixture(autouse=True)
def spoil(monkeypatch):
    monkeypatch.setattr(Bench, "make", lambda self, **_: self.nothing)
"""
    result = run(a_class(head=head), only=f"{NAME} or test_shutdown_may_be_called_again")
    assert result.parseoutcomes()["failed"] == 2
    result.stdout.fnmatch_lines(
        [
            "E*AttributeError: 'Bench' object has no attribute 'nothing'",
            "E*sync: no case about capabilities expects this exception",
            "E*The contract says (capabilities): *",
            "E*sync: no case about lifecycle expects this exception",
        ]
    )


def test_results_say_what_was_declared_and_observed(run: Any, pytester: pytest.Pytester) -> None:
    run(a_class(), "--manyhands-results", "results.json", only="test_inline")
    (found,) = json.loads((pytester.path / "results.json").read_text()).values()
    assert found["backend"] == "sync"
    assert (found["declared"]["inline"], found["declared"]["can_kill"]) == (True, False)
    assert found["observed"] == {"inline": True}
    assert found["cases"]["test_inline"] == {"topic": "capabilities", "outcome": "passed", "reason": ""}


def test_results_name_the_cases_that_were_not_run(run: Any, pytester: pytest.Pytester) -> None:
    deselected = f"--deselect=test_results_name_the_cases_that_were_not_run.py::TestSync::{NAME}"
    run(a_class(), "--manyhands-results", "results.json", deselected, only=f"{NAME} or test_inline or test_output_is")
    cases = cases_of(pytester.path / "results.json")
    assert {name.partition("[")[0] for name in cases} == {*CASES}
    ran = {"test_inline", "test_output_is_in_input_order[plain]", "test_output_is_in_input_order[async]"}
    assert {name for name, case in cases.items() if case["outcome"] != "not run"} == ran
    assert "test_output_is_in_input_order" not in cases
    page = render(load([pytester.path / "results.json"]))
    assert "| capabilities | not all tried |" in page
    assert "| order | not all tried |" in page
    assert "| maps | not tried |" in page


def test_results_have_the_cases_of_a_class_of_which_none_is_selected(run: Any, pytester: pytest.Pytester) -> None:
    code = f"{a_class()}\nclass TestOther(ExecutorTests):\n{GOOD}"
    pytester.makepyfile(test_it=code)
    options = ("-p", "no:hypothesispytest", "--manyhands-results", "results.json")
    pytester.runpytest_inprocess(*options, "test_it.py::TestSync::test_inline").assert_outcomes(passed=1)
    found = json.loads((pytester.path / "results.json").read_text())
    assert {case["outcome"] for case in found["test_it.py::TestOther"]["cases"].values()} == {"not run"}


def test_results_are_the_same_where_several_processes_run_the_tests(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=f"{a_class()}\nclass TestOther(ExecutorTests):\n{GOOD}")
    pytester.makepyfile(test_more=a_class(f'    @pytest.mark.xfail(reason="we cannot"){SPOILT}'))
    paths = [f"test_it.py::TestSync::{name}" for name in ("test_inline", "test_concurrent")]
    for processes in ("0", "2"):
        options = ("-p", "no:hypothesispytest", "-p", "no:cacheprovider", "-n", processes, "--dist", "loadfile")
        named = ("--manyhands-results", f"{processes}.json", *paths, f"test_more.py::TestSync::{NAME}")
        pytester.runpytest_subprocess(*options, *named).assert_outcomes(passed=2, failed=1)
    one, two = (json.loads((pytester.path / f"{processes}.json").read_text()) for processes in "02")
    assert len(one) == 3
    assert one == two


def test_what_goes_wrong_is_told_where_several_processes_run_the_tests(pytester: pytest.Pytester) -> None:
    dies = own("os._exit(1) if request.node.name == 'test_inline' else None")
    pytester.makepyfile(test_it=a_class(dies, f"import os\n{HEAD}"), test_other=f"{HEAD}\n{PASSED_OVER['its name']}")
    options = ("-p", "no:hypothesispytest", "-p", "no:cacheprovider", "-n", "2", "-k", "test_inline or test_concurrent")
    result = pytester.runpytest_subprocess(*options, "--manyhands-results", "results.json")
    result.assert_outcomes(passed=1, failed=1, errors=1)
    result.stdout.fnmatch_lines(["pytest passes over *, which tests the backend 'sync': *"])
    cases = cases_of(pytester.path / "results.json")
    assert cases["test_concurrent"]["outcome"] == "passed"
    assert cases["test_inline"]["outcome"] == "failed"
    assert "crashed while running" in cases["test_inline"]["reason"]


def test_results_are_whole_where_others_run_the_tests() -> None:
    facts = {"class": "t.py::T", "case": "test_x[a]", "backend": "fast", "topic": "maps"}
    facts |= {"declared": {"inline": True}, "observed": {}}
    report = pytest.TestReport(
        "t.py::T::test_x[a]@group", ("t.py", 1, "x"), {}, "passed", None, "call", user_properties=[("manyhands", facts)]
    )
    report.wasxfail = "a known fault"
    results = Results()
    results.pytest_runtest_logreport(report)
    (found,) = results.classes.values()
    assert found["cases"].keys() == {*CASES, "test_x[a]"}
    assert found["cases"]["test_x[a]"]["outcome"] == "passed"  # a fault that is gone is none
    assert found["declared"] == {"inline": True}


def test_results_tell_the_fault_of_a_case(run: Any, pytester: pytest.Pytester) -> None:
    run(a_class('    options = {"chunksize": 0}'), "--manyhands-results", "results.json", only="test_inline")
    found = cases_of(pytester.path / "results.json")["test_inline"]
    assert found["outcome"] == "failed"
    assert "option 'chunksize'" in found["reason"]


def cases_of(path: Path) -> dict[str, Any]:
    (found,) = json.loads(path.read_text()).values()
    cases: dict[str, Any] = found["cases"]
    return cases


def test_the_plugin_imports_no_backend_and_nothing_heavy(pytester: pytest.Pytester) -> None:
    code = "import sys, manyhands.testing.plugin; print({'pydantic', 'msgpack', 'psutil'} & {*sys.modules})"
    pytester.makepyfile(look=code)
    assert pytester.runpython("look.py").outlines == ["set()"]


@pytest.mark.parametrize(("declared", "seen"), [(True, False), (False, True)])
def test_a_capability_is_compared_both_ways(tmp_path: Path, declared: bool, seen: bool) -> None:
    bench = Bench("sync", {}, tmp_path)
    assert bench.capabilities.inline
    name = "inline" if declared else "can_kill"
    told = {True: "^sync declares inline, but it did so", False: "^sync: it did so: declare can_kill"}
    with pytest.raises(AssertionError, match=told[declared]):
        bench.observe(name, seen=seen, by="it did so")
    assert bench.observed == {name: seen}


def test_each_capability_has_a_case() -> None:
    assert {f"test_{field.name}" for field in fields(Capabilities)} <= vars(CapabilityCases).keys()


def test_no_case_hides_another() -> None:
    bases = ExecutorTests.__bases__
    names = [name for base in bases for name in vars(base) if not name.startswith("__")]
    assert sorted(names) == sorted(set(names))
    assert all(name.startswith("test_") for name in names)


def test_a_capability_that_a_case_needs_exists() -> None:
    with pytest.raises(ValueError, match="no capability 'can_fly'; there are inline"):
        needs("can_fly")
    with pytest.raises(ValueError, match="no capability 'can_fly'"):
        needs(not_="can_fly")


@pytest.mark.parametrize("key", CLAUSES)
def test_a_broken_clause_names_fault_text_and_place(key: str) -> None:
    fault, text, where = broken(key, "sync: it is wrong").splitlines()
    assert fault == "sync: it is wrong"
    assert text.startswith(f"The contract says ({key}): ")
    assert where.startswith("See: manyhands.")


def test_a_run_that_hangs_is_aborted_and_fails(tmp_path: Path) -> None:
    bench = Bench("threads", {"max_workers": 1}, tmp_path)
    end = [False]

    def endless() -> Any:
        while not end[0]:
            yield {"n": 0}

    with pytest.raises(AssertionError, match=r"^threads: a run does not end within 0\.2 s; \{'in': .*\n.*\(hang\)"):
        bench.finish(bench.pipe(endless(), chunksize=1), seconds=0.2)
    end[0] = True


def test_a_future_that_is_never_done_is_named(tmp_path: Path) -> None:
    done: Future[Any] = Future()
    done.set_result(None)
    bench = Bench("sync", {}, tmp_path)
    with pytest.raises(
        AssertionError, match=r"^sync: 1 of 3 futures are not done after 0\.1 s, those of chunks \[1\]\n.*\(hang\)"
    ):
        bench.wait_for(done, Future(), done, seconds=0.1)


def test_a_future_without_a_result_is_told(tmp_path: Path) -> None:
    failed: Future[Any] = Future()
    failed.set_exception(KeyError("nothing"))
    with pytest.raises(AssertionError, match=r"^sync: .* no result but KeyError\('nothing'\)\n.*\(chunks\)") as caught:
        Bench("sync", {}, tmp_path).results(failed)
    assert isinstance(caught.value.__cause__, KeyError)


def test_two_meet_and_nobody_waits_after_one_who_waited_in_vain(tmp_path: Path) -> None:
    for name, attending in (("both", 2), ("alone", 1)):
        (tmp_path / name).mkdir()
        meeting = Meeting(tmp_path / name, 20.0 if attending == 2 else 0.05)
        threads = [Thread(target=meeting) for _ in range(attending)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert (meeting.took_place, meeting.is_over) == (attending == 2, True)
    begun = monotonic()
    Meeting(tmp_path / "alone", 20.0)()
    assert monotonic() - begun < 10


def test_a_run_that_fails_is_raised(tmp_path: Path) -> None:
    def broken_source() -> Any:
        yield {"n": 0}
        raise OSError("no more")

    with pytest.raises(Exception, match="no more"):
        Bench("sync", {}, tmp_path).run(broken_source())


def test_the_reference_is_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench("sync", {}, tmp_path)
    monkeypatch.setattr("manyhands.testing.bench.REFERENCE", "nowhere")
    with pytest.raises(UsageError, match="the kit compares with the backend 'nowhere': there is no executor 'nowhere'"):
        bench.reference([])


def test_options_that_a_backend_does_not_have_are_left_out(tmp_path: Path) -> None:
    executor: Any = Bench("threads", {"max_workers": 2}, tmp_path).make(chunksize=3, compression="lz4")
    assert isinstance(executor, BaseExecutor)
    assert (executor.max_workers, executor.chunksize, executor.compression) == (2, 3, None)


def results(**outcomes: str) -> dict[str, Any]:
    """Of a class that tests the backend `fast`, which declares that it is concurrent."""
    declared = {field.name: field.name == "concurrent" for field in fields(Capabilities)}
    cases = {name: {"topic": "order", "outcome": what, "reason": "too hard"} for name, what in outcomes.items()}
    return {"backend": "fast", "declared": declared, "observed": {**declared}, "cases": cases}


@pytest.mark.parametrize(
    ("outcomes", "cell"),
    [
        ({"a": "passed", "b": "passed"}, "yes"),
        ({"a": "passed", "b": "skipped"}, "where it applies"),
        ({"a": "skipped"}, "n/a"),
        ({"a": "passed", "b": "failed", "c": "xfailed"}, "**no**"),
        ({"a": "passed", "b": "xfailed"}, "but for known faults"),
        ({"a": "not run", "b": "not run"}, "not tried"),
        ({"a": "passed", "b": "not run"}, "not all tried"),
        ({"a": "xfailed", "b": "not run", "c": "skipped"}, "not all tried"),
        ({"a": "failed", "b": "not run"}, "**no**"),
    ],
)
def test_the_page_says_how_a_topic_ended(outcomes: dict[str, str], cell: str) -> None:
    assert f"| order | {cell} |" in render({"TestFast": results(**outcomes)})


def test_the_page_says_what_was_declared_and_seen() -> None:
    found = results(a="passed")
    page = render({"TestFast": found})
    assert "| `concurrent`: more than one chunk runs at a time | yes |" in page
    assert "| `inline`: `submit` runs the chunk in the calling thread and returns a finished future |  |" in page
    found["observed"].update(concurrent=False, inline=True)
    del found["observed"]["can_kill"]
    page = render({"TestFast": found})
    assert "a time | **declared, not seen** |" in page
    assert "finished future | **seen, not declared** |" in page
    assert "replaces the worker | not tried |" in page


def test_the_page_names_known_faults_and_only_then() -> None:
    assert "- fast, `b`: too hard\n" in render({"TestFast": results(a="passed", b="xfailed")})
    assert "Known faults" not in render({"TestFast": results(a="passed")})


def test_classes_of_one_backend_share_a_column() -> None:
    other = {**results(a="passed"), "backend": "aside", "cases": {}}
    page = render({"TestFast": results(a="passed"), "TestFastToo": results(a="failed"), "TestAside": other})
    assert "| | aside | fast |" in page
    assert "| order | not tried | **no** |" in page


def test_the_page_is_made_of_several_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        found = {**results(a="passed"), "backend": f"number{number}"}
        (tmp_path / f"{number}.json").write_text(json.dumps({f"Test{number}": found}))
    page = tmp_path / "page.md"
    main([str(tmp_path / "1.json"), str(tmp_path / "2.json"), "-o", str(page)])
    assert page.read_text() == render(load([tmp_path / "1.json", tmp_path / "2.json"]))
    assert "| | number1 | number2 |" in page.read_text()
    (tmp_path / "1.json").write_text("{}")
    for file, said in (("1.json", "no case was run"), ("none.json", "is no file of results")):
        with pytest.raises(SystemExit):
            main([str(tmp_path / file), "-o", str(page)])
        assert said in capsys.readouterr().err
