"""A run that is stopped, aborted or left: nothing new starts, nothing is published, and the counts add up."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from manyhands.records import Outcome
from manyhands.report import FlowReport, RunStatus
from manyhands.testing.bench import became
from manyhands.testing.cases.needs import needs
from manyhands.testing.files import lines
from manyhands.testing.hooks import Paces, PacesAsync
from manyhands.testing.script import attempts, deterministic_failure, release

if TYPE_CHECKING:
    from manyhands.pipe import Pipe
    from manyhands.testing.bench import Bench

PACE: Final = 0.01
"""Seconds that a record takes."""

LATEST: Final = 2.0
"""Seconds after an abort in which a record may still begin: 0.2 are promised, a busy machine is given more."""

BEGUN: Final = 10
"""Records that run before anything is done to the run."""


class CancelCases:
    """Stop, continue, abort, ^C, shutdown, and a reader who leaves."""

    @pytest.mark.parametrize(("chunksize", "is_async"), [(1, False), (500, False), (500, True)])
    def test_an_aborted_run_starts_no_record_any_more(self, bench: Bench, chunksize: int, *, is_async: bool) -> None:
        """Not those of a chunk that has begun either, which would go on for five seconds; only of a call."""
        pipe = _endless(bench, chunksize, is_async=is_async)
        report = pipe.start()
        _wait_for_records(bench)
        aborted = time.time()
        report.abort()
        bench.finish(pipe)
        _check_aborted(bench, pipe)
        _check_quiet(bench, aborted)
        pipe.shutdown()
        assert report.status is RunStatus.ABORTED, bench.broken("cancelling", f"shutdown makes the run {report.status}")

    @needs("can_kill")
    def test_an_abort_does_not_wait_for_a_record_that_hangs(self, bench: Bench) -> None:
        """Its worker is killed."""
        folder = bench.folder / "attempts"
        try:
            pipe = bench.pipe(({"k": k} for k in range(4)), pre=[deterministic_failure(folder, {0: ["sleep"]})])
            report = pipe.start()
            bench.wait_until(lambda: attempts(folder), "a record begins")
            report.abort()
            assert report.wait(10), bench.broken("cancelling", "an aborted run waits for a record that hangs")
        finally:
            release(folder)
            pipe.shutdown()
        _check_aborted(bench, pipe)

    def test_an_interrupt_aborts_the_run(self, bench: Bench) -> None:
        """As ^C does: `run` raises it again when everything has ended."""
        pipe = _endless(bench, 1)
        with _interrupted(bench.folder), pytest.raises(KeyboardInterrupt):
            pipe.run()
        _check_aborted(bench, pipe)

    def test_a_stopped_run_goes_on_where_it_was(self, bench: Bench) -> None:
        """What is under way is finished and written; each record runs once."""
        pipe = bench.pipe(({"k": k} for k in range(80)), pre=[_paces(bench)], chunksize=1)
        report = pipe.start()
        _wait_for_records(bench)
        report.stop()
        bench.wait_until(lambda: report.status is RunStatus.STOPPED, "a stopped run stands still", key="cancelling")
        stood = (report.ok, report.read)
        assert stood[0] == stood[1] < 80, bench.broken(
            "cancelling", f"a stopped run wrote {stood[0]} of {stood[1]} read"
        )
        assert len(_begun(bench)) == stood[0], bench.broken("cancelling", "records ran while the run was stopped")
        report.continue_()
        ran = bench.finish(pipe)
        assert (report.status, report.ok) == (RunStatus.COMPLETED, 80), bench.broken(
            "cancelling", f"a run that goes on ends {report.status} with {report.counts}"
        )
        assert [row["k"] for row in ran.rows] == list(range(80)), bench.broken(
            "order", "records are missing or mixed up"
        )
        assert sorted(_begun(bench)) == list(range(80)), bench.broken("cancelling", "records ran twice or not at all")

    def test_a_stopped_run_that_is_shut_down_publishes_what_it_has(self, bench: Bench) -> None:
        """And is stopped for good."""
        pipe = _endless(bench, 1)
        report = pipe.start()
        _wait_for_records(bench)
        report.stop()
        pipe.shutdown()
        ran = bench.finish(pipe)
        assert report.status is RunStatus.STOPPED, bench.broken("cancelling", f"the run is {report.status}")
        _check_sums(bench, report)
        found = [row["k"] for row in ran.rows]
        assert found == list(range(report.ok)), bench.broken(
            "cancelling", f"{report.ok} records are ok, but {len(found)} are published"
        )

    def test_shutdown_aborts_a_run(self, bench: Bench) -> None:
        """As leaving the pipe's `with` does; twice is no more than once."""
        pipe = _endless(bench, 7)
        with pipe:
            pipe.start()
            _wait_for_records(bench)
        pipe.shutdown()
        _check_aborted(bench, pipe)

    def test_a_reader_may_leave_a_stream(self, bench: Bench) -> None:
        """That aborts the run, and leaves nothing behind."""
        pipe = _endless(bench, 3)
        for position, entry in enumerate(pipe.stream()):
            assert entry["position"] == position, bench.broken("order", f"a stream gave {entry} as number {position}")
            if position == BEGUN:
                break
        bench.wait_until(lambda: pipe.report.is_finished, "a run ends whose reader has left", key="cancelling")
        _check_aborted(bench, pipe)


def _paces(bench: Bench, *, is_async: bool = False) -> Paces:
    return (PacesAsync if is_async else Paces)(bench.folder / "paces", PACE)


def _endless(bench: Bench, chunksize: int, *, is_async: bool = False) -> Pipe:
    """A run that would never end."""
    hook = _paces(bench, is_async=is_async)
    return bench.pipe(({"k": k} for k in count()), pre=[hook], chunksize=chunksize, max_hook_chunk_size=5)


def _begun(bench: Bench) -> list[int]:
    """Positions of records that have begun."""
    return [int(line.split()[0]) for line in lines(bench.folder / "paces")]


def _wait_for_records(bench: Bench) -> None:
    bench.wait_until(lambda: len(_begun(bench)) >= BEGUN, "records run", key="hang")


def _interrupted(folder: Path) -> _Interrupts:
    return _Interrupts(folder / "paces")


class _Interrupts:
    """Interrupts the main thread as soon as records run.

    Args:
        path: where they are noted.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = threading.Thread(target=self._interrupt)

    def __enter__(self) -> None:
        # A program in the background of a shell ignores ^C.
        self._before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()
        signal.signal(signal.SIGINT, self._before)

    def _interrupt(self) -> None:
        if became(lambda: len(lines(self._path)) >= BEGUN, 20):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _check_quiet(bench: Bench, aborted: float) -> None:
    """See that no record began any more."""
    late = [line for line in lines(bench.folder / "paces") if float(line.split()[1]) > aborted + LATEST]
    assert not late, bench.broken("cancelling", f"{len(late)} records began more than {LATEST:g} s after the abort")


def _check_aborted(bench: Bench, pipe: Pipe) -> None:
    """See that the run is aborted, its counts add up, and nothing is published."""
    report = pipe.report
    assert report.status is RunStatus.ABORTED, bench.broken(
        "cancelling", f"an aborted run is {report.status} ({report.exception!r})"
    )
    _check_sums(bench, report)
    published = [path.name for path in _outputs(pipe) if path.exists()]
    assert not published, bench.broken("cancelling", f"an aborted run published {published}")


def _outputs(pipe: Pipe) -> Iterator[Path]:
    for adapter in (pipe.output_adapter, pipe.error_output_adapter):
        path: Any = adapter.path if adapter else None
        if path is not None:
            yield path


def _check_sums(bench: Bench, report: FlowReport) -> None:
    counts = report.counts
    assert counts["in"] == sum(counts[outcome] for outcome in Outcome), bench.broken(
        "accounting", f"the sums of a run that is {report.status} do not match: {counts}"
    )
    assert counts["ok"] + counts["cancelled"] == counts["in"], bench.broken(
        "cancelling", f"records of a run that is {report.status} were neither written nor cancelled: {counts}"
    )
