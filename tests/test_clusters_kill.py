"""Processes of a cluster are killed in the midst of long runs: each record has one outcome, or the run says why not.

Only where `MANYHANDS_CLUSTERS` is set. Whatever a test kills or loses for good is its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import psutil
import pytest

from manyhands import RunStatus

from .backends import CLUSTERS, cluster_of, cluster_workers, names
from .kill_jobs import COUNT, REJECTED, WORKERS, Kind, pipe_to, running, write_table

pytestmark = pytest.mark.skipif(not CLUSTERS, reason="it takes clusters: tox -e clusters")

DASK, RAY = ([name] if CLUSTERS and name in names() else [] for name in ("dask", "ray"))
ROOT = Path(__file__).parents[1]
SEEDS = range(2)
LIMIT = 120.0
"""Seconds after which a run hangs."""

LOST_SECONDS = 30.0
"""Within so many it must be said that scheduler or head is lost."""


@dataclass(frozen=True)
class Outputs:
    """What a run leaves."""

    output: bytes
    errors: bytes

    @classmethod
    def of(cls, folder: Path) -> Outputs:
        assert {path.name for path in folder.iterdir()} == {"out.jsonl", "errors.jsonl"}
        return cls((folder / "out.jsonl").read_bytes(), (folder / "errors.jsonl").read_bytes())


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """The folder of the table; not that of pytest, which keeps its own."""
    with TemporaryDirectory(prefix="manykill") as folder:
        write_table(Path(folder, "in.csv"))
        yield Path(folder)


@pytest.fixture(scope="module")
def expected(home: Path) -> Outputs:
    """What the reference makes of the table."""
    with scratch(home) as folder:
        pipe_to(folder).run()
        return Outputs.of(folder)


@pytest.fixture
def folder(home: Path) -> Iterator[Path]:
    with scratch(home) as folder:
        yield folder


@contextmanager
def scratch(home: Path) -> Iterator[Path]:
    with TemporaryDirectory(dir=home) as folder:
        yield Path(folder)


@dataclass(frozen=True)
class Victims:
    """A cluster.

    Attributes:
        address: of it.
        workers: the processes that run its jobs.
    """

    address: str
    workers: Callable[[], list[psutil.Process]]


@contextmanager
def cluster(name: str) -> Iterator[Victims]:
    """One whose workers may be killed: actors of Ray are those of a run, and a Dask cluster is the test's own."""
    if name == "ray":
        yield Victims(cluster_of(name)["address"], lambda: cluster_workers(name))
        return
    from plugins.dask.tests import clusters

    with clusters.cluster(WORKERS) as made:
        yield Victims(made.address, made.processes)


KINDS = [(kind, name) for name in (*DASK, *RAY) for kind in ("executor", "engine")]
every_kind = pytest.mark.parametrize(("kind", "name"), KINDS, ids=[f"{name}-{kind}" for kind, name in KINDS])
at_random = pytest.mark.parametrize("seed", SEEDS)


def kill_in_its_midst(kind: Kind, name: str, folder: Path, seed: int, *, with_nanny: bool = False) -> dict[str, int]:
    """Run it, kill a worker when a part of the records is written; the counts."""
    random = Random(f"{kind} {name} {seed}")
    after = random.randint(COUNT // 20, COUNT // 2)
    with cluster(name) as place, running(kind, name, {"address": place.address}, folder) as report:
        while report.total_processed < after:
            assert not report.wait(0.002), report.exception
        victim = random.choice(sorted(place.workers(), key=lambda process: process.pid))
        for process in (victim.parent(), victim) if with_nanny else (victim,):
            process.kill()
        assert not report.is_finished
        assert report.wait(LIMIT), "it does not end"
        assert report.status is RunStatus.COMPLETED, report.exception
        return report.counts


def check(counts: dict[str, int], folder: Path, expected: Outputs) -> None:
    wanted = {"ok": COUNT - REJECTED, "rejected": REJECTED, "dead": 0, "dropped": 0, "cancelled": 0}
    assert counts == {"in": COUNT, **wanted}
    found = Outputs.of(folder)
    assert found.output == expected.output or pytest.fail("another output", pytrace=False)  # too long to be shown
    assert found.errors == expected.errors


@at_random
@every_kind
def test_a_worker_that_is_killed_costs_no_record(
    kind: Kind, name: str, *, seed: int, folder: Path, expected: Outputs, caplog: pytest.LogCaptureFixture
) -> None:
    check(kill_in_its_midst(kind, name, folder, seed), folder, expected)
    told = [record for record in caplog.records if record.name == "manyhands.engine"]
    assert (["was lost" in record.getMessage() for record in told] == [True]) is (kind == "engine")


@at_random
@pytest.mark.parametrize("name", DASK)
def test_a_worker_that_is_killed_with_its_nanny_costs_no_record(
    name: str, seed: int, folder: Path, expected: Outputs
) -> None:
    check(kill_in_its_midst("executor", name, folder, seed, with_nanny=True), folder, expected)


@contextmanager
def mortal(name: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of a cluster that is the test's own, and what kills its scheduler or its head."""
    with ExitStack() as stack:
        if name == "dask":
            from plugins.dask.tests import clusters

            made = stack.enter_context(clusters.cluster(WORKERS))
            yield made.address, made.scheduler.kill
            return
        from plugins.ray.tests import support

        head = stack.enter_context(support.head(WORKERS))

        def kill() -> None:
            for pid in head.pids("gcs_server") + head.pids("raylet/raylet"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

        yield head.address, kill


@every_kind
def test_a_scheduler_or_head_that_is_lost_is_told_and_nothing_is_published(
    kind: Kind, name: str, folder: Path, home: Path
) -> None:
    with mortal(name) as (address, kill):
        command = [sys.executable, "-c", "from tests.kill_jobs import main; main()", kind, name, address, folder]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as program:
            try:
                assert program.stdout is not None
                assert program.stdout.readline() == "going on\n"
                kill()
                begun = time.monotonic()
                status, is_broken, message = json.loads(program.stdout.readline())
                assert time.monotonic() - begun < LOST_SECONDS
                assert (program.wait(LIMIT), status) == (0, "failed")
            finally:
                program.kill()
    assert is_broken, message
    assert f"{address} is lost" in message
    left = {path.name for path in folder.iterdir()}
    assert left & {"out.jsonl", "errors.jsonl"} == set()
    assert any(path.stat().st_size for path in folder.glob("out.jsonl.*partial"))
