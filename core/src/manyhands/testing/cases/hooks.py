"""Hooks run as documented: order, batches, isolation, and a store for each worker."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from manyhands.adapters.csv import CSVInputAdapter
from manyhands.records import Outcome
from manyhands.testing.cases.accounts import check_attempts, check_outcomes, messages
from manyhands.testing.files import lines
from manyhands.testing.hooks import (
    Lives,
    LivesAsync,
    Marks,
    MarksAsync,
    Reverses,
    ReversesAsync,
    TellsBatch,
    TellsEntry,
    WritesStore,
)
from manyhands.testing.models import Row
from manyhands.testing.records import rows
from manyhands.testing.script import attempts, deterministic_failure

if TYPE_CHECKING:
    from manyhands.testing.bench import Bench

both_kinds: pytest.MarkDecorator = pytest.mark.parametrize("is_async", [False, True], ids=["plain", "async"])


class HookCases:
    """What hooks may rely on."""

    @pytest.mark.parametrize(("stage", "is_async"), [("pre", False), ("post", True)], ids=["plain", "async"])
    def test_only_the_record_that_fails_is_rejected(self, bench: Bench, stage: str, *, is_async: bool) -> None:
        """Records before it run a second time, with the batch and alone; those behind it only alone."""
        folder = bench.folder / "attempts"
        hook: dict[str, Any] = {stage: [deterministic_failure(folder, {3: ["raise"]}, is_async=is_async)]}
        ran = bench.run(rows(10), schema=Row, chunksize=5, **hook)
        check_outcomes(bench, ran, {k: Outcome.REJECTED if k == 3 else Outcome.OK for k in range(10)}, "hooks")
        wanted = [{"type": "HookError", "message": f"{_name(hook, stage)}: record 3 fails by script", "loc": []}]
        found = ran.errors[0]["errors"]
        assert found == wanted, bench.broken("hooks", f"a hook that raises leaves the errors {found}, not {wanted}")
        twice = () if is_async else (0, 1, 2, 3)
        check_attempts(bench, attempts(folder), {k: 2 if k in twice else 1 for k in range(10)}, "hooks")

    def test_a_hook_that_must_not_run_twice_has_its_batch_rejected(self, bench: Bench) -> None:
        """No record of it runs again, and other batches are not touched."""
        folder = bench.folder / "attempts"
        hook = deterministic_failure(folder, {3: ["raise"]}, replay=False)
        ran = bench.run(rows(10), pre=[hook], chunksize=5)
        check_outcomes(bench, ran, {k: Outcome.REJECTED if k < 5 else Outcome.OK for k in range(10)}, "hooks")
        check_attempts(bench, attempts(folder), {k: int(k != 4) for k in range(10)}, "hooks")

    @both_kinds
    def test_a_replay_begins_with_untouched_data(self, bench: Bench, *, is_async: bool) -> None:
        """However often a batch runs, each hook is seen once, and the error output shows what was read."""
        mark = (MarksAsync if is_async else Marks)("mark", priority=0)
        culprit = deterministic_failure(bench.folder / "attempts", {3: ["raise"]}, is_async=is_async)
        records = rows(10)
        ran = bench.run(records, pre=[mark, culprit], chunksize=5)
        marks = {row["k"]: row.get("marks") for row in ran.rows if row.get("marks") != "mark;"}
        assert not marks, bench.broken("hooks", f"records carry marks of other runs of their hook: {marks}")
        (error,) = ran.errors
        found = (error["raw_data"], error["metadata"])
        assert found == ({"k": 3}, {"mark": 1}), bench.broken("hooks", f"the error output shows {found}")
        assert records == rows(10), bench.broken("hooks", "hooks changed the records of the program itself")

    @both_kinds
    def test_what_a_hook_leaves_out_is_dropped(self, bench: Bench, *, is_async: bool) -> None:
        """It may return the others in any order: the output is in that of the input."""
        hook = (ReversesAsync if is_async else Reverses)(every=3)
        ran = bench.run(rows(10), pre=[hook], post=[hook], chunksize=5)
        wanted = {k: Outcome.OK if k % 3 else Outcome.DROPPED for k in range(10)}
        check_outcomes(bench, ran, wanted, "hooks")
        order = [row["k"] for row in ran.rows]
        assert order == sorted(order), bench.broken("hooks", f"a hook that reorders changes the output to {order}")

    def test_a_hook_may_drop_everything(self, bench: Bench) -> None:
        """A chunk without a record that is ok is a chunk all the same."""
        ran = bench.run(rows(10), pre=[Reverses(every=1)], chunksize=5)
        check_outcomes(bench, ran, dict.fromkeys(range(10), Outcome.DROPPED), "hooks")

    def test_hooks_run_by_priority(self, bench: Bench) -> None:
        """Equal ones as they were registered."""
        hooks = [Marks("c", 75), Marks("a", 25), MarksAsync("b1"), Marks("b2"), MarksAsync("b3")]
        ran = bench.run(rows(6), pre=hooks, post=hooks, chunksize=3)
        found, wanted = {row["marks"] for row in ran.rows}, "a;b1;b2;b3;c;"
        assert found == {2 * wanted}, bench.broken("hooks", f"hooks of different priorities ran as {found}")

    def test_failed_records_skip_what_follows(self, bench: Bench) -> None:
        """A hook behind the one that failed, or behind the schema, does not see them."""
        first = deterministic_failure(bench.folder / "first", {1: ["raise"], 2: ["reject"], 3: ["drop"]}, is_async=True)
        last = deterministic_failure(bench.folder / "last", {})
        ran = bench.run([*rows(5), {"k": "no number"}], schema=Row, pre=[first], post=[last], chunksize=6)
        seen = list(attempts(bench.folder / "last"))
        assert seen == [0, 4], bench.broken("hooks", f"the last hook saw records {seen} instead of [0, 4]")
        assert list(messages(ran)) == [1, 2, 5], bench.broken("hooks", f"rejected are {messages(ran)}")

    def test_max_hook_chunk_size_caps_the_batch(self, bench: Bench) -> None:
        """A plain hook gets so many records at most in one call; the rest of a chunk is a batch of its own."""
        ran = bench.run(rows(14), pre=[TellsBatch()], chunksize=7, max_hook_chunk_size=3)
        sizes = [row["of"] for row in ran.rows]
        assert sizes == [3, 3, 3, 3, 3, 3, 1] * 2, bench.broken(
            "hooks", f"with max_hook_chunk_size=3 and chunksize=7 records came in batches of {sizes}"
        )

    @both_kinds
    def test_each_worker_sets_its_store_up_and_tears_it_down(self, bench: Bench, *, is_async: bool) -> None:
        """What `setup` put there is seen by `execute` and by `teardown` on the same worker."""
        path = bench.folder / "life"
        ran = bench.run(rows(12), pre=[(LivesAsync if is_async else Lives)(path)], chunksize=2)
        told = lines(path)
        counts = Counter(line.split(maxsplit=1)[0] for line in told)
        assert counts["setup"] == counts["teardown"] >= 1, bench.broken(
            "workers", f"{counts['setup']} setups and {counts['teardown']} teardowns"
        )
        assert counts["record"] == 12, bench.broken("workers", f"{counts['record']} of 12 records ran")
        torn = [line.removeprefix("teardown ") for line in told if line.startswith("teardown")]
        assert len(set(torn)) == len(torn), bench.broken("workers", f"workers share a store: {torn}")
        strange = {row["k"]: row["token"] for row in ran.rows if row["token"] not in torn}
        assert not strange, bench.broken("workers", f"records saw stores that nobody set up: {strange}, not {torn}")

    def test_the_store_is_read_only_while_hooks_execute(self, bench: Bench) -> None:
        """A hook that writes into it is told so, and its records are rejected."""
        ran = bench.run(rows(3), pre=[WritesStore()], chunksize=1)
        check_outcomes(bench, ran, dict.fromkeys(range(3), Outcome.REJECTED), "workers")
        (said,) = set(messages(ran).values())
        assert "read-only" in said, bench.broken("workers", f"a hook that writes into the store is told: {said!r}")

    def test_hooks_see_where_a_record_stands(self, bench: Bench) -> None:
        """Its position, in whatever chunk it travels, and what hooks before them have left in its metadata."""
        ran = bench.run(rows(11), schema=Row, pre=[Marks("before")], post=[TellsEntry()], chunksize=4)
        for row in ran.rows:
            k, told = row["k"], row["told"]
            wanted = {"id": k, "position": k, "status": "validated", "errors": [], "metadata": {"before": 1}}
            assert told == wanted, bench.broken("hooks", f"the entry of record {k} says {told}, not {wanted}")

    def test_errors_name_the_line_of_the_record(self, bench: Bench) -> None:
        """Of inputs that have lines, in chunks behind the first one too, beside what hooks have left there."""
        path = _table(bench.folder / "in.csv", 12)
        culprit = deterministic_failure(bench.folder / "attempts", {1: ["raise"], 10: ["raise"]})
        ran = bench.run(CSVInputAdapter(path), pre=[Marks("seen"), culprit], chunksize=4)
        found = [(error["position"], error.get("line"), error["metadata"]) for error in ran.errors]
        wanted = [(1, 4, {"seen": 1}), (10, 22, {"seen": 1})]
        assert found == wanted, bench.broken(
            "hooks", f"position, line and metadata of errors are {found}, not {wanted}"
        )


def _name(hooks: dict[str, Any], stage: str) -> str:
    return type(hooks[stage][0]).__name__


def _table(path: Path, count: int) -> Path:
    """Records of two lines each, below a header."""
    path.write_text("k,text\n" + "".join(f'{k},"two\nlines"\n' for k in range(count)), encoding="utf-8")
    return path
