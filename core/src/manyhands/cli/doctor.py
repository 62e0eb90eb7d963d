"""`manyhands doctor`: what is wrong here, and the line that puts it right."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import typer

from manyhands.cli.columns import print_columns
from manyhands.doctor.examine import examine
from manyhands.doctor.finding import Finding


def run_doctor(job: Path | None, *, as_json: bool, fix: bool) -> int:
    """Print what was found, and remove what dead runs have left if that is wanted; returns the exit code."""
    found = [*(_removed(job) if fix else ()), *examine(job)]
    if as_json:
        print(json.dumps([dataclasses.asdict(each) for each in found], indent=2))
    else:
        _show(found)
        if not fix and _is_agreed(found):
            _show(_removed(job))
    return 2 if any(each.level == "error" for each in found) else 0


def _removed(job: Path | None) -> list[Finding]:
    from manyhands.doctor.leftovers import remove_all

    return list(remove_all(job))


def _show(found: Sequence[Finding]) -> None:
    rows = [("", "check", "subject", "message")]
    for each in found:
        rows.append((each.level, each.check, each.subject, each.message))
        if each.remedy is not None:
            rows.append(("", "", "", each.remedy))
    print_columns(rows)
    levels = Counter(each.level for each in found)
    print(", ".join(f"{levels[level]} {level}{'' if levels[level] == 1 else 's'}" for level in ("error", "warning")))


def _is_agreed(found: Sequence[Finding]) -> bool:
    """Ask, where somebody can answer."""
    left = [each for each in found if each.check == "leftovers" and each.level == "warning"]
    if not (left and sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    try:
        return typer.confirm(f"Remove what dead runs have left ({len(left)})?")
    except typer.Abort:
        raise KeyboardInterrupt from None
