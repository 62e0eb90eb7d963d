"""How a run looks while it goes on: a table that stands still, plain lines elsewhere, objects for machines."""

import json
import re
import signal
import stat
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from shlex import quote

import pytest
from rich.console import Console

from manyhands.cli.display.frame import Frame, Moment, height_of
from manyhands.live import WorkerView
from manyhands.report import FlowReport

from .jobs import ENDLESS, ENDLESS_CODE, JOB, MODEL, command, environment, write

if sys.platform == "win32":
    pytest.skip("there are no pseudo-terminals", allow_module_level=True)

from .terminal import Terminal, in_terminal, logs

BAR = re.compile(r"^ *\d+% .*\d+:\d\d:\d\d$")
END_OF_FRAME = "\x1b[K"

# Half a second of work on a file of several blocks, of which every third record is bad.
SLOW = """
    import time
    from manyhands import BaseHook

    class Slow(BaseHook):
        def execute(self, entries, store):
            time.sleep(0.01)
"""

# A record takes 25 ms, and a chunk a second.
SLOW_MODEL = """
    import time
    from pydantic import BaseModel, field_validator

    class Row(BaseModel):
        n: int
        name: str

        @field_validator("n")
        @classmethod
        def slow(cls, n: int) -> int:
            time.sleep(0.025)
            return n
"""
SLOW_CHUNKS = "[executor]\nname = '{}'\nchunksize = 40\n"


def file_job(folder: Path, hook: str = SLOW) -> Path:
    rows = "n,name\n" + "1,some longer text\n2,some longer text\nx,some longer text\n" * 12_000
    job = JOB + '[hooks]\npre = ["hooks:Slow"]\n[executor]\nchunksize = 500\n'
    return write(folder, job__toml=job, rows_model__py=MODEL, hooks__py=hook, rows__csv=rows) / "job.toml"


def slow_job(folder: Path, tables: str, records: int = 80) -> Path:
    rows = "n,name\n" + "1,some longer text\n" * records
    return write(folder, job__toml=JOB + tables, rows_model__py=SLOW_MODEL, rows__csv=rows) / "job.toml"


def endless_job(folder: Path) -> Path:
    return write(folder, job__toml=ENDLESS, mine__py=ENDLESS_CODE) / "job.toml"


def is_drawn(terminal: Terminal) -> bool:
    """A frame is whole: all that has come ends where one does."""
    return terminal.raw.endswith(END_OF_FRAME) and any(line.startswith("worker ") for line in terminal.shown)


def frames(terminal: Terminal, count: int) -> list[list[str]]:
    """The screen, as it is drawn so often and looks different each time."""
    seen: list[list[str]] = []

    def look(terminal: Terminal) -> bool:
        if is_drawn(terminal) and (not seen or seen[-1] != list(terminal.screen.display)):
            seen.append(list(terminal.screen.display))
        return len(seen) == count

    terminal.until(look)
    return seen


def number(text: str, what: str) -> int:
    found = re.search(rf"([\d,]+) {what}", text)
    return int(found[1].replace(",", "")) if found else 0


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (200, 50)])
def test_a_row_for_each_worker_stands_still_and_its_counts_move_within_a_chunk(
    tmp_path: Path, columns: int, rows: int
) -> None:
    executor = "[executor]\nname = 'multiprocessing'\nchunksize = 70\nmax_workers = 2\n"
    slow_job(tmp_path, executor, records=140)
    with in_terminal(command(), "run", "job.toml", cwd=tmp_path, columns=columns, rows=rows) as terminal:
        seen = [each for each in frames(terminal, 5) if "validate" in "".join(each)]
        assert terminal.end() == 0
        assert terminal.shown[-2:] == ["output: out.jsonl", "errors: errors.jsonl"]
        assert "│ ok        │     140 │" in terminal.shown
        assert not terminal.screen.cursor.hidden
        assert len(terminal.screen.history.top) == 0
    for lines in seen:
        assert BAR.match(lines[0].rstrip()) or lines[0].startswith("  0% ") or not lines[0].strip()
        assert lines[2].split() == ["worker", "state", "done", "failed", "rows/s", "memory", "position"]
        assert not "".join(lines[10:]).strip()
    assert len({tuple(line.rstrip().rfind("position") for line in lines) for lines in seen}) == 1
    states = {line.split()[1] for lines in seen for line in lines[3:5] if line.strip()}
    assert "validate" in states <= {"unpack", "validate", "pack", "running", "idle"}
    moved = [number(lines[1], "under way") for lines in seen if lines[1].startswith("0 ok")]
    assert len(set(moved)) >= 3
    assert moved == sorted(moved)
    assert any(number(lines[3], "MiB") > 5 for lines in seen)


def test_a_file_has_a_bar_a_percentage_and_the_time_left(tmp_path: Path) -> None:
    file_job(tmp_path)
    with in_terminal(command(), "run", "job.toml", cwd=tmp_path) as terminal:
        seen = frames(terminal, 3)
        assert terminal.end() == 0
        assert BAR.match(seen[-1][0].rstrip())
        counts = [number(lines[1], "ok") for lines in seen]
        assert counts[0] < counts[-1]
        assert counts == sorted(counts)
        assert number(seen[-1][1], "rejected") == pytest.approx(counts[-1] / 2, abs=2)
        assert seen[-1][3].startswith("manyhands-driver ")


def test_an_input_of_unknown_length_has_neither_percentage_nor_time_left(tmp_path: Path) -> None:
    endless_job(tmp_path)
    with in_terminal(command(), "run", "job.toml", cwd=tmp_path) as terminal:
        seen = frames(terminal, 3)
        terminal.press(b"\x03")
        assert terminal.end() == 1
        assert all(not lines[0].strip() for lines in seen)
        assert all(re.match(r"[\d,]+ ok  [\d,]+ rows/s", lines[1]) for lines in seen[1:])


@pytest.mark.parametrize("size", [(30, 5), (12, 3), (3, 1)])
def test_the_smallest_terminals_show_what_fits(tmp_path: Path, size: tuple[int, int]) -> None:
    endless_job(tmp_path)
    with in_terminal(command(), "run", "job.toml", cwd=tmp_path, columns=size[0], rows=size[1]) as terminal:
        terminal.until(lambda now: now.raw.count("\x1b[?25l") >= 3)
        assert len(terminal.screen.history.top) == 0
        terminal.press(b"\x03")
        assert terminal.end() == 1


def test_it_follows_when_the_terminal_is_made_larger_or_smaller(tmp_path: Path) -> None:
    endless_job(tmp_path)
    with in_terminal(command(), "run", "job.toml", cwd=tmp_path) as terminal:
        for columns, rows in ((80, 24), (50, 24), (50, 6), (120, 30)):
            terminal.resize(columns, rows)
            frames(terminal, 3)
            headers = [line for line in terminal.shown if line.startswith("worker ")]
            assert len(headers) == 1
            assert headers[0].endswith("position") == (columns >= 80)
        terminal.press(b"\x03")
        assert terminal.end() == 1
        assert not [line for line in terminal.shown if line.startswith("worker ")]
        assert not terminal.screen.cursor.hidden


def test_ctrl_c_leaves_the_terminal_clean(tmp_path: Path) -> None:
    endless_job(tmp_path)
    with in_terminal(command(), "run", "job.toml", cwd=tmp_path) as terminal:
        before = terminal.settings
        frames(terminal, 2)
        terminal.press(b"\x03")
        assert terminal.end() == 1
        assert terminal.shown[0] == "aborted: sync"
        assert terminal.shown[-1] == "manyhands: the run was aborted"
        assert not terminal.screen.cursor.hidden
        assert terminal.settings == before


@pytest.mark.parametrize("executor", ["sync", "multiprocessing"])
def test_what_is_printed_is_in_a_file_and_its_last_lines_are_below_the_table(tmp_path: Path, executor: str) -> None:
    printing = "time.sleep(0.01); print('from\\x1b[2J the hook', entries[0]['position'])"
    file_job(tmp_path, SLOW.replace("time.sleep(0.01)", printing))
    options = ("--executor", executor, "--set", "input.limit=20000")
    with in_terminal(command(), "run", "job.toml", *options, cwd=tmp_path) as terminal:
        terminal.until(lambda now: is_drawn(now) and "from[2J the hook" in "".join(now.shown))
        assert terminal.end() == 0
        assert "from\x1b[2J" not in terminal.raw
        [log] = logs()
        assert f"printed: {log}" in "".join(terminal.shown)
        assert stat.S_IMODE(log.stat().st_mode) == 0o600
        printed = re.findall(r"from\x1b\[2J the hook (\d+)\n", log.read_text(encoding="utf-8"))
        assert sorted(map(int, printed)) == list(range(0, 20_000, 500))


def test_there_is_no_file_where_nothing_was_printed(tmp_path: Path) -> None:
    file_job(tmp_path)
    with in_terminal(command(), "run", "job.toml", cwd=tmp_path) as terminal:
        assert terminal.end() == 0
        assert not logs()
        assert "printed:" not in terminal.raw


def test_what_a_hook_prints_into_a_file_stays_there(tmp_path: Path) -> None:
    file_job(tmp_path, SLOW.replace("time.sleep(0.01)", "time.sleep(0.01); print('from the hook')"))
    line = f"exec {quote(command())} run job.toml --set input.limit=20000 > printed.txt"
    with in_terminal("/bin/sh", "-c", line, cwd=tmp_path) as terminal:
        frames(terminal, 1)
        assert terminal.end() == 0
        assert "from the hook" not in terminal.raw
        assert not logs()
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
        out, err = process.communicate(timeout=60)
    assert re.fullmatch(r"[\d,]+ ok  [\d,]+ rows/s\n", first)
    assert err == "manyhands: the run was aborted\n"
    assert out.startswith("aborted: sync\n")
    assert "\x1b" not in first + out + err


def objects(folder: Path) -> list[dict]:
    line = [command(), "run", "job.toml", "--progress", "json"]
    done = subprocess.run(line, check=False, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_json_is_an_object_a_line_and_the_last_is_the_report(tmp_path: Path) -> None:
    file_job(tmp_path)
    *live, last = objects(tmp_path)
    assert last["notes"] == ["output: out.jsonl", "errors: errors.jsonl"]
    assert last["counts"] == {"in": 36000, "ok": 24000, "rejected": 12000, "dead": 0, "dropped": 0, "cancelled": 0}
    assert len(live) >= 3
    for each in live:
        keys = {"status", "fraction", "counts", "reached", "rows_per_second", "seconds_left", "workers"}
        assert set(each) == keys
        assert each["status"] == "running"
    assert [each["counts"]["ok"] for each in live] == sorted(each["counts"]["ok"] for each in live)
    assert [each["fraction"] for each in live] == sorted(each["fraction"] for each in live)
    [worker] = live[-1]["workers"]
    assert worker["failed"] == pytest.approx(worker["done"] / 2, abs=2)
    assert worker["failed"] > 0
    assert worker["ram_bytes"] > 1 << 20


@pytest.mark.parametrize(
    ("tables", "name", "workers"),
    [
        (SLOW_CHUNKS.format("sync"), r"\d+/manyhands-driver|\d+/", 1),
        (SLOW_CHUNKS.format("threads") + "max_workers = 2\n", r"\d+/threads-\d", 2),
        (SLOW_CHUNKS.format("multiprocessing") + "max_workers = 2\n", r"\d+/MainThread", 2),
        (SLOW_CHUNKS.format("zoosync") + "max_workers = 2\n", r"\d+/MainThread", 2),
        ("[executor]\nchunksize = 40\n[engine]\nname = 'multiprocessing'\nworkers = 2\n", r"pipe \d", 2),
        ("[executor]\nchunksize = 40\n[engine]\nname = 'zoosync'\nworkers = 2\n", r"pipe \d", 2),
    ],
    ids=["sync", "threads", "multiprocessing", "zoosync", "engine", "engine zoosync"],
)
def test_counts_of_every_backend_move_within_a_chunk(tmp_path: Path, tables: str, name: str, workers: int) -> None:
    slow_job(tmp_path, tables)
    live = objects(tmp_path)[:-1]
    first = [each for each in live if each["counts"]["ok"] == 0 and each["workers"]]
    reached = [each["reached"] for each in first]
    assert len(set(reached)) >= 4
    assert reached == sorted(reached)
    assert max(reached) <= 40 * workers
    assert max(len(each["workers"]) for each in live) == workers
    for each in live:
        assert all(re.fullmatch(name, worker["name"]) for worker in each["workers"])
        assert each["reached"] <= 80
    at = [worker["position"] for each in live for worker in each["workers"] if worker["position"] is not None]
    assert max(at) > 60


def crew(count: int) -> list[WorkerView]:
    return [WorkerView(f"{n}/MainThread", "validate", 1000 * n, n, 5, 1, 1 << 20, n) for n in range(1, count + 1)]


def drawn(workers: list[WorkerView], columns: int, height: int, *printed: str) -> list[str]:
    report = FlowReport("multiprocessing")
    report.begin()
    report.fraction = 0.5
    console = Console(width=columns, color_system=None, force_terminal=True)
    with console.capture() as capture:
        console.print(Frame(Moment(report, workers, {}, printed), columns, height), end="")
    return capture.get().split("\n")


def test_workers_for_which_there_is_no_room_are_one_row() -> None:
    lines = drawn(crew(40), 79, height_of(40, 24), "printed")
    assert len(lines) == 23
    assert [line.split()[0] for line in lines[3:19]] == [str(n) for n in range(1, 17)]
    more = re.split(r" {2,}", lines[19])
    rest = range(17, 41)
    assert more == ["... and 24 more", f"{sum(1000 * n + 5 for n in rest):,}", f"{sum(rest)}", "0", "24 MiB", ""]
    assert lines[20] == "printed"


def test_large_numbers_stay_in_their_columns() -> None:
    [worker] = drawn([WorkerView("1/MainThread", "pack", 10**12, 10**10, 0, 10**12, 1 << 40, 1)], 79, 9)[3:4]
    assert worker.split() == ["1", "pack", "1,000,000M", "10,000M", "0", "1,024", "GiB", "1,000,000M"]
    assert len(worker) <= 79


def test_who_is_silent_stands_first_and_who_is_gone_last() -> None:
    workers = [WorkerView("a", "ended"), WorkerView("b", "pack"), WorkerView("c", "silent"), WorkerView("d", "idle")]
    assert [line.split()[0] for line in drawn(workers, 79, 12)[3:7]] == ["c", "b", "d", "a"]


def test_a_worker_is_called_what_tells_it_from_others() -> None:
    names = ["12/MainThread", "12/worker-1", "12/12@node", "tcp://127.0.0.1:34567", "12/a//b", "sync"]
    lines = drawn([WorkerView(name, "idle") for name in names], 79, 14)[3:9]
    assert [line.split()[0] for line in lines] == ["12", "worker-1", "12@node", "127.0.0.1:34567", "a//b", "sync"]


@pytest.mark.parametrize("count", [0, 1, 7, 60])
def test_a_frame_fits_whatever_the_terminal(count: int) -> None:
    for columns in (1, 2, 5, 13, 30, 79, 199):
        heights = [height_of(count, rows) for rows in range(1, 80)]
        assert all(one <= other for one, other in pairwise(heights))
        for rows, height in enumerate(heights, 1):
            assert 1 <= height <= max(rows - 1, 1)
            lines = drawn(crew(count), columns, height, "wide 漢字 " * 20, "last")
            assert len(lines) == height
            assert max(map(len, lines)) <= columns
