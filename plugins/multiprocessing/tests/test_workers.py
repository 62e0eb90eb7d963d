"""The life of the workers: setup and teardown, replacement, what they print, and how ^C ends them."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from core.tests.jobs import command, environment, write
from core.tests.terminal import Terminal, in_terminal

from manyhands.processes.launch import START_METHODS, StartMethod

from .deeds import FailsFirst, Floods, LastWords, Lives, Talks
from .support import Diary, in_time, rows, run, session_of, wait_until


def lives(diary: Diary) -> dict[int, list[str]]:
    """What each worker noted."""
    found: dict[int, list[str]] = {}
    for line in diary.lines:
        found.setdefault(line.pid, []).append(line.what)
    return found


def test_setup_comes_first_and_teardown_last_once_in_each_worker(start_method: StartMethod, diary: Diary) -> None:
    ran = run(rows(30), pre=[Lives()], max_workers=3, chunksize=1, start_method=start_method)
    assert ran.counts == {"in": 30, "ok": 30}
    for life in lives(diary).values():
        assert life[0] == "setup"
        assert [what for what in life if not what.startswith("record")] in (["setup", "teardown"], ["setup"])
    assert len(diary.starting("record")) == 30


def test_a_worker_that_takes_the_place_of_a_dead_one_is_set_up_and_the_dead_one_not_torn_down(diary: Diary) -> None:
    def records() -> Iterator[Any]:
        yield from rows(20, {7: "kill"})
        wait_until(lambda: len(diary.of("setup")) == 4)

    ran = run(records, pre=[Lives()], max_workers=2, chunksize=1)
    assert ran.counts == {"in": 20, "ok": 19, "dead": 1}
    killed = {line.pid for line in diary.of("kill")}
    assert len(killed) == 2
    for pid, life in lives(diary).items():
        assert life[0] == "setup"
        assert life.count("setup") == 1
        assert life.count("teardown") == (pid not in killed)
        assert life[-1] == ("kill" if pid in killed else "teardown")


@pytest.mark.parametrize("compression", [None, "lz4"])
def test_workers_are_replaced_after_so_many_chunks(compression: Any, diary: Diary) -> None:
    ran = run(
        rows(40, {7: "kill_once"}),
        pre=[Lives()],
        max_workers=2,
        chunksize=1,
        max_chunks_per_worker=5,
        compression=compression,
    )
    assert ran.counts == {"in": 40, "ok": 40}
    assert ran.positions == list(range(40))
    assert len(ran.failures) == 1
    found = lives(diary)
    assert len(found) >= 40 / 5
    for life in found.values():
        assert life.count("setup") == 1
        assert life.count("teardown") == ("kill_once" not in life or life[-1] != "kill_once")
        assert sum(what.startswith("record") for what in life) <= 5
    times = Counter(line.what for line in diary.starting("record"))
    assert times == Counter({f"record {k}": 2 if k == 7 else 1 for k in range(40)})


def test_where_one_worker_cannot_start_the_others_go_on(
    diary: Diary, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ran = run(rows(20), pre=[FailsFirst(tmp_path / "mark")], max_workers=2, chunksize=1)
    assert ran.counts == {"in": 20, "ok": 20}
    assert len({line.pid for line in diary.starting("record")}) == 1
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "fewer workers: setup of hook FailsFirst failed: it fails" in warning


# What they print.


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines of the workers, without their pids."""
    records = [record for record in caplog.records if record.name == "manyhands.worker"]
    assert {record.levelno for record in records} <= {logging.INFO}
    return [record.getMessage().split(": ", 1)[1] for record in records]


def test_all_that_is_printed_goes_to_the_log(
    start_method: StartMethod, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, "manyhands.worker")
    ran = run(rows(1), pre=[Talks()], max_workers=1, start_method=start_method)
    assert ran.counts == {"in": 1, "ok": 1}
    lines = said(caplog)
    for line in (
        "setting up",
        "by print, zwölf",
        "by the system",
        "by the C library",
        "by a program",
        "by a logger",
        "Traceback (most recent call last):",
        "RuntimeError: it fails",
        "read of stdin: ''",
        "without an end",
    ):
        assert lines.count(line) == 1, lines
    assert any(line.endswith("UserWarning: be careful") for line in lines)
    (pid,) = {worker.split("/")[0] for worker in ran.report.workers}
    assert all(record.getMessage().startswith(f"worker {pid}: ") for record in caplog.records if "by" in record.message)
    assert capfd.readouterr() == ("", "")


def test_the_last_words_of_a_worker_that_dies_are_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "manyhands.worker")
    run(rows(3, {1: "kill"}), pre=[LastWords()], max_workers=1, chunksize=1)
    assert "".join(said(caplog)) == "last words" * 4


def test_what_is_printed_holds_nobody_up() -> None:
    """Ten megabytes; a pipe holds 64 KiB."""
    taken, logger = Taken(), logging.getLogger("manyhands.worker")
    before = logger.level
    logger.addHandler(taken)
    logger.setLevel(logging.INFO)
    try:
        ran = run(rows(10), pre=[Floods(1000, 1000)], chunksize=1)
    finally:
        logger.removeHandler(taken)
        logger.setLevel(before)
    assert ran.counts == {"in": 10, "ok": 10}
    assert taken.lines == 10_000
    assert taken.characters == 10_000 * 999


class Taken(logging.Handler):
    """Counts what workers said."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = self.characters = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += 1
        self.characters += len(record.getMessage().split(": ", 1)[1])


# ^C and SIGTERM.

JOB = """
    [input]
    adapter = "python"
    iterable = "mine:rows"
    [hooks]
    post = ["mine:Stuck"]
    [output]
    adapter = "jsonl"
    path = "out.jsonl"
    [executor]
    name = "multiprocessing"
    max_workers = 2
    chunksize = 1
    start_method = "{start_method}"
"""

# Hooks, of which some do not come back; the file says when the first gets to work.
MINE = """
    import itertools, os, time
    from manyhands import BaseHook

    def rows():
        for n in itertools.count():
            time.sleep(0.001)
            yield {"n": n}

    def get_stuck():
        open("stuck", "w").close()
        %s

    class Stuck(BaseHook):
        def setup(self, store):
            if os.path.exists("from the start"):
                get_stuck()

        def execute(self, entries, store):
            if entries[0]["position"] >= 20:
                get_stuck()
"""
HOOKS = {
    "works": "time.sleep(0.001)",
    "sleeps": "time.sleep(60)",
    "holds the interpreter lock": "sum(range(10**11))",
    "starts": "time.sleep(60)",
}


def job_in(folder: Path, hook: str, start_method: str = "forkserver") -> None:
    write(folder, job__toml=JOB.format(start_method=start_method), mine__py=MINE % HOOKS[hook])
    if hook == "starts":
        (folder / "from the start").touch()


def clear_end(lines: list[str]) -> None:
    """One line says what happened; nobody shows a traceback."""
    assert not [line for line in lines if "Traceback" in line or "KeyboardInterrupt" in line]
    assert [line for line in lines if line.startswith("manyhands: ")] == ["manyhands: the run was aborted"]


def interrupt(folder: Path, *keys: bytes) -> tuple[float, Terminal]:
    """Run a job in a terminal and press the keys once its hooks work; how long it takes from the last."""
    (folder / "stuck").unlink(missing_ok=True)
    with in_terminal(command(), "run", "job.toml", "--report", "report.json", cwd=folder) as terminal:
        before, leader = terminal.settings, terminal._process.pid
        terminal.until(lambda _: (folder / "stuck").exists())
        for key in keys:
            begun = time.monotonic()
            terminal.press(key)
            if key is not keys[-1]:
                terminal.watch(0.1)
        assert terminal.end() == 1
        seconds = time.monotonic() - begun
        wait_until(lambda: session_of(leader) == [], 2.0)  # workers that are killed end a moment after who killed them
        assert terminal.settings == before
    return seconds, terminal


@pytest.mark.parametrize(
    ("hook", "start_method"),
    [("works", "forkserver"), ("holds the interpreter lock", "forkserver"), ("sleeps", "spawn")],
)
def test_ctrl_c_ends_the_run_and_its_workers(hook: str, start_method: str, tmp_path: Path) -> None:
    """The terminal sends it to the workers too, which leave the answer to the program."""
    job_in(tmp_path, hook, start_method)
    terminal = in_time(1.0, lambda: interrupt(tmp_path, b"\x03"))
    clear_end(terminal.lines)
    assert "aborted: multiprocessing" in terminal.lines
    counts = json.loads((tmp_path / "report.json").read_text())["counts"]
    assert counts["in"] == counts["ok"] + counts["cancelled"]
    written = (tmp_path / "out.jsonl.partial").read_text().splitlines()
    assert written == [f'{{"n":{n}}}' for n in range(counts["ok"])]
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("start_method", START_METHODS)
def test_ctrl_c_ends_workers_that_still_start(start_method: str, tmp_path: Path) -> None:
    job_in(tmp_path, "starts", start_method)
    terminal = in_time(1.0, lambda: interrupt(tmp_path, b"\x03"))
    clear_end(terminal.lines)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("hook", ["sleeps", "holds the interpreter lock"])
def test_a_second_ctrl_c_does_not_wait(hook: str, tmp_path: Path) -> None:
    job_in(tmp_path, hook)
    terminal = in_time(0.5, lambda: interrupt(tmp_path, b"\x03", b"\x03"))
    assert not [line for line in terminal.lines if "Traceback" in line]
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("hook", ["works", "holds the interpreter lock"])
def test_sigterm_ends_the_run_and_its_workers(hook: str, tmp_path: Path) -> None:
    job_in(tmp_path, hook)

    def attempt() -> tuple[float, str]:
        (tmp_path / "stuck").unlink(missing_ok=True)
        line = [command(), "run", "job.toml", "--progress", "json"]
        pipes: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(line, cwd=tmp_path, env=environment(), start_new_session=True, **pipes) as process:
            wait_until((tmp_path / "stuck").exists)
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            _, complaint = process.communicate(timeout=60)
            seconds = time.monotonic() - begun
            assert process.returncode == 1
            assert session_of(process.pid) == []
            return seconds, complaint

    assert in_time(1.0, attempt) == "manyhands: the run was aborted\n"
    assert not (tmp_path / "out.jsonl").exists()
