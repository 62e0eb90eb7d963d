"""Runs are started, waited for and ended as a manager does it, and as it may have to."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest

from manyhands.errors import UsageError
from manyhands.manager import PipeManager
from manyhands.report import RunStatus
from manyhands.testing.cases.needs import needs
from manyhands.testing.engine_bench import PATIENCE, files
from manyhands.testing.engine_hooks import Halts, Slow, Unfit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manyhands.engine import Engine
    from manyhands.pipe import Pipe
    from manyhands.testing.engine_bench import EngineBench

_MOMENT: Final = 0.5
_SOON: Final = 10.0
_PIPES: Final = 6
_LONG: Final = 3000


class ControlCases:
    """`start`, `wait`, `shutdown`."""

    def test_shutdown_before_start_does_nothing(self, bench: EngineBench) -> None:
        engine = bench.make()
        for _ in range(2):
            engine.shutdown()
        _run_anew(bench, engine)

    def test_start_returns_and_wait_has_one_deadline(self, bench: EngineBench) -> None:
        gate = bench.gate()
        pipes = [bench.pipe(bench.table(1), pre=[Halts({0: gate}, PATIENCE)]) for _ in range(_PIPES)]
        with bench.started(pipes, n_workers=2) as engine:
            assert engine.is_running, bench.broken("start", "start() returned when no pipe was running any more")
            for timeout in (0.0, _MOMENT):
                begun = time.monotonic()
                ended, seconds = engine.wait(timeout), time.monotonic() - begun
                told = f"wait({timeout:g}) for {_PIPES} pipes that run returned {ended} after {seconds:.1f} s"
                assert ended is False, bench.broken("wait", told)
                assert timeout - 0.01 <= seconds < (_PIPES - 1) * _MOMENT, bench.broken("wait", told)
            gate.open()
            bench.finish(engine)
            assert engine.wait(0) is True, bench.broken("wait", "wait(0) returned False when all pipes had ended")
        assert not engine.is_running, bench.broken("wait", "is_running is True when wait() has returned True")

    def test_start_is_refused_while_pipes_run(self, bench: EngineBench) -> None:
        gate = bench.gate()
        with bench.started([bench.pipe(bench.table(1), pre=[Halts({0: gate}, PATIENCE)])]) as engine:
            refused = _is_refused(engine, [bench.pipe(bench.table(1))])
            gate.open()
            bench.finish(engine)
        assert refused, bench.broken("start", "start() while a pipe runs raised no UsageError")
        told = f"after a start() that was refused the run is {engine.report.status}: {engine.report.counts}"
        assert engine.report.ok == 1, bench.broken("start", told)

    def test_start_without_pipes_is_refused(self, bench: EngineBench) -> None:
        engine = bench.make()
        assert _is_refused(engine, []), bench.broken("start", "start([]) raised no UsageError")
        assert not engine.is_running, bench.broken("start", "is_running is True after start([]), which was refused")

    def test_an_engine_runs_pipes_again(self, bench: EngineBench) -> None:
        """After one that failed, one that was completed, and one that was aborted."""
        engine = bench.make()
        engine.start([bench.pipe(bench.table(1), pre=[Unfit()])])
        bench.finish(engine)
        _run_anew(bench, engine)
        engine.start([bench.pipe(bench.table(_LONG), pre=[Slow(0.01)])])
        engine.shutdown()
        _run_anew(bench, engine)

    def test_shutdown_after_the_end_changes_nothing(self, bench: EngineBench) -> None:
        pipe = bench.pipe(bench.table(3))
        engine = bench.run([pipe])
        written, report = files(pipe), engine.report
        for _ in range(2):
            engine.shutdown()
        found = (report.status, engine.report.status, report.ok)
        told = f"after shutdown() of a run that was completed its status, the engine's and ok are {found}"
        assert found == (RunStatus.COMPLETED, RunStatus.COMPLETED, 3), bench.broken("shutdown", told)
        assert files(pipe) == written, bench.broken("shutdown", "after the end it changed what was written")

    @pytest.mark.parametrize("by", ["abort", "shutdown"])
    def test_an_abort_publishes_nothing(self, bench: EngineBench, by: str) -> None:
        pipes = [bench.pipe(bench.table(_LONG), pre=[Slow(0.01)]) for _ in range(3)]
        with bench.started(pipes, n_workers=2) as engine:
            bench.wait_until(lambda: engine.report.ok, "the report of a run counts ok records", "reports")
            seconds = _ended_by(engine, by)
            _check_aborted(bench, engine, seconds, by)
        for pipe in pipes:
            bench.check_unpublished(pipe, "abort", when=f"was ended by {by}()")

    def test_an_abort_of_shards_publishes_nothing(self, bench: EngineBench) -> None:
        pipe = bench.pipe(bench.table(_LONG), pre=[Slow(0.01)])
        with PipeManager.parallelize_pipe(pipe, 2, bench.make()) as manager:
            manager.start()
            bench.wait_until(lambda: manager.report.ok, "the report of a pipe in shards counts ok records", "reports")
            begun = time.monotonic()
        seconds = time.monotonic() - begun
        told = f"a pipe in shards, which is left after some records, is {manager.report.status} after {seconds:.1f} s"
        assert manager.report.status is RunStatus.ABORTED, bench.broken("abort", told)
        assert seconds < _SOON, bench.broken("abort", told)
        bench.check_unpublished(pipe, "abort", when="was aborted in shards")

    @needs("can_kill")
    def test_a_shutdown_does_not_wait_for_what_hangs(self, bench: EngineBench) -> None:
        gate = bench.gate()
        pipe = bench.pipe(bench.table(20), pre=[Halts({10: gate}, 4 * PATIENCE)])
        with bench.started([pipe]) as engine:
            bench.wait_until(lambda: engine.report.ok, "the report of a run counts ok records", "reports")
            _check_aborted(bench, engine, _ended_by(engine, "shutdown"), "shutdown")
        bench.check_unpublished(pipe, "abort", when="hung and was ended by shutdown()")


def _is_refused(engine: Engine, pipes: Sequence[Pipe]) -> bool:
    with suppress(UsageError):
        engine.start(pipes)
        return False
    return True


def _run_anew(bench: EngineBench, engine: Engine) -> None:
    """The engine runs a pipe."""
    engine.start([bench.pipe(bench.table(3))])
    report = bench.finish(engine)
    found = (report.status, report.ok, len(engine.pipe_reports))
    told = f"status, ok and number of reports are {found} of one pipe of 3 records, on an engine that was used before"
    assert found == (RunStatus.COMPLETED, 3, 1), bench.broken("reuse", told)


def _ended_by(engine: Engine, by: str) -> float:
    """End the run; how many seconds it took."""
    begun = time.monotonic()
    if by == "abort":
        engine.report.abort()
        engine.wait(2 * _SOON)
    else:
        engine.shutdown()
    return time.monotonic() - begun


def _check_aborted(bench: EngineBench, engine: Engine, seconds: float, by: str) -> None:
    found = [str(report.status) for report in (engine.report, *engine.pipe_reports)]
    told = f"{seconds:.1f} s after {by}() the run and its pipes are {', '.join(found)}"
    assert seconds < _SOON, bench.broken("abort", told)
    assert set(found) == {RunStatus.ABORTED}, bench.broken("abort", told)
    assert not engine.is_running, bench.broken("abort", f"{told}, and is_running is True")
