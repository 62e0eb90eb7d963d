"""A queue in a real pseudo-terminal, and where there is none."""

import subprocess
import sys
from pathlib import Path

import pytest
from core.tests.terminal import Terminal, in_terminal

PROGRAM = """
import sys, time
from manyhands_zoosync import Supervisor

def work(n):
    if n % 10 == 0:
        print("task", n)
    if n == 33:
        raise ValueError("no")
    time.sleep(float(sys.argv[1]))
    return n

if __name__ == "__main__":
    queue = Supervisor(workers=2)
    queue.register(work)
    print(queue.run(lambda: queue.enqueue_many(work, [(n,) for n in range(100)])).failed, "failed at the end")
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.replace("sys.argv[1]", '"0.02"'))
    return path


def shows_work(terminal: Terminal) -> bool:
    rows = [line.split() for line in terminal.shown if line.startswith(("worker 0 ", "worker 1 "))]
    return len(rows) == 2 and all(row[2] == "running" and int(row[3]) > 0 for row in rows)


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (200, 50)])
def test_each_worker_has_a_row_that_stays_where_it_is(program: Path, columns: int, rows: int) -> None:
    with in_terminal(sys.executable, program, cwd=program.parent, columns=columns, rows=rows) as terminal:
        terminal.until(shows_work)
        assert any(line.endswith("0") and ": task " in line for line in terminal.shown)
        assert terminal.end() == 0
        assert len(terminal.screen.history.top) == 0
        assert not terminal.screen.cursor.hidden
        before, _, after = "\n".join(terminal.shown).partition("100 tasks in ")
        log = before.replace("\n", "").removeprefix("printed: ")  # a long path is broken into lines
        assert ": task 0" in Path(log).read_text()
        assert after.endswith("\n1 failed at the end")


def test_where_there_is_no_terminal_only_the_statistics_are_printed(program: Path) -> None:
    line = [sys.executable, str(program)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)
    assert {line.split()[0] for line in done.stderr.splitlines()} == {"task"}
    first, *_, last = done.stdout.splitlines()
    assert (first.partition(" in ")[0], last) == ("100 tasks", "1 failed at the end")
