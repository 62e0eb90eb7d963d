"""Workers that die: the record that kills is dead, everybody else is ok, and nothing hangs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from manyhands.errors import TeardownError, WorkerInitError
from manyhands.events import ChunkFailed, Event, RecordDead
from manyhands.records import Outcome
from manyhands.report import RunStatus
from manyhands.testing.cases.accounts import check_attempts, check_outcomes
from manyhands.testing.cases.needs import needs
from manyhands.testing.faults import CAUSES, FAULTS, spare_this_process
from manyhands.testing.hooks import Faulty, FaultyAsync, Lives
from manyhands.testing.models import FaultyRow, FaultyWhenWritten, Row
from manyhands.testing.records import rows
from manyhands.testing.script import Script, attempts, deterministic_failure

if TYPE_CHECKING:
    from manyhands.testing.bench import Bench
    from manyhands.testing.ran import Ran

JOBS: Final[dict[str, dict[str, Any]]] = {
    "pre": {"schema": Row, "pre": [Faulty()]},
    "pre, async": {"schema": Row, "pre": [FaultyAsync()]},
    "validate": {"schema": FaultyRow},
    "post": {"schema": Row, "post": [Faulty()]},
    "pack": {"schema": FaultyWhenWritten},
}
"""What commits the fault of a record, by the stage in which it does."""

SURVIVED: Final = [fault for fault in FAULTS if fault not in CAUSES]


class CrashCases:
    """What code of the job does to its worker: each fault in each stage."""

    @pytest.mark.parametrize("stage", JOBS)
    def test_what_is_raised_costs_its_record_alone(self, bench: Bench, stage: str) -> None:
        """Whatever it is, also what is no Exception."""
        faults = {2 + 3 * place: fault for place, fault in enumerate(SURVIVED)}
        ran = bench.run(_doing(12, faults), chunksize=4, **JOBS[stage])
        check_outcomes(bench, ran, {k: Outcome.REJECTED if k in faults else Outcome.OK for k in range(12)}, "crashes")

    @needs("crosses_process")
    @pytest.mark.parametrize("stage", JOBS)
    def test_what_kills_the_worker_costs_its_record_alone(self, bench: Bench, stage: str) -> None:
        """It is a dead letter that says of what it died, and where."""
        spare_this_process()
        faults = {2 + 4 * place: fault for place, fault in enumerate(CAUSES)}
        events: list[Event] = []
        ran = bench.run(_doing(14, faults), chunksize=1, observers=[events.append], **JOBS[stage])
        check_outcomes(bench, ran, {k: Outcome.DEAD if k in faults else Outcome.OK for k in range(14)}, "crashes")
        for error in ran.errors:
            _check_letter(bench, error, faults[error["position"]], stage.partition(",")[0])
        _check_blame(bench, events, faults.keys())

    @pytest.mark.parametrize("fault", SURVIVED)
    def test_what_is_raised_in_setup_ends_the_run_before_it_begins(self, bench: Bench, fault: str) -> None:
        """No worker can start: that is no fault of any record."""
        error = _check_start(bench, bench.folder, fault)
        assert "setup of hook Lives failed" in str(error), bench.broken("start", f"{fault} in setup is told as {error}")

    @needs("crosses_process")
    @pytest.mark.parametrize("fault", CAUSES)
    def test_a_worker_that_dies_in_setup_ends_the_run_before_it_begins(self, bench: Bench, fault: str) -> None:
        """After a few in a row the backend gives up."""
        spare_this_process()
        _check_start(bench, bench.folder, fault)

    @pytest.mark.parametrize("fault", SURVIVED)
    def test_what_is_raised_in_teardown_fails_the_run(self, bench: Bench, fault: str) -> None:
        """Its work may be incomplete."""
        error = _check_end(bench, fault)
        assert "teardown of hook Lives failed" in str(error), bench.broken(
            "shutdown", f"{fault} in teardown is told as {error}"
        )

    @needs("crosses_process")
    @pytest.mark.parametrize("fault", CAUSES)
    def test_a_worker_that_dies_in_teardown_fails_the_run(self, bench: Bench, fault: str) -> None:
        """Likewise, though nobody raises anything."""
        spare_this_process()
        _check_end(bench, fault)

    @needs("crosses_process")
    def test_a_record_that_kills_once_runs_twice_and_no_other_does(self, bench: Bench) -> None:
        """Chunks that had only waited for the worker that died are charged nothing."""
        folder = bench.folder / "attempts"
        ran = _run_script(bench, {7: ["die", "ok"]}, 40, chunksize=1)
        check_outcomes(bench, ran, dict.fromkeys(range(40), Outcome.OK), "crashes")
        check_attempts(bench, attempts(folder), {k: 2 if k == 7 else 1 for k in range(40)}, "crashes")

    @needs("crosses_process")
    def test_killers_are_found_in_large_chunks(self, bench: Bench) -> None:
        """Neighbours of each other, too; nobody else is blamed.

        Where the worker told its place, who stands before a killer in its chunk runs twice, and all others once.
        """
        script: Script = {7: ["die"], 8: ["die"], 150: ["die"]}
        ran = _run_script(bench, script, 300, chunksize=100)
        wanted = {k: Outcome.DEAD if k in script else Outcome.OK for k in range(300)}
        check_outcomes(bench, ran, wanted, "crashes")
        if bench.capabilities.reports_progress and not bench.capabilities.async_native:
            twice = {*range(9), *range(100, 151)}
            times = {k: 2 if k in twice else 1 for k in range(300)}
            check_attempts(bench, attempts(bench.folder / "attempts"), times, "crashes")

    @needs("crosses_process")
    def test_killers_are_found_in_batches(self, bench: Bench) -> None:
        """A plain hook does not say at which record it is: the range is halved until one is left."""
        ran = _run_script(bench, {5: ["die"]}, 16, chunksize=16, is_async=False)
        check_outcomes(bench, ran, {k: Outcome.DEAD if k == 5 else Outcome.OK for k in range(16)}, "crashes")
        times = attempts(bench.folder / "attempts")[5]
        assert times <= 6, bench.broken("crashes", f"a killer among 16 records ran {times} times; 6 deaths find it")

    @needs("crosses_process")
    def test_where_records_must_not_run_twice_the_whole_chunk_is_dead(self, bench: Bench) -> None:
        """Nothing of it runs again, and other chunks are not touched."""
        ran = _run_script(bench, {7: ["die", "ok"]}, 15, chunksize=5, replay=False, is_async=False)
        wanted = {k: Outcome.DEAD if 5 <= k < 10 else Outcome.OK for k in range(15)}
        check_outcomes(bench, ran, wanted, "crashes")
        times = {k: int(k not in {8, 9}) for k in range(15)}
        check_attempts(bench, attempts(bench.folder / "attempts"), times, "crashes")


def _doing(count: int, faults: dict[int, str]) -> list[dict[str, Any]]:
    return [{**row, "do": faults.get(row["k"])} for row in rows(count)]


def _run_script(bench: Bench, script: Script, count: int, *, chunksize: int, **how: Any) -> Ran:
    hook = deterministic_failure(bench.folder / "attempts", script, **{"is_async": True, **how})
    return bench.run(rows(count), pre=[hook], chunksize=chunksize)


def _check_letter(bench: Bench, error: dict[str, Any], fault: str, stage: str) -> None:
    """See that a dead letter tells what is true; the cause may be unknown, the stage where nobody reports progress."""
    (reason,) = error["errors"]
    exact = f"the worker died ({CAUSES[fault]}) in stage {stage}"
    allowed = {exact, exact.replace(CAUSES[fault], "unknown cause")}
    if not bench.capabilities.reports_progress:
        allowed |= {message.partition(" in stage")[0] for message in allowed}
    found = (reason["type"], reason["message"])
    assert found[0] == "WorkerLost", bench.broken(
        "crashes", f"{fault} in {stage} makes a dead letter of type {found[0]}"
    )
    assert found[1] in allowed, bench.broken("crashes", f"{fault} in {stage} is told as {found[1]!r}, not {exact!r}")


def _check_blame(bench: Bench, events: list[Event], killers: Any) -> None:
    """See that each of the killers, alone in its chunk, died twice and that nobody else was charged."""
    charged = [event.sequence for event in events if isinstance(event, ChunkFailed) and event.began]
    wanted = sorted([*killers, *killers])
    assert sorted(charged) == wanted, bench.broken(
        "crashes", f"deaths are charged to records {sorted(charged)}, while {wanted} killed"
    )
    dead = sorted(event.position for event in events if isinstance(event, RecordDead))
    assert dead == sorted(killers), bench.broken("events", f"RecordDead was told of records {dead}")


def _check_start(bench: Bench, folder: Any, fault: str) -> BaseException:
    """See that a run whose workers cannot be set up ends, with the right error, before a record has moved."""
    path = folder / "life"
    ran = bench.finish(bench.pipe(rows(5), pre=[Lives(path, setup=fault)], chunksize=1))
    error = ran.report.exception
    assert isinstance(error, WorkerInitError), bench.broken(
        "start", f"{fault} in setup ends the run {ran.report.status} with {error!r} instead of a WorkerInitError"
    )
    assert ran.report.read == 0, bench.broken("start", f"{ran.report.read} records were read before a worker was up")
    assert not any(line.startswith("record") for line in path.read_text().splitlines()), bench.broken(
        "start", "records ran on a worker whose setup had failed"
    )
    return error


def _check_end(bench: Bench, fault: str) -> BaseException:
    """See that a run whose teardown fails is failed, and publishes nothing."""
    hook = Lives(bench.folder / "life", teardown=fault)
    ran = bench.finish(bench.pipe(rows(5), pre=[hook], chunksize=1))
    error = ran.report.exception
    assert isinstance(error, TeardownError), bench.broken(
        "shutdown", f"{fault} in teardown ends the run {ran.report.status} with {error!r} instead of a TeardownError"
    )
    assert ran.report.status is RunStatus.FAILED, bench.broken("shutdown", f"such a run is {ran.report.status}")
    assert not ran.output, bench.broken("shutdown", f"{fault} in teardown, and the output is published")
    return error
