"""Runs the cases of a group in turn, round after round, and checks that each did its work."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.cases import BAD, GOOD, SECONDS, Case, Group
from benchmarks.data import is_bad
from benchmarks.measure import CaseFailed, Cluster, Sample, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BLOCK = 1 << 20


@dataclass(slots=True)
class Measured:
    """A case and what each of its runs cost."""

    case: Case
    samples: list[Sample] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """The median run."""
        return median(sample.seconds for sample in self.samples)

    @property
    def cpu_seconds(self) -> float:
        """The median run."""
        return median(sample.cpu_seconds for sample in self.samples)

    @property
    def rows_per_second(self) -> float:
        """Of the median run."""
        return self.case.rows / self.seconds

    @property
    def peak_mb(self) -> float:
        """The largest of all runs."""
        return max(sample.peak_mb for sample in self.samples)

    @property
    def others(self) -> float | None:
        """CPUs that everything else kept busy, in the median run."""
        known = [sample.others for sample in self.samples if sample.others is not None]
        return median(known) if known else None

    def time_ratio(self, other: Measured) -> float:
        """How many times as long as the other it took.

        The median of the rounds' ratios, so that a machine that slows down or speeds up cancels out.
        """
        return median(mine.seconds / theirs.seconds for mine, theirs in zip(self.samples, other.samples, strict=True))

    def speed_ratio(self, other: Measured) -> float:
        """How many times the other's rows per second it reached."""
        return self.case.rows / other.case.rows / self.time_ratio(other)


def run_group(group: Group, tell: Callable[[str], None]) -> dict[str, Measured]:
    """Measure a group. Each round runs every case once, on a cluster of its own if any; every second one backwards.

    Raises:
        CaseFailed: a process failed, lost records, or wrote other bytes than it must.
    """
    measured = {case.name: Measured(case) for case in group.cases}
    digests: dict[str, str] = {}
    for number in range(group.rounds):
        for case in group.cases[:: -1 if number % 2 else 1]:
            tell(f"{group.name}: round {number + 1} of {group.rounds}: {case.name}")
            with group.cluster() as cluster:
                measured[case.name].samples.append(_run_case(case, digests, cluster))
    return measured


def _run_case(case: Case, digests: dict[str, str], cluster: Cluster | None) -> Sample:
    out = case.folder / "out"
    out.mkdir()
    try:
        sample = run(case.command, case.folder, cluster)
        if case.rows and not case.checks_itself:
            _check(case, digests)
        if case.own_clock:
            sample = replace(sample, seconds=_own_seconds(case))
    finally:
        shutil.rmtree(out)
    return sample


def _own_seconds(case: Case) -> float:
    written = case.folder / SECONDS
    if not written.exists():
        raise CaseFailed(f"{case.name}: did not say how long it took")
    return float(written.read_text(encoding="ascii"))


def _check(case: Case, digests: dict[str, str]) -> None:
    """Every record is in one of the outputs, and the bytes are the ones they must be."""
    good, bad = case.folder / GOOD, case.folder / BAD
    written = (_lines(good), _lines(bad))
    expected = (case.rows - case.bad_rows, case.bad_rows)
    if abs(written[0] - expected[0]) > case.may_miscount or written[1] != expected[1]:
        raise CaseFailed(
            f"{case.name}: wrote {written[0]} good and {written[1]} bad rows, not {expected[0]} and {expected[1]}"
        )
    if not case.same_bytes:
        return
    digests[case.name] = _digest(_clean_lines(good) if case.leave_out_bad else _blocks(good))
    first = next(iter(digests))
    if digests[case.name] != digests[first]:
        raise CaseFailed(f"{case.name} and {first} wrote different bytes")


def _lines(path: Path) -> int:
    """How many there are; none where there is no file."""
    return sum(block.count(b"\n") for block in _blocks(path)) if path.exists() else 0


def _digest(parts: Iterator[bytes]) -> str:
    sum_of_all = hashlib.sha256()
    for part in parts:
        sum_of_all.update(part)
    return sum_of_all.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    """The file, or the parts of a folder, in pieces: this process must stay small (see `measure.run`)."""
    for part in sorted(path.iterdir()) if path.is_dir() else [path]:
        with part.open("rb") as file:
            while block := file.read(BLOCK):
                yield block


def _clean_lines(path: Path) -> Iterator[bytes]:
    """The lines of a clean run that a run with bad rows has too."""
    with path.open("rb") as file:
        for position, line in enumerate(file):
            if not is_bad(position):
                yield line
