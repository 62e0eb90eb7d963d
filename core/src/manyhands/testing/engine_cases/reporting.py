"""What an engine says of its pipes: live, in order, and in the end exactly."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from manyhands.report import RunStatus
from manyhands.testing.engine_bench import CHUNK, PATIENCE
from manyhands.testing.engine_hooks import Halts, Sieve, Slow

if TYPE_CHECKING:
    from manyhands.engine import Engine
    from manyhands.testing.engine_bench import EngineBench


class ReportingCases:
    """`report` and `pipe_reports`."""

    def test_nothing_is_reported_before_the_start(self, bench: EngineBench) -> None:
        engine = bench.make()
        found = (engine.is_running, engine.report.status, engine.report.is_finished, len(engine.pipe_reports))
        told = f"is_running, status, is_finished and number of pipe_reports are {found} before start()"
        assert found == (False, RunStatus.PENDING, False, 0), bench.broken("reports", told)

    def test_reports_are_the_sums_and_in_order(self, bench: EngineBench) -> None:
        """The first pipe ends last."""
        rows = [40, 20, 0, 10]
        alone = [bench.pipe(bench.table(count), pre=[Sieve(5, 7)]) for count in rows]
        slow = [bench.pipe(pipe.input_adapter, pre=[Sieve(5, 7), Slow(0.01)]) for pipe in alone]
        engine = bench.run(slow)
        found = [report.counts for report in engine.pipe_reports]
        for number, (counts, pipe) in enumerate(zip(found, alone, strict=True), 1):
            wanted = pipe.run().counts
            assert counts == wanted, bench.broken("reports", f"pipe {number} counts {counts}, alone {wanted}")
        sums = {name: sum(counts[name] for counts in found) for name in found[0]}
        whole = engine.report
        assert whole.counts == sums, bench.broken(
            "accounting", f"report has {whole.counts}, the pipes' sums are {sums}"
        )
        told = whole.as_dict()
        assert told.get("engine") == bench.name, bench.broken(
            "reports", f"its report names no engine {bench.name}: {told}"
        )

    def test_reports_move_while_pipes_run(self, bench: EngineBench) -> None:
        gates = [bench.gate() for _ in range(2)]
        halts = Halts({CHUNK: gates[0], 3 * CHUNK: gates[1]}, PATIENCE)
        with bench.started([bench.pipe(bench.table(4 * CHUNK), pre=[halts])]) as engine:
            for gate, count in zip(gates, (CHUNK, 3 * CHUNK), strict=True):
                what = f"the reports of a pipe that has come to record {count} say so while it runs"
                bench.wait_until(partial(_show, engine, count), what, "reports")
                told = f"in the middle of its work the pipe is {engine.pipe_reports[0].status}"
                assert engine.is_running, bench.broken("reports", f"{told}, and is_running is False")
                assert engine.pipe_reports[0].status is RunStatus.RUNNING, bench.broken("reports", told)
                gate.open()
            bench.finish(engine)

    def test_the_report_of_a_pipe_ends_with_it(self, bench: EngineBench) -> None:
        gate = bench.gate()
        pipes = [bench.pipe(bench.table(5)), bench.pipe(bench.table(5), pre=[Halts({0: gate}, PATIENCE)])]
        with bench.started(pipes) as engine:
            first, second = engine.pipe_reports
            what = "the report of a pipe that has ended says so, while another runs"
            bench.wait_until(lambda: first.is_finished, what, "reports", PATIENCE / 2)
            found = (first.status, first.ok, second.is_finished, engine.is_running)
            told = f"of the pipe that ended status and ok, of the other is_finished, and is_running are {found}"
            assert found == (RunStatus.COMPLETED, 5, False, True), bench.broken("reports", told)
            gate.open()
            bench.finish(engine)
        assert second.status is RunStatus.COMPLETED, bench.broken("reports", f"the other pipe is {second.status}")


def _show(engine: Engine, count: int) -> bool:
    """The reports of the first pipe and of all say that so many records are ok."""
    return engine.pipe_reports[0].ok == engine.report.ok == count
