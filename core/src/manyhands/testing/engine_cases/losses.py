"""Workers that die: their pipes run again, and nothing is lost or counted twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from manyhands.errors import RunError
from manyhands.manager import PipeManager
from manyhands.report import RunStatus
from manyhands.testing.cases.needs import needs
from manyhands.testing.engine_bench import files
from manyhands.testing.engine_hooks import Slow
from manyhands.testing.script import Script, attempts, deterministic_failure

if TYPE_CHECKING:
    from manyhands.testing.engine_bench import EngineBench

_LONG: Final = 3000


class LossCases:
    """A record kills the worker of its pipe, once or whenever it comes."""

    @needs("crosses_process")
    def test_a_pipe_whose_worker_dies_runs_again(self, bench: EngineBench) -> None:
        source, folders = bench.table(40), [bench.new_folder() for _ in range(3)]
        scripts: list[Script] = [{}, {30: ["die", "ok"]}, {39: ["die", "ok"]}]
        hooks = [deterministic_failure(folder, script) for folder, script in zip(folders, scripts, strict=True)]
        pipes = [bench.pipe(source, pre=[hook]) for hook in hooks]
        alone = bench.pipe(source)
        alone.run()
        engine = bench.run(pipes)
        told = f"it is {engine.report.status} ({engine.report.exception}): {engine.report.counts}"
        assert engine.report.status is RunStatus.COMPLETED, bench.broken("losses", f"two of three workers died: {told}")
        found = [(report.read, report.ok) for report in engine.pipe_reports]
        assert found == [(40, 40)] * 3, bench.broken("accounting", f"in and ok of pipes of 40 records are {found}")
        assert engine.report.ok == 120, bench.broken("accounting", f"two of three workers died: {told}")
        for number, (pipe, folder) in enumerate(zip(pipes, folders, strict=True), 1):
            told = f"pipe {number}, of which {'no' if number == 1 else 'a'} worker died,"
            assert files(pipe) == files(alone), bench.broken("losses", f"{told} did not write what it writes alone")
            most, wanted = max(attempts(folder).values()), 1 if number == 1 else 2
            assert most == wanted, bench.broken("losses", f"{told} ran {most} times, not {wanted}")

    @needs("crosses_process")
    def test_a_shard_whose_worker_dies_runs_again(self, bench: EngineBench) -> None:
        source = bench.table(40)
        alone, folder = bench.pipe(source), bench.new_folder()
        alone.run()
        pipe = bench.pipe(source, pre=[deterministic_failure(folder, {30: ["die", "ok"]})])
        with PipeManager.parallelize_pipe(pipe, 2, bench.make()) as manager:
            manager.start()
            report = bench.finish(manager)
        told = f"one of two workers died: it is {report.status} ({report.exception}) and counts {report.counts}"
        assert report.status is RunStatus.COMPLETED, bench.broken("losses", told)
        assert (report.read, report.ok) == (40, 40), bench.broken("accounting", told)
        assert files(pipe) == files(alone), bench.broken("shards", "one of two workers died: other bytes than alone")
        assert attempts(folder)[0] == 1, bench.broken("losses", "the shard whose worker did not die ran again")

    @needs("crosses_process")
    def test_a_record_that_always_kills_fails_the_run(self, bench: EngineBench) -> None:
        folder = bench.new_folder()
        killing = bench.pipe(bench.table(40), pre=[deterministic_failure(folder, {30: ["die"]})])
        pipes = [bench.pipe(bench.table(_LONG), pre=[Slow(0.01)]), killing]
        with bench.started(pipes) as engine:
            report = bench.finish(engine)
        told = f"a record of pipe 2 kills each worker: the run is {report.status} with {report.exception!r}"
        assert report.status is RunStatus.FAILED, bench.broken("losses", told)
        assert isinstance(report.exception, RunError), bench.broken("losses", told)
        for words in ("pipe 2", "SIGKILL"):
            assert words in str(report.exception), bench.broken("losses", f"{told}, which does not say {words!r}")
        found = [report.status for report in engine.pipe_reports]
        told = f"a pipe that runs beside one whose workers die is {found[0]}, that one is {found[1]}"
        assert found == [RunStatus.ABORTED, RunStatus.FAILED], bench.broken("losses", told)
        tries = attempts(folder)[30]
        assert tries == 2, bench.broken("losses", f"a record that kills was given to {tries} workers, not to 2")
        for pipe in pipes:
            bench.check_unpublished(pipe, "losses", when="kills its workers, or runs beside one that does,")
