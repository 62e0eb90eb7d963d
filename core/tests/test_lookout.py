"""What an engine sees of a worker that is silent, stuck or dead."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manyhands.engines import lookout
from manyhands.engines.board import Status
from manyhands.engines.lookout import Lookout
from manyhands.processes.owner import Owner, owned_name, owner_of

SAY_WHO = "from manyhands.processes.owner import owned_name; print(owned_name('x'), flush=True); input()"
LIMIT = 10.0


class Clock:
    """The time of the lookout."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lookout, "monotonic", clock)
    return clock


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    """A process that does nothing."""
    command = [sys.executable, "-c", SAY_WHO]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def owner(worker: subprocess.Popen[str]) -> Owner:
    assert worker.stdout is not None
    found = owner_of(worker.stdout.readline())
    assert found is not None
    return found


def said(who: Owner, *, ago: float = 0.0, **more: Any) -> Status:
    """What that process said."""
    return Status(heartbeat=time.monotonic_ns() - int(ago * 1e9), pid=who.pid, begun=who.start, **more)


def go_on(seen: Lookout, clock: Clock, status: Status, seconds: float) -> None:
    """See the same again and again."""
    for _ in range(round(seconds / 0.1)):
        clock.now += 0.1
        seen.see(status)
        seen.check()


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_each_silence_is_told_once(worker: subprocess.Popen[str], caplog: pytest.LogCaptureFixture) -> None:
    who, seen = owner(worker), Lookout("pipe 2 of 3", None)
    seen.path = Path("in.csv")
    silent = said(who, ago=3, position=17)
    for status in (Status(), said(who), silent, silent, said(who), silent, silent):
        seen.see(status)
        seen.check()
    told = (
        f"worker {who.pid}, which runs pipe 2 of 3, has said nothing for 2 s; it was last seen at or after record 17 "
        "of in.csv"
    )
    assert messages(caplog) == [told] * 2


def test_a_worker_that_does_not_get_on_is_killed(
    worker: subprocess.Popen[str], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    who, seen = owner(worker), Lookout("pipe 2 of 3", LIMIT)
    for position in range(3):
        go_on(seen, clock, said(who, position=position), LIMIT - 1)
    assert worker.poll() is None
    go_on(seen, clock, said(who, position=2), LIMIT)
    assert worker.wait(20) < 0
    fault = "made no progress for 10 s at or after record 2"
    assert messages(caplog) == [f"worker {who.pid}, which runs pipe 2 of 3, is killed: it {fault}"]
    seen.see(said(Owner.this(), position=5))
    assert f"its worker died (SIGKILL), and the one before it {fault} and was killed; " in seen.account("SIGKILL")


def test_time_in_which_nobody_looked_does_not_count(worker: subprocess.Popen[str], clock: Clock) -> None:
    who, seen = owner(worker), Lookout("pipe 1 of 1", LIMIT)
    go_on(seen, clock, said(who), 1)
    clock.now += 1000  # the program was stopped, and its workers may have been so
    go_on(seen, clock, said(who), 1)
    assert worker.poll() is None


def test_a_process_that_has_got_the_number_of_a_worker_is_let_alone(
    worker: subprocess.Popen[str], clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    who, seen = owner(worker), Lookout("pipe 1 of 1", LIMIT)
    go_on(seen, clock, said(who._replace(start=who.start + 1), ago=3), 2 * LIMIT)
    assert worker.poll() is None
    assert messages(caplog) == []


def test_this_process_is_let_alone(clock: Clock) -> None:
    """Where workers are its threads."""
    this = owner_of(owned_name("x"))
    assert this is not None
    assert this.pid == os.getpid()
    go_on(Lookout("pipe 1 of 1", LIMIT), clock, said(this, ago=3), 2 * LIMIT)


@pytest.mark.parametrize(
    ("positions", "places"),
    [
        ((), ""),
        ((5,), ", last seen at or after record 5 of in.csv"),
        ((9, 5), ", last seen at or after records 5 and 9 of in.csv"),
    ],
)
def test_the_records_at_which_workers_were_seen_last_are_told(positions: tuple[int, ...], places: str) -> None:
    seen = Lookout("pipe 1 of 1", None)
    seen.path = Path("in.csv")
    for pid, position in enumerate(positions, 1):
        seen.see(Status(heartbeat=1, pid=pid))
        seen.see(Status(heartbeat=2, pid=pid, position=position))
    assert seen.account("exit code 3").startswith(f"its worker died twice (exit code 3){places}; to find the record")


def test_each_worker_that_was_lost_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    seen = Lookout("pipe 2 of 3", None)
    seen.path = Path("in.csv")
    for status in (Status(), Status(pid=7), Status(pid=7, position=12)):
        seen.see(status)
        seen.tell_lost()
    assert messages(caplog) == []
    for status in (Status(pid=8), Status(pid=8, position=30)):
        seen.see(status)
        seen.tell_lost()
    lost = "worker 7, which ran pipe 2 of 3, was lost, last seen at or after record 12 of in.csv"
    assert messages(caplog) == [f"{lost}; worker 8 runs it from its beginning"]
