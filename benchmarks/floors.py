"""The floors: what has to be reached, and whether it was."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.rounds import Measured

FILE = Path(__file__).with_name("floors.toml")
What = Literal["speed", "time", "per_second", "peak_mb", "extra_peak_mb", "ms", "extra_ms"]


@dataclass(frozen=True, slots=True)
class Floor:
    """One demand: see the head of `floors.toml`."""

    case: str
    what: What
    against: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def group(self) -> str:
        """The group that both cases are in."""
        return self.case.partition("/")[0]

    def __str__(self) -> str:
        limit = f"at least {self.at_least}" if self.at_least is not None else f"at most {self.at_most}"
        return f"{self.case} {self.what} {limit}" + (f" against {self.against}" if self.against else "")


@dataclass(frozen=True, slots=True)
class Verdict:
    """A floor and what was measured; `value` is None when one of its cases did not run."""

    floor: Floor
    value: float | None

    @property
    def missing(self) -> bool:
        """It was not measured."""
        return self.value is None

    @property
    def unmet(self) -> bool:
        """It was measured and missed."""
        if self.value is None:
            return False
        too_little = self.floor.at_least is not None and self.value < self.floor.at_least
        return too_little or (self.floor.at_most is not None and self.value > self.floor.at_most)

    def __str__(self) -> str:
        if self.value is None:
            return f"?     {self.floor}: not measured"
        return f"{'UNMET' if self.unmet else 'ok   '} {self.floor}: {self.value:.2f}"


def load(path: Path = FILE) -> list[Floor]:
    """The floors in the file."""
    return [Floor(**table) for table in tomllib.loads(path.read_text(encoding="utf-8"))["floor"]]


def judge(floor: Floor, results: Mapping[str, Measured]) -> Verdict:
    """Compare a floor with what was measured, by `group/case`."""
    mine, other = results.get(floor.case), results.get(floor.against)
    if mine is None or (floor.against and other is None):
        return Verdict(floor, None)
    return Verdict(floor, _compared(floor.what, mine, other) if other else _alone(floor.what, mine))


def _alone(what: What, mine: Measured) -> float:
    if what == "peak_mb":
        return mine.peak_mb
    if what == "ms":
        return mine.seconds * 1000
    if what == "per_second":
        return mine.rows_per_second
    raise ValueError(f"floor: {what} needs a case to compare with (against)")


def _compared(what: What, mine: Measured, other: Measured) -> float:
    if what == "speed":
        return mine.speed_ratio(other)
    if what == "time":
        return mine.time_ratio(other)
    if what == "extra_peak_mb":
        return mine.peak_mb - other.peak_mb
    if what == "extra_ms":
        return (mine.seconds - other.seconds) * 1000
    raise ValueError(f"floor: {what} is compared with nothing (against)")
