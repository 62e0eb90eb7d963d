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
ABSENT = set(PLUGINS) - set(BACKENDS)
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
    page, found = _without(ABSENT, PAGE.read_text()) if PAGE.exists() else "", render(mine)
    if {*ran} != MINE or page == found:
        return None
    difference = unified_diff(page.splitlines(), found.splitlines(), "the page", "what the kit finds", n=0, lineterm="")
    return "\n".join([f"make the page anew: {COMMANDS}", *difference])


def _without(backends: set[str], page: str) -> str:
    """The page without the columns of these: of what is not installed here, it may say what was found elsewhere."""
    kept: list[int] | None = None
    lines = []
    for line in page.splitlines(keepends=True):
        if not line.startswith("|"):
            kept = None
            lines.append(line)
            continue
        cells = line.rstrip("\n").split("|")
        kept = kept or [number for number, cell in enumerate(cells) if cell.strip() not in backends]
        lines.append("|".join(cells[number] for number in kept) + "\n")
    return "".join(lines)


def _left_out(found: Mapping[str, Any]) -> list[str]:
    return [name for name, case in found["cases"].items() if case["outcome"] == "not run"]
