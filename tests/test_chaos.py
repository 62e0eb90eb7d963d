"""Runs in which everything goes wrong at random: whatever dies, fails, dawdles or is stopped, each record has the one
outcome that it must have, and nothing is left behind.

`MANYHANDS_CHAOS_RUNS` says how many runs each backend has to stand; a run is given by its number alone, but for the
moments at which things happen.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest
from core.tests.support import wait_until

from manyhands import FlowReport, IterableInputAdapter, JSONInputAdapter, JSONOutputAdapter, Pipe, RunOptions
from manyhands.adapters.base import BaseInputAdapter
from manyhands.errors import SourceError
from manyhands.events import ChunkDone, ChunkFailed, Event, RecordDead
from manyhands.report import RunStatus

from .backends import BACKENDS, CLUSTERS, choices, cluster_workers, make, names
from .chaos_jobs import STAGES, Acts, ActsAsync, Record, Row, predict

RUNS = int(os.environ.get("MANYHANDS_CHAOS_RUNS", "8"))
FEWEST = 20
"""So many runs hold something of everything."""

LIMIT = 60.0
"""Seconds after which a run hangs."""

FUTILE = 2
"""Workers that may be killed before they have done anything: three in a row, and a backend may give up."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run.

    Attributes:
        records: what is read; files that they name are relative.
        breaks: the input fails behind them.
        as_lines: they are read from a file.
        hooks: what stands around validation.
        chunksize, batch, ordered: as a person gives them.
        timeout: `record_timeout`.
        crash_retries: enough for each kill to hit the same record.
        blurred: something dies where it is not known which record was at work.
        executor: further options of the backend, where it has them.
        deeds: what happens to the run, one after the other, with the seconds before each.
    """

    records: Sequence[Record]
    breaks: bool
    as_lines: bool
    hooks: Sequence[Acts]
    chunksize: int | None
    batch: int | None
    ordered: bool
    timeout: float | None
    crash_retries: int
    blurred: bool
    executor: dict[str, Any]
    deeds: Sequence[tuple[float, str]]

    @property
    def is_held(self) -> bool:
        """A record waits until all deeds are done."""
        waits = [record.get("do") == "wait" for record in self.records]
        return (True, "ok") in zip(waits, self.outcomes, strict=True)  # else it may not have come to that

    @property
    def deaths(self) -> int:
        """So many times a worker may die or be taken off a chunk, each of them with one chunk."""
        each = max(self.crash_retries + 1, 2)
        often = {"kill": each, "leave": each, "kill once": 2, "be late": 2}
        kills = sum(deed == "kill" for _, deed in self.deeds)
        return sum(often.get(record.get("do", ""), 0) for record in self.records) + kills * self.executor["max_workers"]

    @cached_property
    def outcomes(self) -> list[str]:
        """What must become of each record."""
        return predict(self.records, self.hooks, self.chunksize, self.batch)


def draw(name: str, seed: int) -> Plan:
    """The run of this number."""
    return _Dice(name, seed).plan()


class _Dice:
    def __init__(self, name: str, seed: int) -> None:
        self._random = Random(f"{name} {seed}")
        self._name = name
        self._able = BACKENDS[name].capabilities
        self._replay = self._chance(0.8)
        self._timed = not self._able.inline and seed % 8 == 5
        self._hooks = [self._hook(stage) for stage in ("pre", "post") if self._chance(0.7)]
        self._chunksize = self._one_of(1, 1, 2, 3, 7, 20, 100, *[None] * self._replay)
        self._batch = self._one_of(None, None, 1, 5)
        self._kills = self._one_of(0, 1, 1, 2, 3) if self._able.crosses_process and self._replay else 0
        self._end = {1: "abort", 3: "close", 7: "abort"}.get(seed % 9, "")  # what is rare must not be up to chance
        self._breaks = seed % 9 == 6
        self._blurred = self._able.crosses_process and not self._kills and self._chance(0.5)
        self._scarce = Counter({"kill": 2, "leave": 1, "kill once": 1, "be late": 1})

    def plan(self) -> Plan:
        records = self._records(self._random.randint(10, 120))
        once = any(record.get("do") == "kill once" for record in records)
        return Plan(
            records=records,
            breaks=self._breaks,
            as_lines=not self._breaks and self._chance(0.5),
            hooks=self._hooks,
            chunksize=self._chunksize,
            batch=self._batch,
            ordered=self._chance(0.7),
            timeout=0.5 if self._timed else None,
            crash_retries=max(self._kills + once, self._one_of(0, 0, 1, 2)),
            blurred=self._blurred,
            executor=self._options(),
            deeds=self._deeds(),
        )

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _one_of(self, *things: Any) -> Any:
        return self._random.choice(things)

    def _hook(self, stage: str) -> Acts:
        return self._one_of(Acts, ActsAsync)(stage, replay=self._replay)

    def _options(self) -> dict[str, Any]:
        options = {
            "max_workers": self._random.randint(1, 4),
            "concurrency": self._random.randint(1, 8),
            "compression": self._one_of(None, None, "lz4"),
            "use_batch_validation": self._chance(0.3),
            "max_chunks_per_worker": self._one_of(None, None, None, 5, 20),
        }
        methods = choices(self._name, "start_method")
        return options | ({"start_method": self._one_of(*methods)} if methods and self._chance(0.1) else {})

    def _deeds(self) -> list[tuple[float, str]]:
        deeds = ["kill"] * self._kills + ["pause"] * self._one_of(0, 0, 1, 2)
        self._random.shuffle(deeds)
        return [(self._random.uniform(0, 0.06), deed) for deed in [*deeds, self._end] if deed]

    def _records(self, count: int) -> list[Record]:
        trouble = self._one_of(0.02, 0.1, 0.3)
        menu = self._menu()
        records = [self._record(k, menu if self._chance(trouble) else []) for k in range(count)]
        k = self._random.randrange(count)
        if not self._timed:
            records[k] = {"k": k, "at": self._one_of(*self._stages), "do": "wait", "path": "gate"}
        elif self._is_exact("validate"):
            records[k] = {"k": k, "at": "validate", "do": "be late", "path": "lobby"}
        return records

    def _record(self, k: int, menu: Sequence[tuple[str, str]]) -> Record:
        at, do = self._one_of(*menu) if menu else ("", "")
        if do in self._scarce:
            self._scarce[do] -= 1
        if not do or self._scarce[do] < 0:
            return {"k": k}
        if do == "misfit":
            return {"k": f"no number but {k}"}
        path = {"kill once": f"killed {k}", "be late": "lobby"}.get(do, "")
        return {"k": k, "at": at, "do": do, "path": path}

    @property
    def _stages(self) -> list[str]:
        return [stage for stage in STAGES if stage == "validate" or any(hook.stage == stage for hook in self._hooks)]

    def _menu(self) -> list[tuple[str, str]]:
        """What may go wrong where, so that what must come of it is known."""
        menu = [("", "misfit")]
        for stage in self._stages:
            menu += [(stage, "fail")]
            menu += [(stage, "drop")] if stage != "validate" else []
            menu += [(stage, "dawdle")] if not self._timed else []
            menu += [(stage, "be late")] if self._timed and self._is_exact(stage, late=True) else []
            # Where it is not known which record was at work, a killer uses up the patience with those around it, and
            # then they must not be killed in any other way.
            if self._able.crosses_process and (self._blurred or self._is_exact(stage)):
                menu += [(stage, "kill"), (stage, "leave")]
                menu += [(stage, "kill once")] if not self._blurred or not self._replay else []
        return menu

    def _is_exact(self, stage: str, *, late: bool = False) -> bool:
        """Whether it is known which record is at work."""
        if not self._able.reports_progress:
            return False
        if stage == "validate" or 1 in (self._chunksize, self._batch):
            return True
        is_async = any(hook.stage == stage and type(hook) is ActsAsync for hook in self._hooks)
        return is_async and (late or not self._able.async_native)


@dataclass
class Ran:
    """A run that is going on or over.

    Attributes:
        name: of the backend.
        plan: what is to happen.
        folder: for its files.
        events: what happened.
        killed: how many processes were killed from outside.
    """

    name: str
    plan: Plan
    folder: Path
    events: list[Event] = field(default_factory=list)
    killed: int = 0

    def __post_init__(self) -> None:
        self.gate, self.lobby = self.folder / "gate", self.folder / "lobby"
        self._known = {child.pid for child in psutil.Process().children()}
        self._futile = 0
        self.pipe = self._pipe()

    def go(self) -> FlowReport:
        """Start it, do everything to it, and wait for its end."""
        self.gate.touch()
        self.lobby.touch()
        report = self.pipe.start()
        try:
            self._play(report)
            self.gate.unlink()
            if self.plan.deeds and self.plan.deeds[-1][1] == "close":
                self.pipe.shutdown()
            assert report.wait(LIMIT), "it does not end"
        finally:
            self.gate.unlink(missing_ok=True)
            self.pipe.shutdown()
            self.lobby.unlink()
        return report

    def _pipe(self) -> Pipe:
        plan = self.plan
        return Pipe(
            self._source(),
            JSONOutputAdapter(self.folder / "out.jsonl"),
            JSONOutputAdapter(self.folder / "errors.jsonl"),
            Row,
            make(self.name, chunksize=plan.chunksize, **plan.executor),
            [hook for hook in plan.hooks if hook.stage == "pre"],
            [hook for hook in plan.hooks if hook.stage == "post"],
            max_hook_chunk_size=plan.batch,
            options=RunOptions(ordered=plan.ordered, crash_retries=plan.crash_retries, record_timeout=plan.timeout),
            observers=[self.events.append],
        )

    @cached_property
    def records(self) -> list[Record]:
        return [
            {**record, "path": str(self.folder / record["path"])} if record.get("path") else record
            for record in self.plan.records
        ]

    def _source(self) -> BaseInputAdapter:
        if self.plan.as_lines:
            path = self.folder / "in.jsonl"
            path.write_text("".join(json.dumps(record) + "\n" for record in self.records))
            return JSONInputAdapter(path)
        return IterableInputAdapter(self._read)

    def _read(self) -> Iterator[Record]:
        yield from self.records
        if self.plan.breaks:
            raise OSError("the input is gone")

    def _play(self, report: FlowReport) -> None:
        for delay, deed in self.plan.deeds:
            if report.wait(delay):
                return
            if deed == "kill":
                self._kill(report)
            elif deed == "abort":
                report.abort()
            else:
                report.stop()
                if deed == "pause":
                    report.wait(delay / 2)
                    report.continue_()

    def _kill(self, report: FlowReport) -> None:
        """Kill any process of the run."""
        # On a cluster it may be a while until the first is there.
        end = time.monotonic() + (15 if CLUSTERS and not self.killed else 1)
        while not report.is_finished and time.monotonic() < end:
            victims = [victim for victim in self._victims() if victim[1] + self._futile <= FUTILE]
            if victims:
                victim, futile = Random(len(self.events)).choice(victims)
                self._futile += futile
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
                    self.killed += 1
                    # Were its death noticed only when it is told to end, it would have died in its teardown.
                    _wait_for_end(victim, report)
                    return
            time.sleep(0.005)

    def _victims(self) -> list[tuple[psutil.Process, int]]:
        """The processes of the run, and how many workers would die with each that have not yet done anything."""
        found = [child for child in psutil.Process().children(recursive=True) if child.pid not in self._known]
        found += cluster_workers(self.name)
        alive = {child: parent for child in found if (parent := _parent(child))}
        proven = {event.worker.partition("/")[0] for event in self.events if isinstance(event, ChunkDone)}
        idle = [child for child in alive if child.pid not in alive.values() and str(child.pid) not in proven]
        return [(victim, sum(victim.pid in (child.pid, alive[child]) for child in idle)) for victim in alive]


def _parent(process: psutil.Process) -> int:
    """Its parent; 0 for one that has ended."""
    with suppress(psutil.NoSuchProcess):
        return 0 if process.status() == psutil.STATUS_ZOMBIE else process.ppid()
    return 0


def _wait_for_end(process: psutil.Process, report: FlowReport) -> None:
    """Until the process is gone, and whoever started it knows."""
    wait_until(lambda: report.is_finished or not process.is_running(), LIMIT)


def check(ran: Ran, report: FlowReport) -> None:
    """Everything that must be true of a run that is over."""
    plan, counts = ran.plan, report.counts
    published = report.status in (RunStatus.COMPLETED, RunStatus.STOPPED)
    output, errors = (read_lines(ran.folder / name, published=published) for name in ("out.jsonl", "errors.jsonl"))
    outcomes = [(line["k"], "ok") for line in output] + [(line["position"], line["outcome"]) for line in errors]
    by_outcome = Counter(outcome for _, outcome in outcomes)
    assert {outcome: counts[outcome] for outcome in ("ok", "rejected", "dead")} == {
        outcome: by_outcome[outcome] for outcome in ("ok", "rejected", "dead")
    }
    assert counts["in"] == sum(counts.values()) - counts["in"] <= len(plan.records)
    assert len({position for position, _ in outcomes}) == len(outcomes), "a record has two outcomes"
    assert [each for each in outcomes if plan.outcomes[each[0]] != each[1]] == []
    assert all(line["raw_data"] == ran.records[line["position"]] for line in errors)
    assert {event.position for event in ran.events if isinstance(event, RecordDead)} >= {
        position for position, outcome in outcomes if outcome == "dead"
    }
    failures = sum(isinstance(event, ChunkFailed) and event.began for event in ran.events)
    assert failures <= plan.deaths or plan.blurred, "somebody was blamed who had only waited"
    if plan.ordered:
        for lines, key in ((output, "k"), (errors, "position")):
            assert [line[key] for line in lines] == sorted(line[key] for line in lines)
    if published or plan.breaks:
        assert counts["cancelled"] == 0
        expected = Counter(plan.outcomes[: counts["in"]])
        assert {key: counts[key] for key in ("ok", "rejected", "dead", "dropped")} == {
            key: expected[key] for key in ("ok", "rejected", "dead", "dropped")
        }


def check_status(ran: Ran, report: FlowReport) -> None:
    """It ended as what was done to it says."""
    plan, last = ran.plan, ran.plan.deeds[-1][1] if ran.plan.deeds else ""
    if plan.breaks:
        assert (report.status, type(report.exception)) == (RunStatus.FAILED, SourceError)
        return
    if report.exception is not None:
        raise report.exception
    expected = {"abort": RunStatus.ABORTED, "close": RunStatus.STOPPED}.get(last, RunStatus.COMPLETED)
    assert report.status == expected or (report.status == RunStatus.COMPLETED and not plan.is_held)
    assert report.status != RunStatus.COMPLETED or report.counts["in"] == len(plan.records)
    assert ran.killed or not plan.is_held or "kill" not in [deed for _, deed in plan.deeds]


def read_lines(path: Path, *, published: bool) -> list[Any]:
    """What is in the file, which has its final name exactly if it was published."""
    aside = path.with_name(f"{path.name}.partial")
    assert (path.exists(), aside.exists() and published) == (published, False)
    path = path if published else aside
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@contextmanager
def repeatable(name: str, seed: int) -> Iterator[Plan]:
    """The run of this number; a failure says how to repeat it."""
    plan = draw(name, seed)
    try:
        yield plan
    except BaseException as error:
        error.add_note(f"seed {seed}: MANYHANDS_CHAOS_RUNS={seed + 1} pytest -k '{name}-{seed}' {__file__}")
        error.add_note(f"{len(plan.records)} records, {replace(plan, records=())}")
        raise


@pytest.mark.parametrize(
    ("name", "seed"), [pytest.param(name, seed, id=f"{name}-{seed}-") for name in names() for seed in range(RUNS)]
)
def test_every_record_has_the_outcome_that_it_must_have(name, seed, tmp_path):
    with repeatable(name, seed) as plan:
        ran = Ran(name, plan, tmp_path)
        report = ran.go()
        check_status(ran, report)
        check(ran, report)


@pytest.mark.parametrize("name", names(lambda backend: "max_chunks_per_worker" in backend.options.model_fields))
def test_a_chunk_that_comes_late_finds_a_worker_that_has_just_been_replaced(name):
    def records() -> Iterator[Any]:
        for k in range(60):
            if k % 15 == 0:
                wait_until(lambda: report.total_processed == k, LIMIT)  # noqa: B023  # waited for here
                time.sleep(0.1)
            yield {"k": k}

    pipe = Pipe(IterableInputAdapter(records), executor=make(name, chunksize=1, max_workers=2, max_chunks_per_worker=4))
    with pipe:
        report = pipe.start()
        assert report.wait(LIMIT)
    assert report.counts["ok"] == 60


@pytest.mark.parametrize("name", names())
def test_the_runs_hold_everything(name):
    able = BACKENDS[name].capabilities
    plans = [draw(name, seed) for seed in range(FEWEST)]
    deeds = {record.get("do") for plan in plans for record in plan.records}
    deeds |= {deed for plan in plans for _, deed in plan.deeds} | {
        type(hook).__name__ for p in plans for hook in p.hooks
    }
    wanted = {"fail", "drop", "dawdle", "wait", "abort", "close", "pause", "Acts", "ActsAsync"}
    wanted |= set() if able.inline else {"be late"}
    wanted |= {"kill", "leave", "kill once"} if able.crosses_process else set()
    assert wanted <= deeds
    assert {plan.ordered for plan in plans} == {plan.as_lines for plan in plans} == {True, False}
    assert any(plan.breaks for plan in plans)
    assert any(not hook.replay for plan in plans for hook in plan.hooks)
    assert {outcome for plan in plans for outcome in plan.outcomes} >= {"ok", "rejected", "dropped"}
