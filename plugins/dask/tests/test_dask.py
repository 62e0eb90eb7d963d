"""What is particular to this backend, on a cluster that goes on."""

from __future__ import annotations

import importlib
import json
import socket
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import pytest
from distributed import Client

from manyhands import BaseHook, IterableInputAdapter, MemoryOutputAdapter, Pool, get_executor
from manyhands.doors.futures import FuturesExecutor
from manyhands.errors import ExecutorBroken, InputError, OptionsError, WorkerInitError
from manyhands.pipe import Pipe
from manyhands.report import RunStatus
from manyhands_dask import DaskEngine, DaskExecutor, cluster, remote_pipe

from .clusters import Cluster, wait_until
from .deeds import Colour, Kills, Odd, Paces, paint, pipe_to

NOWHERE = "tcp://127.0.0.1:9"


def test_a_host_that_nobody_knows_is_told_at_once() -> None:
    address, before = "tcp://nobody.invalid:8786", time.monotonic()
    with pytest.raises(WorkerInitError, match=f"no Dask scheduler can be used at {address}: no host nobody.invalid"):
        Pool(executor=DaskExecutor(address=address)).map(abs, [1])
    assert time.monotonic() - before < 10


def test_tls_needs_security() -> None:
    with pytest.raises(OptionsError, match="tls:// needs security: tls_ca_file, tls_client_cert and tls_client_key"):
        DaskExecutor(address="tls://127.0.0.1:9")
    with (
        dask.config.set({"distributed.comm.tls.ca-file": "none.pem", "distributed.comm.tls.client.cert": "none.pem"}),
        pytest.raises(OptionsError, match="the TLS files of Dask's own configuration cannot be used: "),
    ):
        DaskExecutor(address="tls://127.0.0.1:9")


def test_a_wrong_key_of_security_is_told_with_the_right_ones() -> None:
    allowed = (
        "did you mean 'tls_ca_file'\\? allowed are tls_ca_file, tls_client_cert, tls_client_key, require_encryption$"
    )
    with pytest.raises(OptionsError, match=f"unknown option 'security.tls_ca'; {allowed}"):
        get_executor("dask", security={"tls_ca": "ca.pem"})


def test_the_plugin_imports_nothing_of_dask() -> None:
    code = (
        "import sys, manyhands_dask.plugin, manyhands_dask; manyhands_dask.plugin.manyhands_backends()\n"
        "assert not {'dask', 'distributed', 'tornado'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "options",
    [
        {"address": "scheduler:8786"},
        {"address": "ray://host:10001"},
        {"address": "tcp://host"},
        {"address": "tcp://host:port"},
        {"max_inflight": 0},
        {"max_workers": "two"},
        {"security": {"tls_ca_file": "ca.pem"}},
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionsError):
        DaskExecutor(**options)


def test_files_of_security_are_looked_at_before_anything_begins(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="tls_ca_file"):
        DaskExecutor(address="tls://127.0.0.1:9", security={"tls_ca_file": str(tmp_path / "none.pem")})


class NeedsFile(BaseHook):
    """Cannot be set up."""

    def setup(self, store: Any) -> None:
        raise FileNotFoundError("no /mnt/model.bin")

    def execute(self, entries: list[Any], store: Any) -> None:
        """Nothing comes here."""


def test_a_setup_that_fails_names_the_worker(shared: Cluster) -> None:
    executor = DaskExecutor(address=shared.address)
    with pytest.raises(WorkerInitError, match=r"no /mnt/model\.bin.*this was on the worker at tcp://127\.0\.0\.1:\d+"):
        Pipe(IterableInputAdapter([{}]), MemoryOutputAdapter(), None, None, executor, [NeedsFile()]).run()


def test_an_address_where_nothing_is_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_SECONDS", 1.0)
    with pytest.raises(WorkerInitError, match=f"{NOWHERE}.*is one running there, and is the port right"):
        pipe_to(tmp_path, 1, DaskExecutor(address=NOWHERE)).run()


def test_code_beside_the_program_reaches_workers_that_lack_it(shared: Cluster) -> None:
    with Pool(executor=DaskExecutor(address=shared.address)) as pool:
        assert pool.map(paint, [0, 2]) == [Colour.RED, Colour.RED]
        with pytest.raises(Odd):
            pool.map(paint, [1])


def test_a_module_that_is_imported_while_workers_run_reaches_them(
    shared: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mh_first", "mh_second"):
        (tmp_path / f"{name}.py").write_text("class Number(int):\n    pass\ndef give(k):\n    return Number(k)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with Pool(executor=DaskExecutor(address=shared.address)) as pool:
        first = importlib.import_module("mh_first")
        assert [*map(type, pool.map(first.give, [1, 2]))] == [first.Number] * 2
    with FuturesExecutor(Pool(executor=DaskExecutor(address=shared.address))) as executor:
        assert executor.submit(abs, -1).result(60) == 1
        second = importlib.import_module("mh_second")
        assert type(executor.submit(second.give, 1).result(60)) is second.Number
    del sys.modules["mh_first"], sys.modules["mh_second"]


def test_a_killer_alone_in_its_chunk_is_found_soon(shared: Cluster, tmp_path: Path) -> None:
    report = pipe_to(tmp_path, 40, DaskExecutor(address=shared.address, chunksize=1), Kills()).run()
    assert (report.ok, report.dead) == (39, 1)
    (letter,) = map(json.loads, (tmp_path / "errors.jsonl").read_text().splitlines())
    assert letter["position"] == 7
    assert letter["errors"][0]["message"] == "the worker died (SIGKILL) in stage pre"
    assert report.duration < 30  # 2 s on a machine that has nothing else to do
    shared.wait_for_workers(2)


@pytest.mark.timeout(300)
def test_ten_thousand_chunks_of_one_record(shared: Cluster, tmp_path: Path) -> None:
    executor = DaskExecutor(address=shared.address, chunksize=1, max_inflight=None)
    assert pipe_to(tmp_path, 10_000, executor).run().ok == 10_000


def test_max_inflight_bounds_the_window(shared: Cluster, tmp_path: Path) -> None:
    executor = DaskExecutor(address=shared.address, chunksize=1, max_inflight=2)
    pipe = pipe_to(tmp_path, 50, executor, Paces(tmp_path, 0.02))
    pipe.start()
    wait_until(lambda: pipe.report.ok, "records are written")
    assert executor.slots() == 2
    pipe.report.wait(60)
    assert pipe.report.ok == 50


def test_max_workers_bounds_what_runs_on_a_cluster(shared: Cluster, tmp_path: Path) -> None:
    executor = DaskExecutor(address=shared.address, chunksize=1, max_workers=1)
    pipe_to(tmp_path, 20, executor, Paces(tmp_path, 0.01)).run()
    assert len({json.loads(line)["pid"] for line in (tmp_path / "out.jsonl").read_text().splitlines()}) == 1


def test_resources_that_no_worker_has_are_told(
    shared: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manyhands_dask.crew._ALONE_SECONDS", 1.0)
    executor = DaskExecutor(address=shared.address, resources={"GPU": 1})
    with pytest.raises(WorkerInitError, match="no worker that was started with --resources 'GPU=1'"):
        pipe_to(tmp_path, 1, executor).run()


def test_workers_of_our_own_have_the_resources_that_are_asked_for(tmp_path: Path) -> None:
    """So the job of a cluster runs on a laptop, too."""
    many = {f"a rather long name of a resource {n}": Fraction(1, 2) for n in range(120)}
    pipe = pipe_to(tmp_path, 20, DaskExecutor(max_workers=2, resources={"GPU": 2, **many}))
    assert pipe.run().ok == 20


@pytest.mark.parametrize(
    "resources", [{"GPU": 0}, {"GPU": -1}, {"GPU": float("inf")}, {"GPU": "many"}, {1: 1}, {"GPU": None}, ["GPU"]]
)
def test_resources_must_be_numbers(resources: Any) -> None:
    with pytest.raises(OptionsError, match="resources must be names and numbers above 0"):
        DaskExecutor(resources=resources)


def test_nothing_of_ours_stays_on_a_cluster(shared: Cluster, tmp_path: Path) -> None:
    def ours(dask_worker: Any) -> Any:
        import sys
        import threading

        handlers = [name for name in dask_worker.handlers if name.startswith("manyhands")]
        return (
            handlers,
            sum("manyhands" in thread.name for thread in threading.enumerate()),
            [name for name in sys.modules if name.endswith("deeds")],
        )

    def tasks(dask_scheduler: Any) -> list[str]:
        return [str(key) for key in dask_scheduler.tasks if "manyhands" in str(key)]

    before = set(shared.folder.rglob("*"))
    pipe_to(tmp_path, 20, DaskExecutor(address=shared.address, chunksize=1), Paces(tmp_path, 0.0)).run()
    with Client(shared.address, set_as_default=False) as client:
        for found in client.run(ours).values():
            assert found == ([], 0, [])
        wait_until(lambda: client.run_on_scheduler(tasks) == [], "the scheduler forgets our tasks")
    assert not [path.name for path in set(shared.folder.rglob("*")) - before if "manyhands" in path.name]


def test_an_engine_takes_relative_names_from_here(
    shared: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from manyhands import CSVInputAdapter, JSONOutputAdapter, PipeManager

    monkeypatch.chdir(tmp_path)
    Path("in.csv").write_text("k\n" + "".join(f"{k}\n" for k in range(100)))
    pipe = Pipe(CSVInputAdapter("in.csv"), JSONOutputAdapter("out.jsonl"))
    with PipeManager.parallelize_pipe(pipe, 2, DaskEngine(address=shared.address)) as manager:
        manager.start()
        assert manager.wait(60)
        assert (manager.report.status, manager.report.ok) == (RunStatus.COMPLETED, 100)
    assert [json.loads(line)["k"] for line in Path("out.jsonl").read_text().splitlines()] == [*map(str, range(100))]


def test_a_worker_that_does_not_see_a_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from manyhands import CSVInputAdapter, JSONOutputAdapter

    place = SimpleNamespace(flags=lambda: (False, False), tell=lambda **_: None, folder=tmp_path)
    monkeypatch.setattr(remote_pipe, "here", lambda: place)
    pipe = Pipe(CSVInputAdapter(tmp_path / "elsewhere" / "in.csv"), JSONOutputAdapter(tmp_path / "out.jsonl"))
    with pytest.raises(InputError, match=r"elsewhere/in\.csv.*this was on the worker on .*all workers see"):
        remote_pipe.run_there(pipe, 0)


def test_a_setup_that_fails_in_a_worker_of_the_engine_names_it(shared: Cluster, tmp_path: Path) -> None:
    from manyhands import CSVInputAdapter, JSONOutputAdapter, PipeManager

    (tmp_path / "in.csv").write_text("k\n1\n2\n")
    adapters = CSVInputAdapter(tmp_path / "in.csv"), JSONOutputAdapter(tmp_path / "out.jsonl")
    pipe = Pipe(*adapters, pre_validation_hooks=[NeedsFile()])
    with PipeManager.parallelize_pipe(pipe, 1, DaskEngine(address=shared.address)) as manager:
        manager.start()
        assert manager.wait(60)
    assert f"this was on the worker on {socket.gethostname()}" in str(manager.report.exception)


def test_a_cluster_of_our_own_ends_with_the_run(tmp_path: Path) -> None:
    """That nothing is left is seen to behind each test."""
    report = pipe_to(tmp_path, 200, DaskExecutor(max_workers=2, chunksize=10), Paces(tmp_path, 0.0)).run()
    assert report.ok == 200


def test_the_loss_of_a_cluster_of_our_own_ends_the_run(tmp_path: Path) -> None:
    import psutil

    pipe = pipe_to(tmp_path, 10_000, DaskExecutor(max_workers=1, chunksize=1), Paces(tmp_path, 0.01))
    before = {*psutil.Process().children()}
    pipe.start()
    wait_until(lambda: pipe.report.ok, "records are written")
    (started,) = {*psutil.Process().children()} - before
    begun = time.monotonic()
    started.kill()
    assert pipe.report.wait(60)
    assert time.monotonic() - begun < 40
    assert isinstance(pipe.report.exception, ExecutorBroken)
    assert not (tmp_path / "out.jsonl").exists()
