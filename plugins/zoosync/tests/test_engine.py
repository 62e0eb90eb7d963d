"""The engine: its contract, and workers that are stuck or die."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from manyhands import BaseHook, CSVInputAdapter, JSONOutputAdapter, Pipe, PipeManager, RunStatus
from manyhands.errors import OptionsError, RunError
from manyhands.testing import EngineTests
from manyhands_sync import SyncFifoExecutor
from manyhands_zoosync import ZoosyncPoolEngine

from .helpers import LIMIT, wait_until


class TestZoosyncEngine(EngineTests):
    engine = "zoosync"


class At(BaseHook):
    """Does something at a record; each other takes a while."""

    def __init__(self, position: int, folder: Path, times: int = 1000, pause: float = 0.0) -> None:
        super().__init__()
        self.position, self.folder, self.times, self.pause = position, folder, times, pause

    def execute(self, entries: list[Any], store: Any) -> None:
        time.sleep(self.pause)
        for entry in entries:
            if entry["position"] == self.position and len(list(self.folder.iterdir())) < self.times:
                (self.folder / str(os.getpid())).touch()
                self.act()

    def act(self) -> None:
        raise NotImplementedError


class Sleeps(At):
    def act(self) -> None:
        time.sleep(1000)


class HoldsTheInterpreter(At):
    """No signal, and no other thread, gets through to it."""

    def act(self) -> None:
        re.fullmatch(r"(a+)+", "a" * 60 + "b")


class Dies(At):
    def act(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Waits(At):
    def act(self) -> None:
        pass


@pytest.fixture
def victims(tmp_path: Path) -> Path:
    """Has a file for each worker in which a hook acted."""
    folder = tmp_path / "victims"
    folder.mkdir()
    return folder


def pipe_of(folder: Path, *hooks: BaseHook, rows: int = 20, skipped: int = 0) -> Pipe:
    """Its workers are at one record at a time."""
    source = folder / "in.csv"
    source.write_text("a\n" + "".join(f"{number}\n" for number in range(rows)))
    out = JSONOutputAdapter(folder / "out.jsonl")
    inside = SyncFifoExecutor(chunksize=1)
    return Pipe(CSVInputAdapter(source, skip_rows=skipped), out, executor=inside, pre_validation_hooks=hooks)


def failure(engine: ZoosyncPoolEngine, pipe: Pipe) -> str:
    with PipeManager([pipe], engine) as manager, pytest.raises(RunError) as caught:
        manager.run()
    assert manager.report.status is RunStatus.FAILED
    return str(caught.value)


def test_a_worker_that_makes_no_progress_is_killed_and_its_pipe_tried_once_more(tmp_path: Path, victims: Path) -> None:
    hook = Sleeps(12, victims, times=1)
    with PipeManager([pipe_of(tmp_path, hook)], ZoosyncPoolEngine(stuck_timeout=2.0)) as manager:
        report = manager.run()
    assert (report.status, report.ok) == (RunStatus.COMPLETED, 20)
    assert len(list(victims.iterdir())) == 1
    assert len((tmp_path / "out.jsonl").read_bytes().splitlines()) == 20


def test_a_pipe_that_always_gets_stuck_fails_the_run_and_names_the_record(tmp_path: Path, victims: Path) -> None:
    told = failure(ZoosyncPoolEngine(stuck_timeout=2.0), pipe_of(tmp_path, Sleeps(12, victims), skipped=3))
    place = f"at or after record 12 of {tmp_path / 'in.csv'}"
    begin = f"pipe 1 of 1 cannot be run: its worker made no progress for 2 s {place}"
    assert told.startswith(f"{begin} and was killed, like the one before it; ")
    assert "raise stuck_timeout" in told
    assert len(list(victims.iterdir())) == 2


def test_a_worker_that_holds_the_interpreter_is_killed(tmp_path: Path, victims: Path) -> None:
    hook = HoldsTheInterpreter(7, victims, pause=0.2)
    told = failure(ZoosyncPoolEngine(stuck_timeout=2.0), pipe_of(tmp_path, hook))
    last_seen = r"last seen at or after record [67] of .*in\.csv"
    assert re.search(rf"its worker said nothing for 2 s, {last_seen} and was killed", told)
    assert len(list(victims.iterdir())) == 2


def test_a_worker_that_gets_stuck_where_another_died_tells_both(tmp_path: Path, victims: Path) -> None:
    hooks = (Dies(3, victims, times=1), Sleeps(12, victims))
    told = failure(ZoosyncPoolEngine(stuck_timeout=2.0), pipe_of(tmp_path, *hooks))
    assert "at or after record 12 of" in told
    assert "and the one before it died; " in told


def test_a_pipe_that_is_slow_goes_on(tmp_path: Path, victims: Path) -> None:
    hook = Waits(0, victims, pause=0.2)
    with PipeManager([pipe_of(tmp_path, hook)], ZoosyncPoolEngine(stuck_timeout=3.0)) as manager:
        report = manager.run()
    assert report.duration > 3.5  # longer than any record may take
    assert (report.status, report.ok, len(list(victims.iterdir()))) == (RunStatus.COMPLETED, 20, 1)


def test_a_record_that_always_kills_is_searched_where_the_worker_was_seen_last(tmp_path: Path, victims: Path) -> None:
    told = failure(ZoosyncPoolEngine(), pipe_of(tmp_path, Dies(9, victims, pause=0.15)))
    found = re.search(
        r"its worker died twice \(SIGKILL\), last seen at or after records? ([89])(?: and 9)? of .*in\.csv; ", told
    )
    assert found, told
    assert "let an executor run the pipe" in told


def test_a_worker_that_has_become_silent_is_told(
    tmp_path: Path, victims: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with PipeManager([pipe_of(tmp_path, Waits(5, victims, pause=0.05), rows=40)], ZoosyncPoolEngine()) as manager:
        report = manager.start()
        wait_until(lambda: list(victims.iterdir()))
        worker = psutil.Process(int(next(victims.iterdir()).name))
        worker.suspend()
        wait_until(lambda: report.look()[0].state == "silent")
        wait_until(lambda: caplog.records)
        worker.resume()
        assert manager.wait(LIMIT)
    assert report.status is RunStatus.COMPLETED
    told = next(record.getMessage() for record in caplog.records if record.name == "manyhands.engine")
    words = (
        rf"worker {worker.pid}, which runs pipe 1 of 1, has said nothing for 2 s; it was last seen at "
        r"or after record \d+ of "
    )
    assert re.match(words, told)


@pytest.mark.parametrize("seconds", [0, -1, "soon"])
def test_a_timeout_that_is_none_is_refused(seconds: Any) -> None:
    with pytest.raises(OptionsError, match="stuck_timeout must be None or seconds above 0"):
        ZoosyncPoolEngine(stuck_timeout=seconds)


def test_a_start_method_that_there_is_not_is_refused_before_anything_runs() -> None:
    with pytest.raises(OptionsError, match=r"start_method must be one of .*, not 'fork': a run has threads"):
        ZoosyncPoolEngine(start_method="fork")  # type: ignore[arg-type]  # as it comes from a config
