"""Workers and schedulers come and go. Each test has a cluster of its own, which it damages."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import dask
import pytest

from manyhands.errors import ExecutorBroken, WorkerInitError
from manyhands.report import RunStatus
from manyhands_dask import DaskExecutor

from .clusters import cluster, wait_until
from .deeds import Kills, Paces, pipe_to


def test_the_window_follows_the_cluster(tmp_path: Path) -> None:
    with cluster(1) as made:
        executor = DaskExecutor(address=made.address, chunksize=1, max_inflight=None)
        pipe = pipe_to(tmp_path, 100_000, executor, Paces(tmp_path, 0.02))
        pipe.start()
        try:
            wait_until(lambda: pipe.report.ok, "records are written")
            alone = executor.slots()
            made.add_worker()
            wait_until(lambda: executor.slots() == 2 * alone, "a worker that joins makes the window wider")
            made.workers[0].terminate()
            wait_until(lambda: executor.slots() == alone, "a worker that leaves makes it narrower")
        finally:
            pipe.report.abort()
            pipe.report.wait(30)
        assert pipe.report.dead == 0


def test_a_worker_that_is_killed_with_its_nanny_costs_no_record(tmp_path: Path) -> None:
    with cluster(2) as made:
        pipe = pipe_to(tmp_path, 1000, DaskExecutor(address=made.address, chunksize=5), Paces(tmp_path, 0.02))
        pipe.start()
        wait_until(lambda: pipe.report.ok > 50, "records are written")
        nanny = made.workers[0]
        mine = [each for each in nanny.children() if "resource_tracker" not in " ".join(each.cmdline())]
        for process in (nanny, *mine):  # the tracker tidies up behind them
            process.kill()
        assert pipe.report.wait(90)
        assert (pipe.report.status, pipe.report.ok, pipe.report.read) == (RunStatus.COMPLETED, 1000, 1000)


def test_without_a_nanny_a_killer_costs_its_worker(tmp_path: Path) -> None:
    with cluster(3, "--no-nanny") as made:
        report = pipe_to(tmp_path, 40, DaskExecutor(address=made.address, chunksize=1), Kills()).run()
        assert (report.ok, report.dead) == (39, 1)
        assert len(made.wait_for_workers(1)) == 1


def test_a_scheduler_that_is_lost_fails_the_run(tmp_path: Path) -> None:
    with cluster(1) as made:
        pipe = pipe_to(tmp_path, 100_000, DaskExecutor(address=made.address, chunksize=1), Paces(tmp_path, 0.01))
        pipe.start()
        wait_until(lambda: pipe.report.ok > 10, "records are written")
        begun = time.monotonic()
        made.scheduler.kill()
        assert pipe.report.wait(60)
        assert time.monotonic() - begun < 30
        assert isinstance(pipe.report.exception, ExecutorBroken)
        assert f"the Dask scheduler at {made.address} is lost: " in str(pipe.report.exception)
        assert not str(pipe.report.exception).endswith(": ")
        assert not (tmp_path / "out.jsonl").exists()
        assert [path.name for path in tmp_path.glob("out.jsonl*")]


def test_a_worker_with_other_versions_is_named(tmp_path: Path) -> None:
    for name, version in (("pydantic", "1.10.0"), ("manyhands-dask", "0.0.1")):
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    told = r"tcp://127\.0\.0\.1:\d+ does not fit .*pydantic 1\.10\.0 there.*manyhands-dask 0\.0\.1 there"
    with cluster(1) as made:
        made.add_worker(PYTHONPATH=str(tmp_path))
        made.wait_for_workers(2)
        with pytest.raises(WorkerInitError, match=told):
            pipe_to(tmp_path, 1, DaskExecutor(address=made.address)).run()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="it needs openssl to make certificates")
def test_a_cluster_that_talks_tls(tmp_path: Path) -> None:
    ours, wrong = _certificate(tmp_path / "ours"), _certificate(tmp_path / "wrong")
    with cluster(1, tls=ours) as made:
        report = pipe_to(tmp_path, 20, DaskExecutor(address=made.address, chunksize=1, security=_security(ours))).run()
        assert report.ok == 20
        with dask.config.set(_configuration(ours)):
            assert pipe_to(tmp_path, 20, DaskExecutor(address=made.address, chunksize=1)).run().ok == 20
        begun = time.monotonic()
        with pytest.raises(WorkerInitError, match="certificate"):
            pipe_to(tmp_path, 1, DaskExecutor(address=made.address, security=_security(ours, ca=wrong))).run()
        assert time.monotonic() - begun < 30


def _certificate(folder: Path) -> Path:
    folder.mkdir()
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def _configuration(folder: Path) -> dict[str, str]:
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    files = {"ca-file": cert, "client.cert": cert, "client.key": key}
    return {f"distributed.comm.tls.{name}": file for name, file in files.items()}


def _security(folder: Path, ca: Path | None = None) -> dict[str, str | bool]:
    return {
        "tls_ca_file": str((ca or folder) / "cert.pem"),
        "tls_client_cert": str(folder / "cert.pem"),
        "tls_client_key": str(folder / "key.pem"),
        "require_encryption": True,
    }
