"""Worker processes: how they start, what they have, and how their end is seen."""

import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

import psutil
import pytest

if sys.platform == "win32":
    pytest.skip("worker processes need a POSIX system", allow_module_level=True)

from manyhands.processes import handle, wire
from manyhands.processes.launch import START_METHODS, Exit, Launcher, StartMethod, make_launcher
from manyhands.processes.server import Server

from .process_support import HERE, LIMIT, ended, everything, flat, pipe, said, server_of, surroundings, worker

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def running() -> Iterator[dict[StartMethod, Launcher]]:
    """A launcher of each kind that has started a process before."""
    launchers = {method: make_launcher(method) for method in START_METHODS}
    for launcher in launchers.values():
        child = launcher.start("builtins:list", [])
        assert child.wait() == Exit(0)
        child.close()
    yield launchers
    for launcher in launchers.values():
        launcher.close()
        launcher.close()


@pytest.fixture(params=START_METHODS)
def method(request: pytest.FixtureRequest) -> StartMethod:
    return request.param


@pytest.fixture
def launcher(
    running: dict[StartMethod, Launcher], method: StartMethod, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Launcher]:
    monkeypatch.syspath_prepend(HERE)
    return running[method]


@pytest.fixture(params=["pidfd", "pipe"])
def sentinel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the end of a process is seen."""
    if request.param == "pipe":
        monkeypatch.setattr(handle, "has_pidfd", lambda: False)
    elif not handle.has_pidfd():
        pytest.skip("there are none")
    return request.param


def files_of(pid: int) -> list[int]:
    """The numbers of its open files."""
    folder = Path("/dev/fd" if pid == os.getpid() else f"/proc/{pid}/fd")
    return sorted(int(link.name) for link in folder.iterdir())


ENDS = {
    "nothing": Exit(0),
    "exit_none": Exit(0),
    "exit_3": Exit(3),
    "exit_minus_1": Exit(255),
    "exit_words": Exit(1),
    "exit_at_once": Exit(7),
    "fail": Exit(1),
    "no_such_function": Exit(1),
    "kill_itself": Exit(signal=signal.SIGKILL),
    "crash": Exit(signal=signal.SIGSEGV),
    "abort": Exit(signal=signal.SIGABRT),
}


def test_how_a_process_ended_is_told_exactly(launcher: Launcher, sentinel: str) -> None:
    children = {main: launcher.start(f"process_mains:{main}", []) for main in ENDS}
    output = {}
    try:
        assert {main: ended(child) for main, child in children.items()} == ENDS
        assert {main: child.wait() for main, child in children.items()} == ENDS
        output = {main: everything(child.output).decode() for main, child in children.items()}
    finally:
        for child in children.values():
            child.close()
            child.close()
    assert output["nothing"] == output["exit_3"] == ""
    assert output["exit_words"] == "so it ends\n"
    assert output["fail"].startswith("Traceback")
    assert output["fail"].endswith("\nValueError: something is wrong\n")
    assert "no_such_function" in output["no_such_function"]


def test_a_process_that_runs_is_killed(launcher: Launcher, sentinel: str) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM):
        with pipe() as (read, write), worker(launcher, "idle", [write]) as child:
            said(read)
            assert not handle.wait_readable(child.fileno(), 0)
            child.kill(number)
            assert ended(child) == Exit(signal=number)
            child.kill()  # it has ended: nothing happens


def test_closing_kills_a_process_that_runs(launcher: Launcher, sentinel: str) -> None:
    with pipe() as (read, write):
        with worker(launcher, "idle", [write]) as child:
            said(read)
        os.close(write)
        assert os.read(read, 1) == b""
        assert child.wait() == Exit(signal=signal.SIGKILL)


def test_a_signal_never_goes_to_another_process_with_the_same_number(launcher: Launcher, sentinel: str) -> None:
    seen = []
    before = signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
    try:
        with worker(launcher, "nothing") as child:
            assert handle.wait_readable(child.fileno(), LIMIT)
            if sentinel == "pipe":
                child.wait()  # from here on the number is free
            number, child.pid = child.pid, os.getpid()
            child.kill(signal.SIGUSR1)
            child.pid = number
            assert child.wait() == Exit(0)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not seen


@on_linux
def test_a_process_has_no_descriptor_but_those_given(launcher: Launcher, sentinel: str) -> None:
    with pipe() as (_, ours), pipe() as (read, write), pipe() as (other_read, other_write):
        os.set_inheritable(ours, True)
        with worker(launcher, "wait", [write, other_read]):  # a neighbour that runs
            said(read)
            found = surroundings(launcher)["open"]
            os.close(other_write)
    stdio, others = [found.pop(str(fd)) for fd in range(3)], list(found.values())
    assert stdio[0][0] == "/dev/null"
    assert stdio[1] == stdio[2]
    assert stdio[1][0].startswith("pipe:")
    assert [inheritable for _, _, inheritable in others] == [False] * len(others)
    kinds = sorted(writable for target, writable, _ in others if target.startswith("pipe:"))
    assert len(kinds) == len(others)
    assert kinds == [False] + [True] * (1 if sentinel == "pidfd" else 2)  # its life; what it was given, and its end


def test_a_pipe_ends_with_its_worker_while_a_neighbour_runs(launcher: Launcher, sentinel: str) -> None:
    with pipe() as (read, write), pipe() as (ready, says), pipe() as (held, end):
        with worker(launcher, "wait", [says, held, write]) as first, worker(launcher, "wait", [says, held]):
            os.close(write)
            said(ready, 2)
            first.kill()
            assert ended(first) == Exit(signal=signal.SIGKILL)
            assert handle.wait_readable(read, LIMIT)
            assert os.read(read, 1) == b""
        os.close(end)


def test_the_surroundings_are_those_of_the_moment(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MANYHANDS_TEST", "one\nzwölf \udc80")
    monkeypatch.setenv("TZ", "XYZ-3")
    monkeypatch.delenv("PATH")
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "added")
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path])  # no text: Python passes over it
    found = surroundings(launcher)
    assert found["directory"] == str(tmp_path)
    assert found["environment"] == dict(os.environ)
    assert found["zone"] == "XYZ"
    assert found["path"] == sys.path[:-1]
    assert found["argv"] == ["-c"]
    monkeypatch.delenv("MANYHANDS_TEST")
    assert "MANYHANDS_TEST" not in surroundings(launcher)["environment"]


def test_a_directory_that_was_removed_is_no_obstacle(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").mkdir()
    os.chdir("gone")
    (tmp_path / "gone").rmdir()
    assert surroundings(launcher)["directory"] is None


def test_a_module_that_was_written_a_moment_ago_is_found(
    launcher: Launcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("mine_1", "mine_2"):
        (tmp_path / f"{name}.py").write_text("def main(fds): print(__name__)")
        child = launcher.start(f"{name}:main", [])
        assert ended(child) == Exit(0)
        assert everything(child.output) == f"{name}\n".encode()
        child.close()


def test_nothing_of_this_process_or_of_an_earlier_worker_is_in_a_worker(launcher: Launcher) -> None:
    first, second = surroundings(launcher), surroundings(launcher)
    assert "pytest" not in first["modules"]
    assert first["modules"] == second["modules"]
    assert first["random"] != second["random"]
    assert first["threads"] == 1


@on_linux
def test_signals_are_as_in_a_new_process(launcher: Launcher) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
    try:
        found = surroundings(launcher)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert found["blocked"] == []
    programs = found["signals of its children"]
    assert int(programs["SigBlk"], 16) == 0
    assert not int(programs["SigIgn"], 16) & 1 << signal.SIGINT - 1  # ^C ends what hooks start


def test_the_flags_of_the_interpreter_are_handed_on(method: StartMethod) -> None:
    code = f"""
        from process_support import *
        launcher = make_launcher({method!r})
        found = surroundings(launcher)
        launcher.close()
        print(found["debug"], found["flags"])
    """
    flags = ["-O", "-X", "utf8", "-W", "ignore::ImportWarning"]
    result = subprocess.run(
        [sys.executable, *flags, "-c", flat(code)], cwd=HERE, capture_output=True, text=True, check=False
    )
    assert (result.stdout, result.stderr) == ("False [1, ['ignore::ImportWarning']]\n", "")


def test_a_parent_without_standard_streams_starts_processes(method: StartMethod, tmp_path: Path) -> None:
    code = f"""
        from process_support import *
        read, write = os.pipe()
        launcher = make_launcher({method!r})
        child = launcher.start("process_mains:describe", [write])
        os.close(write)
        text = open(read).read()
        end, output = child.wait(), everything(child.output)
        child.close()
        launcher.close()
        open("result", "w").write(json.dumps([end.code, output.decode(), len(json.loads(text)["open"])]))
    """
    (tmp_path / "parent.py").write_text(flat(code))
    line = f"exec {quote(sys.executable)} parent.py <&- >&- 2>&-"
    subprocess.run(["sh", "-c", line], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(HERE)}, check=True)
    expected = 5 if sys.platform == "linux" else 6
    assert json.loads((tmp_path / "result").read_text()) == [0, "", expected]


def test_all_that_is_written_arrives_and_lines_at_once(launcher: Launcher) -> None:
    with pipe() as (read, write), worker(launcher, "prints", [read]) as child:
        assert handle.wait_readable(child.output, LIMIT)
        assert everything(child.output) == "by print, zwölf, \\udc80\n".encode()
        os.write(write, b"!")
        assert ended(child) == Exit(0)
        rest = everything(child.output).decode()
    for text in (
        "to stderr\n",
        "to the first stderr\n",
        "as bytes\n",
        "by the system\n",
        "by the system to 2\n",
        "by the C library\n",
        "by a program\n",
        "without an end",
    ):
        assert rest.count(text) == 1


def test_what_python_does_at_its_end_is_done(launcher: Launcher) -> None:
    with worker(launcher, "ends_slowly") as child:
        assert ended(child) == Exit(0)
        assert everything(child.output) == b"a thread\nat exit\n"


def test_a_process_that_a_worker_left_behind_delays_nothing(launcher: Launcher) -> None:
    with worker(launcher, "leaves_a_child") as child:
        assert ended(child) == Exit(0)
        left = int(everything(child.output))
        child.close()
    os.kill(left, signal.SIGKILL)


def test_starting_many_processes_leaves_nothing_open(launcher: Launcher, method: StartMethod, sentinel: str) -> None:
    before = files_of(os.getpid())
    for _ in range(200 if (method, sentinel) == ("forkserver", "pidfd") else 10):
        child = launcher.start("builtins:list", [0])
        assert ended(child) == Exit(0)
        child.close()
    assert files_of(os.getpid()) == before
    if method == "forkserver" and sys.platform == "linux":
        server = server_of(launcher)
        assert len(files_of(server)) == 4  # stdio and the socket
        assert psutil.Process(server).num_threads() == 1


@pytest.mark.parametrize("method", ["forkserver"])
def test_a_fork_is_there_in_milliseconds(launcher: Launcher) -> None:
    def seconds() -> float:
        with pipe() as (read, write):
            begun = time.perf_counter()
            with worker(launcher, "idle", [write]):
                said(read)
                return time.perf_counter() - begun

    assert min(seconds() for _ in range(10)) < 0.03  # ours takes a tenth; the rest is the import of a module


def test_what_cannot_be_started_is_an_error_and_leaves_nothing_open(
    launcher: Launcher, method: StartMethod, sentinel: str
) -> None:
    """With every number of descriptors that can be too few, here and in the server."""
    before = files_of(os.getpid())
    processes = [os.getpid()]
    if method == "forkserver" and sys.platform == "linux":
        processes.append(server_of(launcher))
    for pid in processes:
        outcomes = [start_with(launcher, pid, more) for more in range(16)]
        assert outcomes[0] is False
        assert outcomes[-1] is True
        assert outcomes == sorted(outcomes)
        assert files_of(os.getpid()) == before
    if len(processes) == 2:
        assert server_of(launcher) == processes[1]


def start_with(launcher: Launcher, pid: int, more: int) -> bool:
    """Whether a process can be started while a process may open so many more descriptors."""
    taken = files_of(pid)
    free = [fd for fd in range(1000) if fd not in taken]
    before = limit_files(pid, free[more])
    try:
        child = launcher.start("builtins:list", [])
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        return False
    finally:
        limit_files(pid, before)
    assert ended(child).signal is None
    child.close()
    return True


def test_a_fork_that_fails_is_an_error_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(os, "fork", refuse)
    ours, theirs = socket.socketpair()
    with ours, theirs, pipe() as (read, write):
        wire.send(ours, {"do": "fork", "fds": 2, "held": 0}, [read, write])
        ours.shutdown(socket.SHUT_WR)
        before = files_of(os.getpid())
        Server(theirs).serve()
        assert files_of(os.getpid()) == before
        assert wire.receive(ours) == ({"errno": errno.EAGAIN}, [])


def limit_files(pid: int, number: int) -> int:
    if sys.platform == "linux":
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (number, hard))
    else:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    return soft
