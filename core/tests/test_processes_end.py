"""No worker outlives its parent, ^C ends none, and a lost server is replaced."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

if sys.platform == "win32":
    pytest.skip("worker processes need a POSIX system", allow_module_level=True)

from manyhands.processes import wire
from manyhands.processes.launch import START_METHODS, Exit, StartMethod, make_launcher

from .process_support import HERE, LIMIT, ended, flat, pipe, said, server_of, worker

KERNEL_ENDS = sys.platform == "linux"
"""Whether code that holds the interpreter lock ends with its parent, too."""

WITHIN = 2.0
"""Seconds after its parent in which a worker must have ended."""

both = pytest.mark.parametrize("method", START_METHODS)


@contextmanager
def parent(code: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """A script that starts workers, as the leader of a session of its own; all of the session is killed in the end."""
    line = [sys.executable, "-c", flat(code), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    with subprocess.Popen(
        line, env=environment, start_new_session=True, stdout=-1, stderr=-1, stdin=-1, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()
            for pid in session(process.pid):
                os.kill(pid, signal.SIGKILL)


def session(leader: int) -> list[int]:
    """Its processes that have not ended, except the leader."""
    found = []
    for process in psutil.process_iter():
        try:
            belongs = process.pid != leader and os.getsid(process.pid) == leader
            if belongs and process.status() != psutil.STATUS_ZOMBIE:  # whose new parent need not look
                found.append(process.pid)
        except (psutil.Error, OSError):  # has just ended, or is not ours to see
            continue
    return found


def left_of(leader: int) -> list[int]:
    """What is left of a session when its workers must have ended."""
    end = time.monotonic() + WITHIN
    while (left := session(leader)) and time.monotonic() < end:
        time.sleep(0.01)
    return left


PARENT = """
        import sys, threading
        from process_support import *
        method, *mains = sys.argv[1:]
        launcher = make_launcher(method)
        read, write = os.pipe()
        children = [launcher.start(f"process_mains:{main}", [write]) for main in mains]
        said(read, len(mains))
        print("running", flush=True)
        sys.stdin.read()
"""


@both
def test_workers_end_with_a_killed_parent_whatever_they_do(method: StartMethod) -> None:
    mains = ["idle", "busy", "floods", "ignores_signals", *(["sums", "matches"] if KERNEL_ENDS else [])]
    with parent(PARENT, method, *mains) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        assert len(session(process.pid)) == len(mains) + (method == "forkserver")
        process.kill()
        process.wait()
        assert left_of(process.pid) == []


STARTING = """
        import os, sys, threading, time
        from manyhands.processes.launch import make_launcher
        launcher = make_launcher(sys.argv[1])
        def start():
            children = [launcher.start("process_mains:nothing_forever", []) for _ in range(4)]
            time.sleep(600)
        threading.Thread(target=start).start()
        print("starting", flush=True)
        time.sleep(float(sys.argv[2]))
        os.kill(os.getpid(), 9)
"""


@both
def test_workers_that_have_just_been_started_end_with_their_parent(method: StartMethod) -> None:
    """At any instant of their start, and of that of their server."""
    for delay in (0.0, 0.01, 0.03, 0.1, 0.5):
        with parent(STARTING, method, str(delay)) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "starting\n"
            process.wait(LIMIT)
            assert left_of(process.pid) == []


LIFELINE = """
        import os, sys, time
        from manyhands.processes import lifeline
        lifeline.{tie}(0)
        os.write(1, b"!")
        {works}
"""
TIES = {
    "kernel": LIFELINE.format(tie="hang_on", works="sum(range(10**15))"),
    "thread, idle": LIFELINE.format(tie="_start_watch", works="time.sleep(600)"),
    "thread, busy": LIFELINE.format(tie="_start_watch", works="exec('while True: pass')"),
}


@pytest.mark.parametrize("tie", [tie for tie in TIES if KERNEL_ENDS or tie != "kernel"])
@pytest.mark.parametrize("closed", ["before", "after"])
def test_the_end_of_its_life_pipe_ends_a_worker(tie: str, closed: str) -> None:
    with parent(TIES[tie]) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if closed == "after":
            assert process.stdout.read(1) == "!"
        process.stdin.close()
        assert process.wait(WITHIN) == -signal.SIGKILL


@pytest.mark.skipif(not KERNEL_ENDS, reason="the kernel does not tell of a parent's death")
def test_the_death_of_its_parent_ends_a_worker_without_a_pipe() -> None:
    code = """
        import os, time
        from manyhands.processes import lifeline
        parent = os.getpid()
        if os.fork():
            time.sleep(600)
        lifeline.die_with(parent)
        os.write(1, b"!")
        sum(range(10**15))
    """
    with parent(code) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == "!"
        assert len(session(process.pid)) == 1
        process.kill()
        assert left_of(process.pid) == []


def test_a_worker_that_has_lost_its_parent_before_it_looks_ends() -> None:
    code = """
        from manyhands.processes import lifeline
        lifeline.die_with(1 << 30)
        print("it lives")
    """
    with parent(code) as process:
        output, _ = process.communicate(timeout=LIMIT)
        assert (process.returncode, output) == (-signal.SIGKILL, "")


INTERRUPTED = """
        import signal, sys
        from process_support import *
        signal.signal(signal.SIGINT, lambda *_: None)
        print("go", flush=True)
        for turn in range(3):
            launcher = make_launcher(sys.argv[1])
            read, write = os.pipe()
            ours, theirs = os.pipe()
            children = [launcher.start("process_mains:wait", [write, ours]) for _ in range(2)]
            said(read, 2)
            print("running", flush=True)
            if turn == 2:
                sys.stdin.readline()
            for child in children:
                os.write(theirs, b"!")
            print([ended(child).code for child in children], flush=True)
            print([everything(child.output) for child in children], flush=True)
            for child in children:
                child.close()
            launcher.close()
"""


@both
def test_an_interrupt_at_any_instant_ends_nothing_and_says_nothing(method: StartMethod) -> None:
    with parent(INTERRUPTED, method) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        os.set_blocking(process.stdout.fileno(), False)
        lines: list[str] = []
        sent = 0
        end = time.monotonic() + LIMIT
        while lines.count("running\n") < 3 and time.monotonic() < end and process.poll() is None:
            lines += process.stdout.readlines()
            if lines:
                os.killpg(process.pid, signal.SIGINT)
                sent += 1
            time.sleep(0.001)  # a person cannot do it as often
        os.set_blocking(process.stdout.fileno(), True)
        output, complaint = process.communicate("\n", timeout=LIMIT)
        assert complaint == ""
        assert "".join(lines) + output == "go\n" + "running\n[0, 0]\n[b'', b'']\n" * 3
        assert process.returncode == 0
        assert sent > 10


@pytest.fixture
def _mains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(HERE)


@pytest.mark.usefixtures("_mains")
def test_workers_end_with_their_server_and_the_next_start_has_a_new_one() -> None:
    launcher = make_launcher("forkserver")
    mains = ["idle", "busy", *(["sums"] if KERNEL_ENDS else [])]
    try:
        with pipe() as (read, write):
            children = [launcher.start(f"process_mains:{main}", [write]) for main in mains]
            said(read, len(mains))
            os.kill(server_of(launcher), signal.SIGKILL)
            begun = time.monotonic()
            assert [ended(child) for child in children] == [Exit()] * len(mains)
            assert time.monotonic() - begun < WITHIN
            with worker(launcher, "exit_3") as child:
                assert ended(child) == Exit(3)
            for child in children:
                assert child.wait() == Exit()
                child.close()
    finally:
        launcher.close()


@pytest.mark.usefixtures("_mains")
def test_a_server_that_was_left_in_the_middle_of_a_request_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = make_launcher("forkserver")
    try:
        with worker(launcher, "nothing") as child:
            assert ended(child) == Exit(0)
        with monkeypatch.context() as patched:
            patched.setattr(wire, "receive", interrupt)
            with pytest.raises(KeyboardInterrupt):
                launcher.start("process_mains:exit_3", [])
        with worker(launcher, "exit_3") as child:
            assert ended(child) == Exit(3)
    finally:
        launcher.close()


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@both
def test_an_interpreter_that_is_not_there_is_an_error(method: StartMethod, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = make_launcher(method)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", str(HERE / "no-python"))
        with pytest.raises(FileNotFoundError):
            launcher.start("process_mains:nothing", [])
    launcher.close()


@pytest.mark.skipif(not Path("/bin/false").exists(), reason="there is none")
def test_a_server_that_cannot_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = make_launcher("forkserver")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    for _ in range(2):
        with pytest.raises(OSError, match="the fork server has ended"):
            launcher.start("process_mains:nothing", [])
    launcher.close()


@pytest.mark.usefixtures("_mains")
def test_closing_the_launcher_ends_the_workers_that_still_run() -> None:
    launcher = make_launcher("forkserver")
    with pipe() as (read, write):
        child = launcher.start("process_mains:busy", [write])
        said(read)
        launcher.close()
        assert not psutil.pid_exists(child.pid)
        child.close()
        assert child.wait() == Exit()
