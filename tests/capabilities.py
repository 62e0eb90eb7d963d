"""docs/capabilities.md, against what the conformance kit found."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import unified_diff
from pathlib import Path
from typing import Any

from manyhands.testing.matrix import render

from .backends import BACKENDS, PLUGINS

PAGE = Path(__file__).parents[1] / "docs/capabilities.md"
MINE = set(PLUGINS) & set(BACKENDS)
COMMANDS = (
    "pytest plugins -k conformance --manyhands-results results.json && "
    "python -m manyhands.testing.matrix results.json -o docs/capabilities.md"
)


def outdated(classes: Mapping[str, Mapping[str, Any]]) -> str | None:
    """What is to be done about the page; None: it is right, or not every case ran on every backend of this repository.

    Args:
        classes: results, as `--manyhands-results` writes them.
    """
    mine = {owner: found for owner, found in classes.items() if found["backend"] in MINE}
    ran = [found["backend"] for found in mine.values() if not _left_out(found)]
    page, found = PAGE.read_text() if PAGE.exists() else "", render(mine)
    if {*ran} != MINE or page == found:
        return None
    difference = unified_diff(page.splitlines(), found.splitlines(), "the page", "what the kit finds", n=0, lineterm="")
    return "\n".join([f"make the page anew: {COMMANDS}", *difference])


def _left_out(found: Mapping[str, Any]) -> list[str]:
    return [name for name, case in found["cases"].items() if case["outcome"] == "not run"]
