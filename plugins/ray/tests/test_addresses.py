"""Every form of address, and what is said where it leads nowhere. Each connection is that of a program of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from .support import RAY, Head, Program, free_port, head, processes, wait_until

SQUARES = [{"n": n, "square": n * n} for n in range(100)]


def check_ran(program: Program) -> None:
    told = program.end()
    assert told["code"] == 0, (told, program.log)
    assert told["counts"]["ok"] == 100
    assert program.rows == SQUARES


def test_ray_is_started_and_ended(tmp_path: Path) -> None:
    with TemporaryDirectory(prefix="mhr", dir="/tmp") as short:  # that of a test is too long for sockets
        program = Program(tmp_path, "none", {"RAY_AUTH_MODE": None, "HOME": str(tmp_path), "TMPDIR": short}, pace=0.02)
        program.wait_for_workers(1)
        sessions = [*Path(short).glob("*/session_*")]
        outside = [line for line in listening(program.process.pid) if not re.match(r"(::ffff:)?127\.|::1", line)]
        check_ran(program)
        assert sessions != []
        assert [*Path(short).iterdir()] == []
    assert outside == []
    assert processes(program.process.pid) == []
    assert program.log == ""


_OVERLAPPING = """
import time
from manyhands import BaseHook, IterableInputAdapter, MemoryOutputAdapter, Pipe
from manyhands_ray import RayExecutor

class Waits(BaseHook):
    def execute(self, entries, store):
        time.sleep(0.1)

def run(count):
    executor = RayExecutor(max_workers=1, chunksize=1)
    rows = IterableInputAdapter({"n": n} for n in range(count))
    return Pipe(rows, MemoryOutputAdapter(), executor=executor, pre_validation_hooks=[Waits()]).start()

if __name__ == "__main__":
    first, second = run(2), run(60)
    first.wait()
    third = run(2)  # its worker cannot be had where the one before was lost
    reports = [first, third, second]
    print([(each.wait(), str(each.status), each.ok)[1:] for each in reports], [each.exception for each in reports])
"""


def test_who_has_started_ray_may_end_before_others_that_use_it(tmp_path: Path) -> None:
    """Each run has a thread of its own, with the end of which the system would end what it has started."""
    (tmp_path / "program.py").write_text(_OVERLAPPING)
    with TemporaryDirectory(prefix="mhr", dir="/tmp") as short:
        env = {**os.environ, "HOME": str(tmp_path), "TMPDIR": short}
        ran = subprocess.run(
            [sys.executable, "program.py"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
    told = [("completed", 2), ("completed", 2), ("completed", 60)]
    assert (ran.stdout, ran.stderr) == (f"{told} {[None] * 3}\n", "")


def test_host_and_port(cluster: Head, tmp_path: Path) -> None:
    program = Program(tmp_path, cluster.address)
    check_ran(program)
    assert cluster.pids("ray::Actor") == []
    assert cluster.pids("gcs_server") != []


def test_auto(cluster: Head, tmp_path: Path) -> None:
    check_ran(Program(tmp_path, "auto", {"RAY_ADDRESS": cluster.address}))


def test_client(cluster: Head, tmp_path: Path) -> None:
    check_ran(Program(tmp_path, cluster.client_address))
    wait_until(lambda: not cluster.pids("ray::Actor"), "the actors are gone")


_CONNECTED = """
import sys
import ray
from manyhands.errors import UsageError
from manyhands_ray.cluster import Needs, join
ray.init(sys.argv[1], log_to_driver=False)
for address in sys.argv[2:]:
    try:
        print(join(address, 1, Needs(None)).address)
    except UsageError as error:
        print(error)
"""


def test_a_program_that_is_a_client_itself(cluster: Head) -> None:
    """What it is connected to may be named in another way; another cluster is refused."""
    named = (f"ray://localhost:{cluster.client_port}", "ray://192.0.2.1:10001", cluster.address)
    program = [sys.executable, "-c", _CONNECTED, cluster.client_address, *named]
    same, *others = subprocess.run(program, capture_output=True, text=True, check=True).stdout.splitlines()
    assert same == cluster.client_address
    assert len(others) == 2
    assert all(f"is connected to the Ray cluster at {cluster.client_address} already" in other for other in others)


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_nothing_answers(form: str, tmp_path: Path) -> None:
    address = form.format(free_port())
    told = Program(tmp_path, address).end()
    assert (told["code"], told["type"]) == (1, "WorkerInitError")
    assert re.match(f"no Ray cluster answers at {address}: Connection refused; is its head running", told["error"])
    assert told["took"] < 10


def test_a_port_that_is_not_that_of_clients(cluster: Head, tmp_path: Path) -> None:
    told = Program(tmp_path, f"ray://{cluster.address}").end()
    assert "is that the port of its clients (--ray-client-server-port, 10001)" in told["error"]


def test_auto_where_no_cluster_runs(tmp_path: Path) -> None:
    """What somebody has left behind does not mislead it: Ray would wait for it, and then end the program."""
    gone = f"127.0.0.1:{free_port()}"
    told = Program(tmp_path, "auto", {"RAY_ADDRESS": gone}).end()
    assert (told["code"], told["type"]) == (1, "WorkerInitError")
    assert told["error"].startswith(f"no Ray cluster answers at auto ({gone}): Connection refused")
    assert told["took"] < 30


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a token."""
    home = tmp_path_factory.mktemp("home")
    env = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"} | {"HOME": str(home)}
    subprocess.run([RAY, "get-auth-token", "--generate"], env=env, check=True, capture_output=True)
    return home


@pytest.fixture(scope="module")
def locked(home: Path) -> Iterator[Head]:
    """A cluster that asks for that token."""
    with head(env={"HOME": str(home), "RAY_AUTH_MODE": "token"}) as running:
        yield running


@pytest.mark.parametrize("form", ["address", "client_address"])
def test_a_token_is_needed(form: str, locked: Head, tmp_path: Path) -> None:
    told = Program(tmp_path, getattr(locked, form), {"RAY_AUTH_MODE": None, "HOME": str(tmp_path)}).end()
    assert (told["code"], told["type"]) == (1, "WorkerInitError")
    assert "set RAY_AUTH_MODE=token" in told["error"]
    assert "RAY_AUTH_TOKEN_PATH" in told["error"]
    assert told["took"] < 20


@pytest.mark.parametrize("form", ["address", "client_address"])
def test_a_wrong_token(form: str, locked: Head, tmp_path: Path) -> None:
    told = Program(tmp_path, getattr(locked, form), {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": 64 * "a"}).end()
    assert "refuses the token of this program, which is not its own" in told["error"]
    assert told["took"] < 20


@pytest.mark.parametrize("form", ["address", "client_address"])
def test_with_the_token(form: str, locked: Head, home: Path, tmp_path: Path) -> None:
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(home / ".ray/auth_token")}
    check_ran(Program(tmp_path, getattr(locked, form), token))


def listening(session: int) -> list[str]:
    """Addresses at which the processes of a session listen."""
    import psutil

    pids = [pid for pid, _ in processes(session)]
    return [found.laddr.ip for found in psutil.net_connections("tcp") if found.status == "LISTEN" and found.pid in pids]
