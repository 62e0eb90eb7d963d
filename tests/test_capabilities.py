"""A run of all cases fails if docs/capabilities.md says something else than they found."""

from pathlib import Path

import pytest
from tests import capabilities

from manyhands.testing.matrix import render

CONFTEST = Path(__file__).with_name("conftest.py")
FOUND = {
    "TestIt": {
        "backend": "fast",
        "declared": {"inline": True},
        "observed": {"inline": True},
        "cases": {"test_inline": {"topic": "capabilities", "outcome": "passed", "reason": ""}},
    }
}
FINDS = """
from pathlib import Path
from tests import capabilities

capabilities.MINE, capabilities.PAGE = {"fast"}, Path("page.md")

def pytest_sessionstart(session):
    session.config.stash[RESULTS].classes.update(%r)
"""


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["one process", "two processes"])
def test_a_page_that_says_something_else_fails_the_run_and_shows_where(pytester, monkeypatch, options):
    monkeypatch.setenv("PYTHONPATH", str(CONFTEST.parents[1]))
    pytester.makeconftest(CONFTEST.read_text() + FINDS % FOUND)
    pytester.makepyfile("def test_it():\n    pass")
    (pytester.path / "page.md").write_text(render(FOUND).replace("| yes |", "| no |"))
    result = pytester.runpytest_subprocess("-p", "no:hypothesispytest", "-p", "no:cacheprovider", *options)
    result.assert_outcomes(passed=1, failed=1)
    told = ["make the page anew: pytest *", "-| * | no |", "+| * | yes |", "FAILED docs/capabilities.md*"]
    result.stdout.fnmatch_lines(told)


NOT_RUN = {"test_order": {"topic": "order", "outcome": "not run", "reason": ""}}


@pytest.mark.parametrize(
    ("found", "text", "mine"),
    [
        (FOUND, render(FOUND), {"fast"}),
        (FOUND, "", {"fast", "slow"}),
        ({"TestIt": {**FOUND["TestIt"], "cases": NOT_RUN}}, "", {"fast"}),
        ({**FOUND, "TestTheirs": {**FOUND["TestIt"], "backend": "theirs"}}, render(FOUND), {"fast"}),
        ({}, "", {"fast"}),
    ],
    ids=["it is right", "a backend did not run", "a case did not run", "another's backend ran, too", "none ran"],
)
def test_no_other_page_fails_a_run(tmp_path, monkeypatch, found, text, mine):
    page = tmp_path / "page.md"
    page.write_text(text)
    monkeypatch.setattr(capabilities, "PAGE", page)
    monkeypatch.setattr(capabilities, "MINE", mine)
    assert capabilities.outdated(found) is None


def test_what_the_page_says_of_a_backend_that_is_not_installed_stays(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(render({**FOUND, "TestAway": {**FOUND["TestIt"], "backend": "away"}}))
    monkeypatch.setattr(capabilities, "PAGE", page)
    monkeypatch.setattr(capabilities, "MINE", {"fast"})
    monkeypatch.setattr(capabilities, "ABSENT", {"away"})
    assert capabilities.outdated(FOUND) is None
    monkeypatch.setattr(capabilities, "ABSENT", set())
    assert "make the page anew" in str(capabilities.outdated(FOUND))
