"""The command line: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import floors, report
from benchmarks.cases import Group, Options, UsageError, can_import
from benchmarks.groups import GROUPS, ON_CLUSTERS, build
from benchmarks.measure import CaseFailed
from benchmarks.rounds import Measured, run_group

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_UNMET, EXIT_USAGE = 1, 2
Done = tuple[Group, dict[str, Measured]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; returns the exit code."""
    asked = _parser().parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    try:
        done = _measure(asked)
    except UsageError as wrong:
        print(f"benchmarks: {wrong}", file=sys.stderr)
        return EXIT_USAGE
    except CaseFailed as failed:
        print(f"benchmarks: {failed}", file=sys.stderr)
        return EXIT_UNMET
    verdicts = _judge(done)
    print("floors:", *verdicts, sep="\n  ")
    _write_json(asked.json, done, verdicts)
    return EXIT_UNMET if asked.check and not _passed(verdicts, allow_missing=asked.allow_missing) else 0


def _leave(number: int, _: object) -> None:
    """End as after ^C: nothing is left running."""
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description="Measure manyhands, one process at a time.", allow_abbrev=False
    )
    add = parser.add_argument
    add(
        "groups",
        nargs="*",
        metavar="GROUP",
        help=f"what to measure: {', '.join(GROUPS)}; default: all that need no cluster",
    )
    add("--rows", type=int, default=1_000_000, help="rows, or calls, of each case (default 1,000,000)")
    add("--memory-rows", type=int, default=1_000_000, help="rows of the memory group's smaller case")
    add("--rounds", type=int, default=5, help="how often each case runs (default 5)")
    add("--executors", default="sync", help="backends of manyhands, with commas (default sync)")
    add("--manyhands", type=Path, default=_beside_python(), help="its command (default: beside this Python)")
    add("--zoopipe-python", type=Path, default=Path(sys.executable), help="a Python that has zoopipe installed")
    add("--cache", type=Path, default=_default_cache(), help="folder for generated inputs")
    add("--json", type=Path, help="where to write all numbers (default: results.json in the cache folder)")
    add("--check", action="store_true", help="exit with 1 when a floor of the measured groups is not reached")
    add("--allow-missing", action="store_true", help="with --check, let floors pass whose cases were left out")
    return parser


def _beside_python() -> Path:
    return Path(sys.executable).with_name("manyhands")


def _default_cache() -> Path:
    return Path(tempfile.gettempdir()) / f"manyhands-benchmarks-{os.getuid()}"


def _measure(asked: argparse.Namespace) -> list[Done]:
    if asked.json is None:
        asked.json = asked.cache / "results.json"
    names = asked.groups or [name for name in GROUPS if name not in ON_CLUSTERS]
    if unknown := [name for name in names if name not in GROUPS]:
        raise UsageError(f"no such group: {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    _own_folder(asked.cache)
    work = Path(tempfile.mkdtemp(prefix="work-", dir=asked.cache))
    try:
        options = _options(asked, work)
        return [_measure_group(name, options) for name in names]
    finally:
        shutil.rmtree(work)


def _own_folder(cache: Path) -> None:
    """Make the cache folder; refuse one in a shared place that somebody else has made."""
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = cache.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise UsageError(f"{cache} belongs to somebody else; choose another folder with --cache")


def _options(asked: argparse.Namespace, work: Path) -> Options:
    zoopipe = asked.zoopipe_python.absolute()
    if not can_import(zoopipe, "zoopipe"):
        print(f"without zoopipe: {zoopipe} cannot import it (pip install zoopipe, or say --zoopipe-python PATH)")
        zoopipe = None
    return Options(
        rows=asked.rows,
        memory_rows=asked.memory_rows,
        rounds=asked.rounds,
        executors=tuple(asked.executors.split(",")),
        manyhands=asked.manyhands.absolute(),
        zoopipe_python=zoopipe,
        cache=asked.cache.absolute(),
        work=work.absolute(),
    )


def _measure_group(name: str, options: Options) -> Done:
    group = build(name, options)
    results = run_group(group, _tell)
    _tell("")
    print(report.table(group, results), end="\n\n", flush=True)
    return group, results


def _tell(text: str) -> None:
    """Show on a terminal what runs now, on one line."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _judge(done: Sequence[Done]) -> list[floors.Verdict]:
    """The floors of the groups that were measured."""
    results = {f"{group.name}/{name}": measured for group, cases in done for name, measured in cases.items()}
    groups = {group.name for group, _ in done}
    return [floors.judge(floor, results) for floor in floors.load() if floor.group in groups]


def _passed(verdicts: Sequence[floors.Verdict], *, allow_missing: bool) -> bool:
    """Every floor was reached; one that was not measured was not."""
    return not any(verdict.unmet or (verdict.missing and not allow_missing) for verdict in verdicts)


def _write_json(path: Path, done: Sequence[Done], verdicts: Sequence[floors.Verdict]) -> None:
    path.write_text(json.dumps(report.as_json(done, verdicts), indent=1) + "\n", encoding="utf-8")
    print(f"all numbers: {path}")


if __name__ == "__main__":
    sys.exit(main())
