"""docs/capabilities.md says what the conformance kit finds, when all of it ran in this session."""

from pathlib import Path

import pytest

from manyhands.testing.kit import ExecutorTests
from manyhands.testing.matrix import render
from manyhands.testing.results import RESULTS

from .backends import BACKENDS, PLUGINS

PAGE = Path(__file__).parents[1] / "docs/capabilities.md"
CASES = {name for name in dir(ExecutorTests) if name.startswith("test_")}
COMMANDS = (
    "pytest plugins -k conformance --manyhands-results results.json && "
    "python -m manyhands.testing.matrix results.json -o docs/capabilities.md"
)


def test_the_page_is_what_the_kit_finds(pytestconfig):
    mine = set(PLUGINS) & set(BACKENDS)
    classes = {owner: found for owner, found in pytestconfig.stash[RESULTS].classes.items() if found["backend"] in mine}
    ran = {name: set() for name in mine}
    for found in classes.values():
        ran[found["backend"]] |= {case.partition("[")[0] for case in found["cases"]}
    missing = sorted(name for name, cases in ran.items() if cases < CASES)
    if missing:
        pytest.skip(f"not all cases ran on {', '.join(missing)}: run pytest plugins tests/test_capabilities.py")
    page = PAGE.read_text() if PAGE.exists() else ""
    assert page == render(classes), f"make the page anew: {COMMANDS}"
