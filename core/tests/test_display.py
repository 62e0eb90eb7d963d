"""How a run looks while it goes on: a bar that fits the terminal, plain lines elsewhere, objects for machines."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from shlex import quote

import pytest

from .jobs import ENDLESS, ENDLESS_CODE, JOB, MODEL, command, environment, write

if sys.platform == "win32":
    pytest.skip("there are no pseudo-terminals", allow_module_level=True)

from .terminal import Terminal, in_terminal

BAR = re.compile(r"\d+%.* [\d,]+ ok.*  [\d,]+ rows/s +\d+:\d\d:\d\d$")
ENDLESS_BAR = re.compile(r" [\d,]+ ok  [\d,]+ rows/s *$")

# Half a second of work on a file of several blocks, of which every third record is bad.
SLOW = """
    import time
    from manyhands import BaseHook

    class Slow(BaseHook):
        def execute(self, entries, store):
            time.sleep(0.01)
"""


def file_job(folder: Path, hook: str = SLOW) -> Path:
    rows = "n,name\n" + "1,some longer text\n2,some longer text\nx,some longer text\n" * 12_000
    job = JOB + '[hooks]\npre = ["hooks:Slow"]\n[executor]\nchunksize = 500\n'
    return write(folder, job__toml=job, rows_model__py=MODEL, hooks__py=hook, rows__csv=rows) / "job.toml"


def endless_job(folder: Path) -> Path:
    return write(folder, job__toml=ENDLESS, mine__py=ENDLESS_CODE) / "job.toml"


def bars(terminal: Terminal, shape: re.Pattern[str]) -> list[str]:
    return [line for line in terminal.lines if shape.search(line)]


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (200, 50)])
def test_the_bar_fits_the_terminal_and_shows_counts_rate_and_time_left(tmp_path: Path, columns: int, rows: int) -> None:
    file_job(tmp_path)
    with in_terminal(command(), "run", "job.toml", cwd=tmp_path, columns=columns, rows=rows) as terminal:
        terminal.until(lambda now: len(bars(now, BAR)) >= 3)
        assert terminal.end() == 0
        drawn = bars(terminal, BAR)
        assert all(" rejected  " in line for line in drawn)
        assert {len(line) for line in drawn} == {columns}
        assert all("━" in line for line in drawn)
        counts = [int(re.findall(r"([\d,]+) ok", line)[0].replace(",", "")) for line in drawn]
        assert counts == sorted(counts)
        assert 0 < counts[0] < counts[-1]
        assert "│ rejected  │  12,000 │" in terminal.lines
        assert "│ ok        │  24,000 │" in terminal.lines
        assert terminal.lines[-2:] == ["output: out.jsonl", "errors: errors.jsonl"]
        assert terminal.raw.rfind("\x1b[?25h") > terminal.raw.rfind("\x1b[?25l") >= 0


def test_an_input_of_unknown_length_has_neither_percentage_nor_time_left(tmp_path: Path) -> None:
    endless_job(tmp_path)
    with in_terminal(command(), "run", "job.toml", cwd=tmp_path) as terminal:
        terminal.until(lambda now: len(bars(now, ENDLESS_BAR)) >= 2)
        terminal.press(b"\x03")
        assert terminal.end() == 1
        assert not [line for line in terminal.lines if "%" in line]
        assert {len(line) for line in bars(terminal, ENDLESS_BAR) if "^C" not in line} <= {79, 80}


def test_a_very_narrow_terminal_still_gets_one_line_a_bar(tmp_path: Path) -> None:
    endless_job(tmp_path)
    with in_terminal(command(), "run", "job.toml", cwd=tmp_path, columns=30, rows=5) as terminal:
        terminal.until(lambda now: any(" ok" in line for line in now.lines))
        terminal.press(b"\x03")
        assert terminal.end() == 1
        assert all(len(line.removesuffix("^C")) <= 30 for line in terminal.lines if " ok" in line)


def test_what_a_hook_prints_stays_whole_above_the_bar(tmp_path: Path) -> None:
    file_job(tmp_path, SLOW.replace("time.sleep(0.01)", "time.sleep(0.01); print('from the hook')"))
    with in_terminal(command(), "run", "job.toml", "--set", "input.limit=20000", cwd=tmp_path) as terminal:
        assert terminal.end() == 0
        assert terminal.lines.count("from the hook") == 40
        assert bars(terminal, BAR)


def test_what_a_hook_prints_into_a_file_stays_there(tmp_path: Path) -> None:
    file_job(tmp_path, SLOW.replace("time.sleep(0.01)", "time.sleep(0.01); print('from the hook')"))
    line = f"exec {quote(command())} run job.toml --set input.limit=20000 > printed.txt"
    with in_terminal("/bin/sh", "-c", line, cwd=tmp_path) as terminal:
        assert terminal.end() == 0
        assert "from the hook" not in terminal.raw
        assert bars(terminal, BAR)
    printed = (tmp_path / "printed.txt").read_text(encoding="utf-8")
    assert printed.count("from the hook\n") == 40
    assert "completed: sync\n" in printed


def test_plain_lines_come_every_two_seconds_and_never_a_control_character(tmp_path: Path) -> None:
    endless_job(tmp_path)
    line = [command(), "run", "job.toml"]
    with subprocess.Popen(line, cwd=tmp_path, env=environment(), stdout=-1, stderr=-1, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert re.fullmatch(r"[\d,]+ ok  [\d,]+ rows/s\n", first)
    assert err == "manyhands: the run was aborted\n"
    assert out.startswith("aborted: sync\n")
    assert "\x1b" not in first + out + err


def test_json_is_an_object_a_line_and_the_last_is_the_report(tmp_path: Path) -> None:
    file_job(tmp_path)
    line = [command(), "run", "job.toml", "--progress", "json"]
    done = subprocess.run(
        line, check=False, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stderr) == (0, "")
    *live, last = map(json.loads, done.stdout.splitlines())
    assert last["notes"] == ["output: out.jsonl", "errors: errors.jsonl"]
    assert last["counts"] == {"in": 36000, "ok": 24000, "rejected": 12000, "dead": 0, "dropped": 0, "cancelled": 0}
    assert len(live) >= 3
    for each in live:
        assert set(each) == {"status", "fraction", "counts", "rows_per_second"}
        assert each["status"] == "running"
    assert [each["counts"]["ok"] for each in live] == sorted(each["counts"]["ok"] for each in live)
    assert [each["fraction"] for each in live] == sorted(each["fraction"] for each in live)
