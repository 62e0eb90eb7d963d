"""What may go wrong around the supervisor itself must not stop it: it is the one that ends everything else."""

from __future__ import annotations

import logging
import os
import resource
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest

from manyhands import BaseHook, IterableInputAdapter, NullOutputAdapter, Pipe, RunOptions
from manyhands.chunks import Chunk, ChunkKind
from manyhands.errors import ExecutorBroken, RunError, WorkerInitError, WorkerLost
from manyhands.worker import codec
from manyhands.worker.context import WorkerContext
from manyhands_multiprocessing import MultiProcessingExecutor, supervisor

from .support import LIMIT, rows, run


class Does(BaseHook):
    """Calls a function of the worker's for the record at position 0, and another in each setup."""

    def __init__(self, deed: Callable[[], Any] = int, setup: Callable[[], Any] = int, *, replay: bool = True) -> None:
        super().__init__()
        self.deed, self.prepare, self.replay = deed, setup, replay

    def setup(self, store: Any) -> None:
        self.prepare()

    def execute(self, entries: list[Any], store: Any) -> None:
        for entry in entries:
            if entry["position"] == 0:
                self.deed()


def floods() -> None:
    subprocess.run(["yes"], check=False)


def says_something() -> None:
    os.write(1, b"a line\n")


def closes_everything() -> None:
    os.closerange(3, 1000)
    sleep(3600)


def forks() -> None:
    os.fork()


def leaves_a_thread() -> None:
    threading.Thread(target=threading.Event().wait).start()


def takes_little() -> None:
    # Little more than it has: as a container would.
    size = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (100 << 20), -1))


class Fails(logging.Handler):
    """A log that cannot be written."""

    def emit(self, record: logging.LogRecord) -> None:
        raise OSError("disk full")


@contextmanager
def logged_by(handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger("manyhands.worker")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def started(hook: BaseHook, **options: Any) -> Any:
    executor = MultiProcessingExecutor(max_workers=2, chunksize=1)
    source = IterableInputAdapter(rows(20))
    return Pipe(source, NullOutputAdapter(), executor=executor, pre_validation_hooks=[hook], **options).start()


def test_whoever_prints_without_end_is_timed_and_killed_like_others() -> None:
    with logged_by(logging.NullHandler()):
        report = started(Does(floods), options=RunOptions(record_timeout=0.5))
        assert report.wait(LIMIT)
    assert (report.counts["ok"], report.counts["dead"]) == (19, 1)


def test_a_run_whose_worker_prints_without_end_can_be_aborted() -> None:
    with logged_by(logging.NullHandler()):
        report = started(Does(floods))
        report.abort()
        assert report.wait(LIMIT)
    assert str(report.status) == "aborted"


def test_a_log_that_fails_loses_lines_and_nothing_else() -> None:
    with logged_by(Fails()):
        assert run(rows(20), pre=[Does(says_something)], max_workers=2, chunksize=1).counts == {"in": 20, "ok": 20}


def test_a_worker_that_closes_its_pipe_is_told_from_one_that_is_killed() -> None:
    ran = run(rows(5), pre=[Does(closes_everything)], max_workers=2, chunksize=1)
    assert ran.counts == {"in": 5, "ok": 4, "dead": 1}
    assert ran.refused[0][3] == "the worker died (it closed its pipe to the program) in stage pre"


def test_a_fork_that_comes_back_from_a_hook_answers_for_nobody() -> None:
    assert run(rows(20), pre=[Does(forks)], max_workers=2, chunksize=1).counts == {"in": 20, "ok": 20}


def test_a_thread_that_a_hook_leaves_behind_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    ran = run(rows(3), pre=[Does(setup=leaves_a_thread)], max_workers=1)
    assert ran.counts == {"in": 3, "ok": 3}
    assert "has left a thread behind" in caplog.text


def test_a_setup_that_does_not_end_holds_up_no_run_that_is_through(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def first_only() -> None:
        try:
            (tmp_path / "taken").mkdir()
        except FileExistsError:
            sleep(3600)

    begun = monotonic()
    ran = run(rows(3), pre=[Does(setup=first_only)], max_workers=2)
    assert ran.counts == {"in": 3, "ok": 3}
    assert "was still in its setup" in caplog.text
    assert monotonic() - begun < LIMIT


def test_a_record_that_is_too_large_for_a_worker_is_dead_alone() -> None:
    records: list[Any] = [{"n": n} for n in range(6)]
    records[2] = {"n": "x" * (80 << 20)}
    ran = run(records, pre=[Does(setup=takes_little)], max_workers=2, chunksize=1)
    assert ran.counts == {"in": 6, "ok": 5, "dead": 1}
    assert ran.errors[0]["position"] == 2


@pytest.mark.parametrize(("name", "error"), [("manyhands-driver", RunError), ("manyhands-supervisor", WorkerInitError)])
def test_without_a_thread_a_run_fails_and_holds_nothing(
    name: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    executor = MultiProcessingExecutor(max_workers=2)
    pipe = Pipe(IterableInputAdapter(rows(5)), NullOutputAdapter(), executor=executor)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(error, match="can't start new thread"):
            pipe.run()
        assert str(pipe.report.status) == "failed"
        pipe.shutdown()
    assert pipe.run().ok == 5


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir())) - 1


def test_without_descriptors_a_run_fails_and_leaves_none_open() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    for spare in range(12, 24, 3):
        used = open_descriptors()
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, limits[1]))
        try:
            run(rows(2), max_workers=1)
        except (WorkerInitError, OSError, RunError):
            pass
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert open_descriptors() == used


class SlowToFollow(BaseHook):
    """The first worker dies of the record at position 0; the setup of the next takes a moment, or fails."""

    def __init__(self, folder: Path, *, fails: bool) -> None:
        super().__init__()
        self.folder, self.fails = folder, fails

    def setup(self, store: Any) -> None:
        if (self.folder / "died").exists():
            assert not self.fails, "not again"
            sleep(0.3)

    def execute(self, entries: list[Any], store: Any) -> None:
        if entries[0]["position"] == 0:
            sleep(0.3)
            (self.folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)


def end_while_it_runs(hook: BaseHook) -> list[Any]:
    executor = MultiProcessingExecutor(max_workers=1)
    executor.start(WorkerContext(pre_hooks=[hook]))
    futures = [executor.submit(Chunk(n, n, 1, ChunkKind.PACKED, codec.dumps([{"k": n}]))) for n in range(3)]
    executor.shutdown()
    assert isinstance(futures[0].exception(0), WorkerLost)
    return futures[1:]


def test_what_is_under_way_is_run_before_the_end_by_a_worker_that_is_slow_to_start_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_SETUP_GRACE_SECONDS", 0.1)
    futures = end_while_it_runs(SlowToFollow(tmp_path, fails=False))
    assert [future.result(0).ok for future in futures] == [1, 1]


def test_what_nobody_can_run_before_the_end_fails(tmp_path: Path) -> None:
    for future in end_while_it_runs(SlowToFollow(tmp_path, fails=True)):
        assert "not again" in str(future.exception(0))
        assert isinstance(future.exception(0), ExecutorBroken)
