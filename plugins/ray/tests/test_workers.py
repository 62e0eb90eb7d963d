"""What becomes of records when workers die, hang, print or cannot be had; the program itself is connected."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from types import ModuleType
from typing import Any

import pytest
import ray

from manyhands import (
    BaseHook,
    CSVInputAdapter,
    IterableInputAdapter,
    JSONOutputAdapter,
    MemoryOutputAdapter,
    Pipe,
    PipeManager,
    RunOptions,
)
from manyhands.errors import OptionsError, UsageError, WorkerInitError
from manyhands.report import FlowReport
from manyhands_ray import RayEngine, RayExecutor
from manyhands_ray import hand as hands
from manyhands_ray.actor import Actor
from manyhands_ray.needs import Needs

from .support import LIMIT, Head, connected, wait_until


@pytest.fixture(scope="module", autouse=True)
def here(cluster: Head) -> Iterator[None]:
    """The program is connected."""
    with connected(cluster.address):
        yield


@pytest.fixture(params=["near", "far"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Workers on this machine, and such as seem to be on another."""
    if request.param == "far":
        monkeypatch.setattr(hands, "HERE", "elsewhere")
    name: str = request.param
    return name


class Deeds(BaseHook):
    """Does what records say."""

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self.folder = folder

    def setup(self, store: Any) -> None:
        print("it is set up")  # noqa: T201  # that is what it is about

    def execute(self, entries: list[Any], store: Any) -> None:
        for entry in entries:
            self.do(entry["raw_data"].get("do"))

    def do(self, what: str | None) -> None:
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "hang":
            sleep(600)
        if what == "hold":
            ctypes.PyDLL(None).sleep(600)  # with the interpreter: nothing else of the worker runs
        if what == "wait":
            assert self.folder is not None
            (self.folder / f"{os.getpid()}").touch()
            while not (self.folder / "go").exists():
                sleep(0.01)


def rows(count: int, deeds: dict[int, str] | None = None) -> list[dict[str, Any]]:
    return [{"n": n, "do": (deeds or {}).get(n)} for n in range(count)]


class DeedsOnce(Deeds):
    """May not run again on a record."""

    replay = False


def make(
    records: list[Any],
    *,
    run: RunOptions | None = None,
    folder: Path | None = None,
    kind: type[Deeds] = Deeds,
    **options: Any,
) -> Pipe:
    executor = RayExecutor(**{"max_workers": 2, "chunksize": 10, **options})
    outputs = MemoryOutputAdapter(), MemoryOutputAdapter()
    hook = kind(folder)
    return Pipe(IterableInputAdapter(records), *outputs, None, executor, [hook], max_hook_chunk_size=1, options=run)


def run(*arguments: Any, **options: Any) -> FlowReport:
    return make(*arguments, **options).run()


def dead(report: FlowReport) -> tuple[int, int]:
    return report.counts["ok"], report.counts["dead"]


def test_the_connection_of_the_program_is_used_and_kept(cluster: Head) -> None:
    assert dead(run(rows(100))) == (100, 0)
    assert ray.is_initialized()
    assert dead(run(rows(10), address=cluster.address)) == (10, 0)
    wait_until(lambda: not cluster.pids("ray::Actor"), "the actors are gone")


class NeedsFile(BaseHook):
    """Cannot be set up."""

    def setup(self, store: Any) -> None:
        raise FileNotFoundError("no /mnt/model.bin")

    def execute(self, entries: list[Any], store: Any) -> None:
        """Nothing comes here."""


def test_a_setup_that_fails_names_the_node() -> None:
    executor = RayExecutor(max_workers=1)
    with pytest.raises(WorkerInitError, match=rf"no /mnt/model\.bin.*this was on the node {socket.gethostname()}"):
        Pipe(IterableInputAdapter([{}]), MemoryOutputAdapter(), None, None, executor, [NeedsFile()]).run()


def test_a_setup_that_fails_in_a_worker_of_the_engine_names_the_node(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("k\n1\n2\n")
    adapters = CSVInputAdapter(tmp_path / "in.csv"), JSONOutputAdapter(tmp_path / "out.jsonl")
    with PipeManager.parallelize_pipe(Pipe(*adapters, pre_validation_hooks=[NeedsFile()]), 1, RayEngine(1)) as manager:
        manager.start()
        assert manager.wait(LIMIT)
    assert f"this was on the node {socket.gethostname()}" in str(manager.report.exception)


def test_a_worker_is_called_by_its_process_and_its_node() -> None:
    report = run(rows(20))
    pids = [name.partition("/")[0] for name in report.workers]
    assert [*report.workers] == [f"{pid}/{pid}@{socket.gethostname()}" for pid in pids]


def test_another_cluster_is_refused(cluster: Head) -> None:
    port = cluster.address.rpartition(":")[2]
    for address in ("127.0.0.1:1", f"192.0.2.1:{port}"):
        with pytest.raises(UsageError, match="the program is connected to the Ray cluster at"):
            run(rows(1), address=address)


def test_two_runs_at_a_time() -> None:
    reports = [make(rows(50), max_workers=1).start() for _ in range(2)]
    assert all(report.wait(LIMIT) for report in reports)
    assert [dead(report) for report in reports] == [(50, 0), (50, 0)]


def test_a_poison_record_alone(place: str) -> None:
    begun = monotonic()
    assert dead(run(rows(40, {7: "die"}), chunksize=1)) == (39, 1)
    assert monotonic() - begun < LIMIT  # 10 s are promised on a machine that does nothing else


def test_a_poison_record_among_others(place: str) -> None:
    assert dead(run(rows(40, {7: "die"}), chunksize=16)) == (39, 1)


@pytest.mark.parametrize("how", ["hang", "hold"])
def test_a_record_that_hangs(place: str, how: str) -> None:
    report = run(rows(40, {7: how}), run=RunOptions(record_timeout=1.0))
    assert dead(report) == (39, 1)


def test_what_waits_in_a_worker_that_is_slow_is_run_by_another(tmp_path: Path) -> None:
    pipe = make(rows(20, {0: "wait"}), folder=tmp_path, chunksize=1, run=RunOptions(ordered=False))
    report = pipe.start()
    wait_until(lambda: report.ok == 19, "the other worker has done all the rest")
    (tmp_path / "go").touch()
    assert report.wait(LIMIT)
    assert dead(report) == (20, 0)


def test_what_waits_in_a_worker_that_is_killed_has_not_begun(tmp_path: Path) -> None:
    """Else it could not be run again, for its hook may not."""
    pipe = make(rows(20, {0: "wait"}), folder=tmp_path, kind=DeedsOnce, chunksize=1, max_workers=1)
    report = pipe.start()
    wait_until(lambda: list(tmp_path.iterdir()), "a worker waits")
    sleep(0.2)  # until the second chunk is there
    os.kill(int(next(tmp_path.iterdir()).name), signal.SIGKILL)
    assert report.wait(LIMIT)
    assert dead(report) == (19, 1)


def test_a_worker_that_somebody_kills(tmp_path: Path) -> None:
    pipe = make(rows(100, {3: "wait", 60: "wait"}), folder=tmp_path)
    report = pipe.start()
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2, "two workers wait")
    os.kill(int(next(tmp_path.iterdir()).name), signal.SIGKILL)
    (tmp_path / "go").touch()
    assert report.wait(LIMIT)
    assert dead(report) == (100, 0)


def test_what_workers_print_is_logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.INFO, "manyhands.worker"):
        run(rows(10))
    assert any(record.getMessage().endswith(": it is set up") for record in caplog.records)
    assert "it is set up" not in "".join(capfd.readouterr())


def test_no_room() -> None:
    with pytest.raises(WorkerInitError, match=r"no node .* has what a worker needs \(num_cpus 1, antimatter 2\)"):
        run(rows(1), resources={"antimatter": 2})


@pytest.mark.parametrize("resources", [{"num_cpus": -1}, {"memory": "much"}, ["num_cpus"]])
def test_resources_must_be_numbers(resources: Any) -> None:
    with pytest.raises(OptionsError, match="resources must be names and numbers from 0"):
        RayExecutor(resources=resources)


def test_what_there_is_room_for() -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 4.0, "disk": 2.0}}, {"Alive": True, "Resources": {"CPU": 3.0}}]
    gone = {"Alive": False, "Resources": {"CPU": 8.0}}
    assert Needs(None).places([*nodes, gone]) == 7
    assert Needs({"num_cpus": 2}).places(nodes) == 3
    assert Needs({"disk": 1}).places(nodes) == 2


@pytest.mark.parametrize(("limit", "slots"), [(1, 1), (3, 3), (20, 4), (None, 4)])
def test_max_inflight_is_a_cap(limit: int | None, slots: int) -> None:
    pipe = make(rows(20), max_inflight=limit, max_workers=None)
    executor: Any = pipe.executor
    seen: set[int] = set()
    submit = executor.submit
    executor.submit = lambda chunk: (seen.add(executor.slots()), submit(chunk))[1]
    pipe.run()
    assert seen == {slots}


@pytest.mark.parametrize("name", ["pydantic", "manyhands-ray"])
def test_a_worker_with_other_versions(name: str, tmp_path: Path) -> None:
    about = tmp_path / f"{name.replace('-', '_')}-9.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.0\n")
    with pytest.raises(WorkerInitError, match=rf"the worker at \S+ does not fit this program: {name} 9\.0 there"):
        run(rows(1), runtime_env={"env_vars": {"PYTHONPATH": str(tmp_path)}})


def test_a_runtime_environment() -> None:
    executor = RayExecutor(max_workers=1, runtime_env={"env_vars": {"MANYHANDS_TEST": "yes"}})
    pipe = Pipe(IterableInputAdapter([{"n": 1}]), output := MemoryOutputAdapter(), None, None, executor, [Reading()])
    pipe.run()
    assert [entry["validated_data"]["seen"] for entry in output.results] == ["yes"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"env_var": {}}, "Ray knows no 'env_var'; did you mean 'env_vars'"),
        ({"pip": [], "PIP": [], "workin_dir": "."}, "Ray knows no 'PIP'; did you mean 'pip'"),
        (["pip"], "runtime_env must be names"),
    ],
)
def test_a_runtime_environment_that_is_none(given: Any, told: str) -> None:
    """Ray would drop a misspelt key in silence."""
    with pytest.raises(OptionsError, match=told):
        RayExecutor(runtime_env=given)


@pytest.mark.parametrize("name", ["log_dir", "image", "my_config", "conda_env", "mpi"])
def test_a_runtime_environment_may_be_that_of_a_plugin(name: str) -> None:
    RayExecutor(runtime_env={name: {}})


class Reading(BaseHook):
    """Reads a variable of its worker."""

    def execute(self, entries: list[Any], store: Any) -> None:
        for entry in entries:
            entry["raw_data"]["seen"] = os.environ.get("MANYHANDS_TEST")


def test_many_small_chunks() -> None:
    assert dead(run(rows(10_000), chunksize=1)) == (10_000, 0)


def test_describing_the_backend_imports_no_ray() -> None:
    code = "import manyhands_ray.plugin, sys; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_worker_can_be_attended_while_it_imports_what_runs_pipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "manyhands_ray.away", ModuleType("manyhands_ray.away"))
    assert Actor._note(cancel=False, look=False) == b""


def test_nothing_of_the_executor_runs_on(cluster: Head) -> None:
    run(rows(10))
    names = {thread.name for thread in threading.enumerate()}
    assert not {name for name in names if name.startswith("manyhands")}
