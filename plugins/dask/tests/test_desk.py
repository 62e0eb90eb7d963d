"""What a run does to a worker that is somebody else's, and what it leaves there."""

from __future__ import annotations

import asyncio
import gc
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from manyhands.errors import TeardownError, WorkerInitError
from manyhands.worker.pickles import load_failure
from manyhands_dask import nanny, seat
from manyhands_dask.desk import Desk
from manyhands_dask.seat import Seat


def worker_in(folder: Path) -> Any:
    return SimpleNamespace(nanny="tcp://there", local_directory=str(folder / "worker"), handlers={})


class Notes:
    """A desk that takes down what is posted."""

    own = cancelled = False
    job = b""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []

    def call(self, function: Any) -> None:
        function()

    def start(self, message: dict[str, Any]) -> None:
        self.posted.append(message)

    def tell(self, **message: Any) -> dict[str, Any]:
        return message

    async def serve(self) -> None:
        """Nobody has chunks."""


class Exits:
    """A job that tries to end the process wherever it can."""

    def __init__(self, *_: Any) -> None:
        """It is set up."""

    def run(self, *_: Any) -> None:
        sys.exit("no file")

    def teardown(self) -> None:
        raise KeyboardInterrupt


def quit_at_once(*_: Any) -> None:
    sys.exit("no config.ini")


def test_a_module_that_exits_when_it_is_imported_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seat, "RemoteWorker", quit_at_once)
    desk: Any = Notes()
    Seat(0, memoryview(bytearray(8))).work(desk)
    failed = desk.posted[-1]
    assert failed["what"] == "failed"
    error = load_failure(failed["error"])
    assert isinstance(error, WorkerInitError)
    assert str(error).endswith("SystemExit: no config.ini")


def test_a_seat_that_is_told_to_end_before_it_begins_never_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seat, "RemoteWorker", quit_at_once)
    desk: Any = Notes()
    one = Seat(0, memoryview(bytearray(8)))
    one.end(desk)
    one.work(desk)
    assert desk.posted == [{"what": "ended", "seat": 0, "error": None}]


def test_hooks_that_exit_do_not_end_the_worker() -> None:
    desk: Any = Notes()
    one, job = Seat(0, memoryview(bytearray(8))), Exits()
    answer = one._run({"id": 1, "header": b"", "payload": b""}, job)  # type: ignore[arg-type]  # it runs
    assert str(load_failure(answer["error"])) == "SystemExit: no file"
    one._tear_down(desk, job)  # type: ignore[arg-type]  # it is torn down
    error = load_failure(desk.posted[-1]["error"])
    assert isinstance(error, TeardownError)
    assert "KeyboardInterrupt" in str(error)


def test_runs_that_overlap_leave_the_process_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    threshold = gc.get_threshold()

    async def overlap() -> None:
        worker = worker_in(tmp_path)
        first = Desk("first", 1, worker)
        os.environ["TZ"] = "Asia/Tokyo"  # as its job does
        second = Desk("second", 1, worker)
        os.environ["TZ"] = "America/Lima"
        first.close()
        assert gc.get_freeze_count() > 0
        second.close()

    asyncio.run(overlap())
    assert (gc.get_freeze_count(), gc.get_threshold()) == (0, threshold)
    assert os.environ["TZ"] == "UTC"
    assert time.tzname[0] == "UTC"


def test_nobody_else_reads_or_makes_the_file_of_a_desk_and_its_nanny_removes_it(tmp_path: Path) -> None:
    async def open_desk() -> None:
        desk = Desk("run", 2, worker_in(tmp_path))
        assert desk.path is not None
        try:
            assert stat.S_IMODE(desk.path.stat().st_mode) == 0o600
            nanny.watch("run", os.getpid(), str(desk.path), SimpleNamespace(process=None))  # type: ignore[arg-type]  # enough
            assert not desk.path.exists()
            desk._words[1] = 5
            assert nanny.look("run", os.getpid()) == [0, 5]
        finally:
            desk.close()
            nanny.forget("run", os.getpid())
        victim = tmp_path / "victim"
        victim.write_text("mine")
        desk.path.symlink_to(victim)
        with pytest.raises(FileExistsError):
            Desk("run", 2, worker_in(tmp_path))
        assert victim.read_text() == "mine"

    asyncio.run(open_desk())


@pytest.mark.parametrize("lives", [True, False])
def test_a_nanny_forgets_who_has_ended_if_nobody_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, lives: bool
) -> None:
    monkeypatch.setattr(nanny, "_KEPT_SECONDS", 0.02)
    path = tmp_path / "words"
    path.write_bytes(bytes(8))

    async def watch(pid: int) -> bool:
        nanny.watch("run", pid, str(path), SimpleNamespace(process=None))  # type: ignore[arg-type]  # enough of one
        await asyncio.sleep(0.3)
        return ("run", pid) in nanny._watched

    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        if not lives:
            process.communicate()
        assert asyncio.run(watch(process.pid)) is lives
    nanny._watched.clear()
