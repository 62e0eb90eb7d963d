"""The flights example: `manyhands run` writes the same bytes as the plain loop beside it."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "flights"
WHOLE_ROWS = 336_776


@dataclass(frozen=True)
class Outputs:
    """What a run left behind."""

    flights: bytes
    errors: bytes


def run(*command: str | Path, folder: Path) -> None:
    """Run a real process to its end, or fail with what it printed."""
    command = tuple(map(str, command))
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def manyhands_command() -> Path:
    """The console script of this environment."""
    found = shutil.which("manyhands", path=Path(sys.executable).parent)
    assert found, "the manyhands command is not installed beside this Python"
    return Path(found)


def copy_of_example(folder: Path, data: Path) -> Path:
    """The example as a newcomer has it, with `data` as its input; the checkout stays untouched."""
    copy = folder / "flights"
    shutil.copytree(EXAMPLE, copy, ignore=shutil.ignore_patterns("*.jsonl", "__pycache__", "flights.csv"))
    shutil.copyfile(data, copy / "flights.csv")
    return copy


def results(folder: Path) -> Outputs:
    """Both output files of a run in `folder`."""
    return Outputs((folder / "out/flights.jsonl").read_bytes(), (folder / "out/errors.jsonl").read_bytes())


def by_plain_loop(folder: Path) -> Outputs:
    """What `plain.py` makes of the example in `folder`; its files are gone afterwards."""
    run(sys.executable, folder / "plain.py", folder=folder)
    outputs = results(folder)
    (folder / "out/flights.jsonl").unlink()
    (folder / "out/errors.jsonl").unlink()
    return outputs


def by_manyhands(folder: Path) -> tuple[Outputs, dict[str, Any]]:
    """What `manyhands run` makes of the example in `folder`, and its report."""
    report = folder / "report.json"
    job = folder / "job.toml"
    run(manyhands_command(), "run", job, "--progress", "none", "--report", report, folder=folder.parent)
    return results(folder), json.loads(report.read_text(encoding="utf-8"))


def assert_same(folder: Path, rows: int) -> None:
    """Both ways write the same bytes, and the report counts them."""
    plain = by_plain_loop(folder)
    ours, report = by_manyhands(folder)
    assert ours.errors == plain.errors
    assert ours.flights == plain.flights
    good, bad = ours.flights.count(b"\n"), ours.errors.count(b"\n")
    assert report["counts"] == {"in": rows, "ok": good, "rejected": bad, "dead": 0, "dropped": 0, "cancelled": 0}
    assert good + bad == rows


@pytest.fixture(scope="session")
def whole_table(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The whole table, where somebody put it: a zip or a csv named by MANYHANDS_FLIGHTS, or beside the checkout."""
    source = Path(os.environ.get("MANYHANDS_FLIGHTS") or ROOT.parent / "shared" / "data" / "flights.csv.zip")
    if not source.is_file():
        pytest.skip(f"the whole flights table is not at {source}; set MANYHANDS_FLIGHTS to a flights.csv or its zip")
    if source.suffix != ".zip":
        yield source
        return
    folder = tmp_path_factory.mktemp("whole")
    with zipfile.ZipFile(source) as archive:
        yield Path(archive.extract("flights.csv", folder))
    shutil.rmtree(folder)


def test_sample_by_both_ways(tmp_path: Path) -> None:
    data = EXAMPLE / "flights.csv"
    rows = data.read_bytes().count(b"\n") - 1
    assert rows >= 10_000
    assert_same(copy_of_example(tmp_path, data), rows)


@pytest.mark.chaos
def test_whole_table_by_both_ways(tmp_path: Path, whole_table: Path) -> None:
    assert_same(copy_of_example(tmp_path, whole_table), WHOLE_ROWS)


def test_sample_is_every_29th_row(whole_table: Path) -> None:
    header, *rows = whole_table.read_bytes().splitlines(keepends=True)
    assert header + b"".join(rows[10::29]) == (EXAMPLE / "flights.csv").read_bytes()


def test_sample_has_each_kind_of_trouble(tmp_path: Path) -> None:
    plain = by_plain_loop(copy_of_example(tmp_path, EXAMPLE / "flights.csv"))
    rejected = [json.loads(line) for line in plain.errors.splitlines()]
    assert all(record["line"] == record["position"] + 2 for record in rejected)
    reasons = Counter(error["type"] for record in rejected for error in record["errors"])
    assert set(reasons) == {"diverted", "no_such_time", "too_fast", "string_pattern_mismatch"}
    flights = [json.loads(line) for line in plain.flights.splitlines()]
    assert {flight["punctuality"] for flight in flights} == {"on time", "late", "very late", "cancelled"}
    assert b",NA," in (EXAMPLE / "flights.csv").read_bytes()
