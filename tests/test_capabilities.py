"""docs/capabilities.md says what the conformance kit finds, when all of it ran in this session."""

from pathlib import Path

import pytest

from manyhands.testing.matrix import render
from manyhands.testing.results import RESULTS

from .backends import BACKENDS, PLUGINS

PAGE = Path(__file__).parents[1] / "docs/capabilities.md"
COMMANDS = (
    "pytest plugins -k conformance --manyhands-results results.json && "
    "python -m manyhands.testing.matrix results.json -o docs/capabilities.md"
)


def test_the_page_is_what_the_kit_finds(pytestconfig):
    mine = set(PLUGINS) & set(BACKENDS)
    classes = {owner: found for owner, found in pytestconfig.stash[RESULTS].classes.items() if found["backend"] in mine}
    whole = dict.fromkeys(mine, False)
    for found in classes.values():
        whole[found["backend"]] = all(case["outcome"] != "not run" for case in found["cases"].values())
    missing = sorted(name for name, ran in whole.items() if not ran)
    if missing:
        pytest.skip(f"not all cases ran on {', '.join(missing)}: run pytest plugins tests/test_capabilities.py")
    page = PAGE.read_text() if PAGE.exists() else ""
    assert page == render(classes), f"make the page anew: {COMMANDS}"
