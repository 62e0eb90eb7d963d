"""Shows what was measured: a table for people, JSON for programs."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from os import cpu_count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.cases import Group
    from benchmarks.floors import Verdict
    from benchmarks.rounds import Measured

BUSY = 0.1
"""More than so many CPUs busy with something else make numbers doubtful."""
PACKAGES = (
    "manyhands-core",
    "manyhands-asyncio",
    "manyhands-dask",
    "manyhands-multiprocessing",
    "manyhands-ray",
    "manyhands-sync",
    "manyhands-threads",
    "manyhands-zoosync",
    "distributed",
    "msgpack",
    "pandas",
    "pyarrow",
    "pydantic",
    "pydantic-core",
    "ray",
    "zoopipe",
)


def table(group: Group, results: Mapping[str, Measured]) -> str:
    """The group's cases, one a line."""
    baseline = results[group.baseline]
    head = f"{'':28}{'seconds':>9}{'rows/s':>12}{'CPU s':>8}{'peak MB':>9}{'others':>8}   speed ratio"
    lines = [_line(measured, baseline) for measured in results.values()]
    return "\n".join([f"{group.name}: {group.title}; median of {group.rounds}", head, *lines])


def _line(measured: Measured, baseline: Measured) -> str:
    rate = f"{measured.rows_per_second:,.0f}" if measured.case.rows else ""
    others = "" if measured.others is None else f"{measured.others:.2f}{'!' if measured.others > BUSY else ' '}"
    costs = f"{measured.seconds:9.3f}{rate:>12}{measured.cpu_seconds:8.2f}{measured.peak_mb:9.1f}{others:>8}"
    return f"  {measured.case.name:26}{costs}   {_ratio(measured, baseline)}"


def _ratio(measured: Measured, baseline: Measured) -> str:
    if measured is baseline:
        return "1.00 (baseline)"
    ratio = measured.speed_ratio(baseline) if measured.case.rows else 1 / measured.time_ratio(baseline)
    return f"{ratio:.2f}"


def as_json(groups: Sequence[tuple[Group, Mapping[str, Measured]]], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """All of it, with every sample."""
    return {
        "machine": _machine(),
        "groups": {group.name: _group(group, results) for group, results in groups},
        "floors": [
            {"floor": str(verdict.floor), "value": verdict.value, "unmet": verdict.unmet} for verdict in verdicts
        ],
    }


def _group(group: Group, results: Mapping[str, Measured]) -> dict[str, Any]:
    baseline = results[group.baseline]
    return {
        "title": group.title,
        "baseline": group.baseline,
        "cases": {name: _case(measured, baseline) for name, measured in results.items()},
    }


def _case(measured: Measured, baseline: Measured) -> dict[str, Any]:
    return {
        "rows": measured.case.rows,
        "seconds": measured.seconds,
        "rows_per_second": measured.rows_per_second,
        "cpu_seconds": measured.cpu_seconds,
        "peak_mb": measured.peak_mb,
        "others": measured.others,
        "time_ratio": measured.time_ratio(baseline),
        "samples": [asdict(sample) for sample in measured.samples],
    }


def _machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": cpu_count(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
