"""What a display learns of the workers of an executor, and what it costs who does not look."""

import time
from concurrent.futures import Future

import pytest

from manyhands.chunks import Chunk, ChunkKind, ChunkResult
from manyhands.driver.ledger import Attempt
from manyhands.driver.sample import Sampler
from manyhands.engines.board import Status
from manyhands.executor import Capabilities, Progress
from manyhands.live import resident
from manyhands.report import FlowReport
from manyhands.worker.context import WorkerContext


class Backend:
    """Says of each future what it was told to say."""

    def __init__(self, **capabilities: bool) -> None:
        self.capabilities = Capabilities(**capabilities)
        self.at: dict[Future, Progress | None] = {}
        self.asked = 0
        self.max_workers = 3

    def progress(self, future: Future) -> Progress | None:
        self.asked += 1
        return self.at[future]


@pytest.fixture
def report() -> FlowReport:
    report = FlowReport("fake")
    report.begin()
    return report


def chunk(sequence: int = 0, lo: int = 0) -> Chunk:
    return Chunk(sequence, 100 * sequence, 10, ChunkKind.LIST, list(range(10)), lo=lo)


def again(sampler: Sampler, running: dict[Future, Attempt]) -> bool:
    sampler._next = 0.0
    return sampler.sample(running)


def test_a_worker_has_what_it_did_and_where_it_is(report: FlowReport) -> None:
    backend = Backend(concurrent=True, reports_progress=True)
    sampler = Sampler(backend, WorkerContext(), report)
    future: Future = Future()
    running = {future: Attempt(chunk(2, lo=1))}
    sampler.count(ChunkResult(0, 0, 10, ok=6, rejected=3, dropped=1, worker="1/a"))
    sampler.count(ChunkResult(1, 0, 10, ok=10, worker="1/b"))
    backend.at[future] = Progress("validate", 4, 5, worker="1/a")
    assert again(sampler, running)
    busy, other = report.look()
    assert (busy.name, busy.state, busy.done, busy.failed, busy.reached, busy.position) == (
        "1/a",
        "validate",
        7,
        3,
        3,
        204,
    )
    assert (other.name, other.state, other.records, other.position) == ("1/b", "running", 10, None)
    assert report.reached == 23
    assert report.crew_size == 3
    assert again(sampler, running)
    assert report.look()[1].state == "idle"


def test_what_was_reached_is_not_lost_when_the_next_stage_begins(report: FlowReport) -> None:
    backend = Backend(concurrent=True, reports_progress=True)
    sampler = Sampler(backend, WorkerContext(), report)
    future: Future = Future()
    for stage, lo in (("validate", 7), ("post", 0), ("pack", 0)):
        backend.at[future] = Progress(stage, lo, 10, worker="1/a")
        again(sampler, {future: Attempt(chunk())})
        assert (report.look()[0].state, report.look()[0].reached) == (stage, 7)


@pytest.mark.parametrize("worker", ["", None])
def test_a_backend_that_tells_nothing_or_breaks_ends_no_run(report: FlowReport, worker: str | None) -> None:
    backend = Backend(concurrent=True, reports_progress=True)
    sampler = Sampler(backend, WorkerContext(), report)
    future: Future = Future()
    if worker is not None:
        backend.at[future] = Progress("validate", 4, 5, worker=worker)
    assert again(sampler, {future: Attempt(chunk())})
    assert report.look() == []
    assert report.reached == (0 if worker is None else 4)


def test_a_run_that_nobody_looks_at_is_not_sampled(report: FlowReport) -> None:
    backend, context = Backend(inline=True), WorkerContext()
    sampler = Sampler(backend, context, report)
    sampler.begin(chunk())
    assert context.cell is not None
    sampler._looked = time.monotonic() - 10
    assert not again(sampler, {Future(): Attempt(chunk())})
    assert backend.asked == 0
    sampler.begin(chunk())
    assert context.cell is None


def test_a_worker_whose_process_is_gone_has_ended(report: FlowReport) -> None:
    if resident() == 0:
        pytest.skip("this system does not tell the memory of a process")
    backend = Backend(crosses_process=True, reports_progress=True)
    sampler = Sampler(backend, WorkerContext(), report)
    sampler.count(ChunkResult(0, 0, 10, ok=10, worker=f"{2**22 + 1}/MainThread"))
    again(sampler, {})
    [gone] = report.look()
    assert (gone.state, gone.done, gone.ram_bytes) == ("ended", 10, 0)


def test_a_pipe_that_has_said_nothing_for_a_while_is_silent() -> None:
    now = time.monotonic_ns()
    assert Status().state == "waiting"
    assert Status(heartbeat=now).state == "running"
    assert Status(heartbeat=now - 3_000_000_000).state == "silent"
