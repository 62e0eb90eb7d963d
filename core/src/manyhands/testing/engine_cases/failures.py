"""Pipes that fail, and records that do: the first fail the run, the others only themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import pytest

from manyhands.adapters.json import JSONInputAdapter
from manyhands.errors import InputError, ManyhandsError, SourceError, UnpicklableError, WorkerInitError
from manyhands.manager import PipeManager
from manyhands.report import RunStatus
from manyhands.testing.cases.needs import needs
from manyhands.testing.engine_hooks import Sieve, Slow, Unfit, Witless

if TYPE_CHECKING:
    from manyhands.pipe import Pipe
    from manyhands.testing.engine_bench import EngineBench

_LONG: Final = 3000
_SOON: Final = 15.0


def _missing(bench: EngineBench) -> Pipe:
    return bench.pipe(JSONInputAdapter(bench.new_folder() / "missing.jsonl"))


def _damaged(bench: EngineBench) -> Pipe:
    path = bench.new_folder() / "damaged.json"
    path.write_text('[{"a": 1}, {"a": 2}, oops')
    return bench.pipe(JSONInputAdapter(path))


def _unfit(bench: EngineBench) -> Pipe:
    return bench.pipe(bench.table(5), pre=[Unfit()])


FAULTS: Final[dict[str, tuple[Callable[[Any], Any], type[ManyhandsError], str]]] = {
    "whose input is missing": (_missing, InputError, "missing.jsonl"),
    "whose input is damaged": (_damaged, SourceError, "damaged.json"),
    "whose hook cannot be set up": (_unfit, WorkerInitError, "it fails"),
}
"""What makes a pipe that fails, with which exception, and what that says."""


class FailureCases:
    """What each of them costs."""

    @pytest.mark.parametrize("fault", FAULTS)
    def test_a_pipe_that_fails_ends_the_others(self, bench: EngineBench, fault: str) -> None:
        make, kind, words = FAULTS[fault]
        pipes = [make(bench), bench.pipe(bench.table(_LONG), pre=[Slow(0.01)])]
        with bench.started(pipes) as engine:
            report = bench.finish(engine, _SOON)
        told = f"a run with a pipe {fault} is {report.status} with {report.exception!r}"
        assert report.status is RunStatus.FAILED, bench.broken("failures", told)
        assert isinstance(report.exception, kind), bench.broken("failures", f"{told}, not with {kind.__name__}")
        assert words in str(report.exception), bench.broken("failures", f"{told}, which does not say {words!r}")
        found = [each.status for each in engine.pipe_reports]
        told = f"the pipe {fault} is {found[0]}, the one beside it, which takes half a minute, is {found[1]}"
        assert found == [RunStatus.FAILED, RunStatus.ABORTED], bench.broken("failures", told)
        for pipe in pipes:
            bench.check_unpublished(pipe, "failures", when=f"fails, or runs beside one {fault},")

    def test_shards_that_fail_publish_nothing_and_their_exception_is_raised(self, bench: EngineBench) -> None:
        pipe = _unfit(bench)
        manager = PipeManager.parallelize_pipe(pipe, 2, bench.make())
        error: BaseException | None = None
        try:
            manager.run()
        except WorkerInitError as raised:
            error = raised
        told = f"a pipe in shards whose hook cannot be set up raised {error!r} and is {manager.report.status}"
        assert error is not None, bench.broken("failures", told)
        assert manager.report.status is RunStatus.FAILED, bench.broken("failures", told)
        bench.check_unpublished(pipe, "failures", when="failed in shards")

    def test_a_hook_that_fails_costs_its_record_alone(self, bench: EngineBench) -> None:
        pipes = [bench.pipe(bench.table(20), pre=[Sieve(100, 19)]), bench.pipe(bench.table(5))]
        engine = bench.run(pipes)
        found = [(report.ok, report.rejected, report.dropped) for report in engine.pipe_reports]
        told = f"a hook that fails on one of 20 records: {engine.report.status}, ok, rejected, dropped: {found}"
        assert found == [(18, 1, 1), (5, 0, 0)], bench.broken("failures", told)
        assert engine.report.status is RunStatus.COMPLETED, bench.broken("failures", told)

    @needs("crosses_process")
    def test_a_pipe_that_cannot_be_sent_fails_and_names_what_cannot(self, bench: EngineBench) -> None:
        pipes = [bench.pipe(bench.table(5), pre=[Witless(threading.Lock())]), bench.pipe(bench.table(5))]
        error: BaseException | None = None
        try:
            error = bench.run(pipes).report.exception
        except UnpicklableError as raised:  # start() may say it
            error = raised
        told = f"a pipe with a hook that holds a lock failed with {error!r}"
        assert isinstance(error, UnpicklableError), bench.broken("failures", told)
        assert "Witless" in str(error), bench.broken("failures", f"{told}, which does not name the hook")
