"""Every record has exactly one outcome, and the report counts what is in the files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from manyhands.errors import SourceError
from manyhands.records import Outcome
from manyhands.report import RunStatus
from manyhands.testing.cases.accounts import check_attempts, check_outcomes, expected, messages, outcomes
from manyhands.testing.cases.needs import needs
from manyhands.testing.models import Row
from manyhands.testing.records import failing_source, rows
from manyhands.testing.script import Deed, attempts, deterministic_failure, fate, seeded

if TYPE_CHECKING:
    from manyhands.testing.bench import Bench

RECORDS = 60

DEADLY: tuple[Deed, ...] = ("ok", "raise", "drop", "reject", "die")


class AccountingCases:
    """Outcomes by position, for scripts that are drawn from a seed."""

    @pytest.mark.parametrize(("seed", "is_async"), [(1, False), (2, True)], ids=["plain", "async"])
    def test_each_record_alone_has_its_outcome(self, bench: Bench, seed: int, *, is_async: bool) -> None:
        """Nothing dies, so each record runs once."""
        script = seeded(seed, RECORDS)
        hook = deterministic_failure(bench.folder / "attempts", script, is_async=is_async)
        ran = bench.run(rows(RECORDS), schema=Row, pre=[hook], chunksize=1)
        check_outcomes(bench, ran, expected(script, RECORDS))
        check_attempts(bench, attempts(bench.folder / "attempts"), dict.fromkeys(range(RECORDS), 1), "accounting")

    @pytest.mark.parametrize(("seed", "chunksize"), [(3, 7), (4, None)])
    def test_records_of_a_batch_have_their_outcomes(self, bench: Bench, seed: int, chunksize: int | None) -> None:
        """Where a batch fails its records run a second time, each alone, and no more often."""
        script = seeded(seed, RECORDS)
        hook = deterministic_failure(bench.folder / "attempts", script)
        ran = bench.run(rows(RECORDS), schema=Row, post=[hook], chunksize=chunksize)
        check_outcomes(bench, ran, expected(script, RECORDS))
        often = {k: times for k, times in attempts(bench.folder / "attempts").items() if times not in (1, 2)}
        assert not often, bench.broken("accounting", f"ran records more than twice, by position: {often}")

    @needs("crosses_process")
    def test_records_that_kill_have_their_outcomes(self, bench: Bench) -> None:
        """A record runs once, and once more for each worker that it killed, but for the last."""
        script = seeded(5, RECORDS, deeds=DEADLY, share=0.3, longest=2)
        hook = deterministic_failure(bench.folder / "attempts", script)
        ran = bench.run(rows(RECORDS), schema=Row, pre=[hook], chunksize=1)
        check_outcomes(bench, ran, expected(script, RECORDS))
        wanted = {k: fate(script.get(k, ["ok"]))[1] for k in range(RECORDS)}
        check_attempts(bench, attempts(bench.folder / "attempts"), wanted, "accounting")

    def test_error_records_hold_what_was_read(self, bench: Bench) -> None:
        """Whatever hooks did to it: position, outcome, data and reason."""
        hook = deterministic_failure(bench.folder / "attempts", {2: ["raise"]})
        ran = bench.run([*rows(5), {"k": "x"}], schema=Row, pre=[hook], chunksize=3)
        found = [(error["position"], error["outcome"], error["raw_data"]) for error in ran.errors]
        wanted = [(2, "rejected", {"k": 2}), (5, "rejected", {"k": "x"})]
        assert found == wanted, bench.broken("accounting", f"wrote errors {found} instead of {wanted}")
        reasons = messages(ran)
        assert reasons[2] == "Scripted: record 2 fails by script", bench.broken(
            "accounting", f"gave the reason {reasons[2]!r}"
        )

    def test_a_run_that_fails_says_so(self, bench: Bench) -> None:
        """It publishes nothing, and what was read and not written is cancelled."""
        ran = bench.finish(bench.pipe(failing_source(20), chunksize=3))
        report, counts = ran.report, ran.report.counts
        assert report.status is RunStatus.FAILED, bench.broken("accounting", f"the run is {report.status}")
        assert isinstance(report.exception, SourceError), bench.broken(
            "accounting", f"the run failed with {report.exception!r} instead of a SourceError"
        )
        assert counts["in"] == sum(counts[outcome] for outcome in Outcome), bench.broken(
            "accounting", f"the sums of a failed run do not match: {counts}"
        )
        assert not outcomes(bench, ran), bench.broken("accounting", "it published the output of a failed run")
