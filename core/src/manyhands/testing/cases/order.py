"""Output is in the order of the input, however long each chunk takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from manyhands.driver.options import RunOptions
from manyhands.testing.cases.accounts import check_outcomes, expected, listed
from manyhands.testing.records import rows
from manyhands.testing.script import Script, deterministic_failure

if TYPE_CHECKING:
    from manyhands.testing.bench import Bench
    from manyhands.testing.ran import Ran

RECORDS = 40

SCRIPT: Script = {0: ["sleep"], 5: ["raise"], 6: ["drop"], 17: ["reject"], 20: ["sleep"], 38: ["raise"]}
"""The first chunk takes longest."""

SECONDS = 0.15


class OrderCases:
    """Order of output and error output."""

    @pytest.mark.parametrize(("chunksize", "is_async"), [(1, False), (7, True)], ids=["plain", "async"])
    def test_output_is_in_input_order(self, bench: Bench, chunksize: int, *, is_async: bool) -> None:
        """A slow chunk holds up those behind it."""
        ran = _run(bench, chunksize=chunksize, is_async=is_async)
        order, refused = [row["k"] for row in ran.rows], [error["position"] for error in ran.errors]
        assert order == sorted(order), bench.broken("order", f"wrote records in the order {listed(order)}")
        assert refused == sorted(refused), bench.broken("order", f"wrote errors in the order {listed(refused)}")

    def test_without_order_each_record_is_written_once(self, bench: Bench) -> None:
        """The lines are the same, in whatever order."""
        ran, ordered = _run(bench, ordered=False), _run(bench)
        for what in ("rows", "errors"):
            found, wanted = (sorted(map(str, getattr(each, what))) for each in (ran, ordered))
            different = sorted(set(found) ^ set(wanted))
            assert found == wanted, bench.broken(
                "order", f"with ordered=False other {what} are written than else, the first are {different[:5]}"
            )


def _run(bench: Bench, *, chunksize: int = 1, ordered: bool = True, is_async: bool = False) -> Ran:
    folder = bench.folder / f"attempts {ordered}"
    hook = deterministic_failure(folder, SCRIPT, is_async=is_async, seconds=SECONDS)
    ran = bench.run(rows(RECORDS), pre=[hook], how=RunOptions(ordered=ordered), chunksize=chunksize)
    check_outcomes(bench, ran, expected(SCRIPT, RECORDS), "order")
    return ran
