"""Its parts by themselves, without a cluster."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from pathlib import Path
from time import sleep
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import ray

from manyhands.chunks import Chunk, ChunkKind, ChunkResult
from manyhands.errors import ExecutorBroken, OptionsError, UsageError, WorkerInitError
from manyhands.executor import Progress
from manyhands.worker.cell import ProgressCell
from manyhands_ray import RayEngine, RayExecutor, client, local, signals, whereabouts
from manyhands_ray import cluster as clusters
from manyhands_ray.crew import Crew, Staffing
from manyhands_ray.whereabouts import Whereabouts
from manyhands_ray.work import Work

from .support import wait_until

CHUNK = Chunk(3, 0, 10, ChunkKind.CALLS, b"")
LOST = ExecutorBroken("the cluster is lost")


def tasks(work: Work, count: int) -> list[Future[ChunkResult]]:
    """The futures of so many that wait; the first had begun, and was put back."""
    futures: list[Future[ChunkResult]] = [Future() for _ in range(count)]
    for future in futures:
        work.add((CHUNK, future))
    nobody: Any = object()
    (task,) = work.take(nobody, 1)
    assert task[1].running()
    work.put_back(task)
    return futures


def test_what_was_put_back_fails_with_what_waits() -> None:
    work = Work()
    futures = tasks(work, 3)
    work.fail_waiting(LOST)
    assert [future.exception(0) for future in futures] == 3 * [LOST]


def test_what_was_put_back_waits_in_no_worker() -> None:
    work, nobody = Work(), Any
    futures = tasks(work, 4)
    assert work.take_ahead(nobody, 1) == []  # type: ignore[arg-type]  # it is only kept
    assert work.take(nobody, 1) == [(CHUNK, futures[0])]  # type: ignore[arg-type]  # as above
    assert work.take_ahead(nobody, 4) == []  # type: ignore[arg-type]  # as above
    assert work.take_ahead(nobody, 2) == [(CHUNK, each) for each in futures[1:3]]  # type: ignore[arg-type]  # as above
    assert [future.running() for future in futures] == [True, False, False, False]


def test_what_was_put_back_cannot_be_cancelled_any_more() -> None:
    work = Work()
    first, second = tasks(work, 2)
    work.fail_waiting(None)
    assert isinstance(first.exception(0), ExecutorBroken)
    assert second.cancelled()


def test_what_is_cancelled_in_a_call_that_is_lost_stays_so() -> None:
    work, nobody = Work(), Any
    tasks(work, 2)
    first, second = work.take(nobody, 2)  # type: ignore[arg-type]  # it is only kept
    assert second[1].cancel()
    for task in (first, second):
        work.fail(task, LOST)
    assert first[1].exception(0) is LOST
    assert second[1].cancelled()


def test_what_was_told_that_it_is_cancelled_is_told_once() -> None:
    work, nobody = Work(), Any
    tasks(work, 2)
    _, second = work.take(nobody, 2)  # type: ignore[arg-type]  # it is only kept
    assert second[1].cancel()
    assert not work.begin(second)
    assert not work.begin(second)
    work.settle(second, b"", [], failed=False)


def test_long_chunks_share_no_call() -> None:
    work, nobody = Work(), Any
    for length in (1000, 1000, 1 << 20, 1 << 20, 1000):
        work.add((replace(CHUNK, payload=bytes(length)), Future()))
    assert len(work.take(nobody, 5)) == 2  # type: ignore[arg-type]  # as above
    assert len(work.take(nobody, 3)) == 1  # type: ignore[arg-type]  # as above
    assert len(work.take_ahead(nobody, 2)) == 1  # type: ignore[arg-type]  # as above


def test_who_waits_for_what_is_cancelled_is_woken() -> None:
    work = Work()
    _, second = tasks(work, 2)
    timer = threading.Timer(0.1, work.fail_waiting, [None])
    timer.start()
    assert wait([second], 20, FIRST_COMPLETED).done == {second}
    timer.join()


class Busy:
    """A worker that has a chunk; the crew asks no more of it here."""

    was_ready = True
    is_alive = False

    has_begun = True
    line = SimpleNamespace(take_others=list, task=None)

    def last_progress(self) -> None:
        """Nowhere."""

    def bury(self) -> None:
        """End it."""


def crew(hands: list[Any]) -> Crew:
    """One with these workers, in which nobody can be hired."""
    nothing: Any = None
    staffing = Staffing(nothing, 2, None, None)
    made = Crew(
        nothing, staffing, Work(), "here", run_aside=lambda _: None, on_ready=lambda _: None, on_end=lambda *_: None
    )
    made.wanted, made.hands = 2, hands
    return made


@pytest.mark.parametrize("how", ["hire_all", "resize"])
def test_the_last_worker_is_gone_and_none_is_started_any_more(how: str) -> None:
    busy: Any = Busy()
    of = crew([busy])
    for _ in range(3):
        of.count_futile(busy, RuntimeError("the node is broken"))
    of.hire_all()
    assert of.error is None  # there is one that works
    of.dismiss(busy)
    of.hire_all() if how == "hire_all" else of.resize(2)
    assert isinstance(of.error, WorkerInitError)
    assert "the node is broken" in str(of.error)
    assert of.is_gone


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing."""
    process = subprocess.Popen(["sleep", "100"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def name_of(pid: int) -> str:
    return local._processes()[pid][1]


def test_the_descendants_of_others_do_not_count() -> None:
    shell = subprocess.Popen(["sh", "-c", "sleep 100 & echo; wait"], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert shell.stdout is not None
        shell.stdout.readline()
        found = local._descendants(os.getpid())
        children = local._descendants(shell.pid)
        assert len(children) == 1
        assert children | {name_of(shell.pid)} <= found
        assert not local._descendants(os.getpid(), [name_of(shell.pid)]) & (children | {name_of(shell.pid)})
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.communicate()


def reap(name: str, folder: Path) -> None:
    """As if the program had been killed."""
    arguments = ["/bin/sh", "-c", local._REAPER, "reaper", folder, "1000000000:1", name]
    subprocess.run(arguments, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def test_the_reaper_kills_what_is_named(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    (tmp_path / "its own" / "more").mkdir(parents=True)
    reap(name_of(sleeper.pid), tmp_path / "its own")
    assert sleeper.wait(20) == -signal.SIGKILL
    assert not [*tmp_path.iterdir()]


def test_the_reaper_spares_who_has_the_id_now(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    reap(f"{sleeper.pid}:1", tmp_path / "none")
    assert sleeper.poll() is None
    reap(name_of(sleeper.pid), tmp_path / "none")  # the first was through with it by now


def test_a_ray_of_our_own_is_watched_until_it_has_ended(
    monkeypatch: pytest.MonkeyPatch, sleeper: subprocess.Popen[bytes]
) -> None:
    """What the program has started before is none of it."""
    own: list[subprocess.Popen[bytes]] = []
    seen: list[str] = []
    needs: Any = None
    monkeypatch.setattr(local, "_init", lambda *_: own.append(subprocess.Popen(["sleep", "100"])))
    monkeypatch.setattr(ray, "shutdown", lambda **_: seen.extend(reapers()))
    running = local.LocalRay(1, needs)
    try:
        name = name_of(own[0].pid)
    finally:
        own[0].kill()
        own[0].wait()
        running.close()
    assert len(seen) == 1
    assert re.search(rf" reaper \S+/mhray\S+ {re.escape(name)}$", seen[0])
    wait_until(lambda: not reapers(), "the reaper has ended")


def test_a_ray_of_our_own_is_started_by_a_thread_that_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[threading.Thread] = []
    made: list[local.LocalRay] = []
    needs: Any = None
    monkeypatch.setattr(local, "_init", lambda *_: begun.append(threading.current_thread()))
    monkeypatch.setattr(ray, "shutdown", lambda **_: begun.append(begun[0]) if begun[0].is_alive() else None)
    passing = threading.Thread(target=lambda: made.append(local.LocalRay(1, needs)))
    passing.start()
    passing.join()
    assert begun[0].is_alive()
    made[0].close()
    assert len(begun) == 2  # it was there to the very end
    assert not begun[0].is_alive()


def test_what_is_interrupted_while_it_starts_is_waited_for() -> None:
    """However often: it could not be ended before it has started."""
    done: list[int] = []
    with local._lasting_thread() as call:
        main = threading.get_ident()
        timers = [threading.Timer(at, signal.pthread_kill, (main, signal.SIGINT)) for at in (0.1, 0.3)]
        for timer in timers:
            timer.start()
        with pytest.raises(KeyboardInterrupt):
            call(lambda: (sleep(0.6), done.append(1)))
        assert done == [1]
        for timer in timers:
            timer.join()


@pytest.mark.parametrize("aside", [False, True])
def test_who_is_told_to_end_does_what_it_would_have_done(aside: bool) -> None:  # a parameter
    """Whether it is set in Python, which only the main thread may do, or in C, of which Python does not know."""
    heard: list[int] = []
    libc = ctypes.CDLL(None)

    def take_over() -> None:
        with signals.signals_kept():
            if not aside:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
            libc.signal(signal.SIGTERM, ctypes.c_void_p(signal.SIG_IGN))

    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        thread = threading.Thread(target=take_over)
        if aside:
            thread.start()
            thread.join()
        else:
            take_over()
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


@pytest.fixture
def sigterm() -> Iterator[list[int]]:
    """How often it was heard; what is set in a test is undone."""
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    yield heard
    signal.signal(signal.SIGTERM, before)


def test_who_is_told_to_end_while_ray_does(sigterm: list[int]) -> None:
    with signals.signals_kept():
        ctypes.CDLL(None).signal(signal.SIGTERM, ctypes.c_void_p(signal.SIG_IGN))
        sleep(0.2)
        signal.raise_signal(signal.SIGTERM)
    assert sigterm == [signal.SIGTERM]


def in_force(number: int) -> int:
    """The function that the system calls; 0: what it does by default, 1: nothing."""
    action = ctypes.create_string_buffer(1024)
    ctypes.CDLL(None).sigaction(number, None, action)
    return int.from_bytes(action.raw[: ctypes.sizeof(ctypes.c_void_p)], sys.byteorder)


@pytest.mark.parametrize("by_ray", [signal.SIG_DFL, signal.SIG_IGN])
@pytest.mark.parametrize("first", ["a handler", "nothing"])
@pytest.mark.parametrize("then", ["a handler", "nothing"])
def test_what_the_program_sets_meanwhile_stays(sigterm: list[int], first: str, then: str, by_ray: int) -> None:
    def set_to(what: str) -> int:
        signal.signal(signal.SIGTERM, (lambda *_: None) if what == "a handler" else signal.SIG_IGN)
        return in_force(signal.SIGTERM)

    def take_over() -> None:
        with signals.signals_kept():
            entered.set()
            assert left.wait(20)
            ctypes.CDLL(None).signal(signal.SIGTERM, ctypes.c_void_p(by_ray))

    entered, left = threading.Event(), threading.Event()
    set_to(first)
    thread = threading.Thread(target=take_over)
    thread.start()
    assert entered.wait(20)
    wanted = set_to(then)
    left.set()
    thread.join()
    assert in_force(signal.SIGTERM) == wanted
    assert sigterm == []


def test_what_faulthandler_does_is_kept() -> None:
    before = in_force(signal.SIGFPE)
    with signals.signals_kept():
        ctypes.CDLL(None).signal(signal.SIGFPE, ctypes.c_void_p(signal.SIG_IGN))
    assert in_force(signal.SIGFPE) == before


def test_that_a_ray_of_our_own_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    needs: Any = None

    def refuse(*_: object) -> None:
        raise WorkerInitError("Ray cannot be started on this machine: no room")

    monkeypatch.setattr(local, "_init", refuse)
    monkeypatch.setattr(ray, "shutdown", lambda **_: None)
    with pytest.raises(WorkerInitError, match="no room"):
        local.LocalRay(1, needs)
    assert "manyhands-ray" not in [thread.name for thread in threading.enumerate()]


def reapers() -> list[str]:
    """The command lines of those of this program."""
    commands = [" ".join(child.cmdline()) for child in psutil.Process().children()]
    return [command for command in commands if " reaper " in command]


@pytest.mark.parametrize("address", [None, "auto", "127.0.0.1:6399", "localhost:6399"])
def test_the_cluster_that_the_program_is_connected_to(monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    monkeypatch.setattr(clusters, "_current", lambda: "127.0.0.1:6399")
    assert clusters._known(address) == "127.0.0.1:6399"


@pytest.mark.parametrize(
    "address", ["192.0.2.1:6399", "no-such-host.invalid:6399", "localhost:6398", "ray://localhost:6399"]
)
def test_another_cluster_is_another(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(clusters, "_current", lambda: "127.0.0.1:6399")
    with pytest.raises(UsageError, match=r"is connected to the Ray cluster at 127\.0\.0\.1:6399 already"):
        clusters._known(address)


@pytest.mark.parametrize("address", ["ray://192.0.2.1:10001", "127.0.0.1:10001", "ray://localhost:10002"])
def test_a_client_knows_one_cluster_alone(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(clusters, "_current", lambda: "ray://127.0.0.1:10001")
    assert clusters._known("ray://localhost") == "ray://127.0.0.1:10001"
    with pytest.raises(UsageError, match=r"is connected to the Ray cluster at ray://127\.0\.0\.1:10001 already"):
        clusters._known(address)


class Clock:
    """Time, as a test wants it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(whereabouts, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def word(index: int) -> int:
    """What a worker says that is at this record."""
    words = [0]
    cell = ProgressCell(words)
    cell.begin(CHUNK)
    cell.record("call", index)
    return words[0]


def where(of: Whereabouts, chunk: Chunk = CHUNK) -> Progress | None:
    return of.progress(chunk, None, "it")


ALL = Progress("call", 0, 10)


def test_a_worker_that_never_answers_is_somewhere_in_its_chunk(clock: Clock) -> None:
    of = Whereabouts()
    of.begin()
    assert where(of) is None
    clock.now += 0.6
    assert where(of) == ALL
    clock.now += 5
    assert where(of) == ALL
    part = CHUNK.narrowed(4, 5)
    of.begin()
    clock.now += 0.6
    assert where(of, part) == Progress("call", 4, 5)


def test_a_worker_that_answers_no_more_may_have_gone_on(clock: Clock) -> None:
    of = Whereabouts()
    of.begin()
    of.hear(word(3))
    clock.now += 0.4
    assert where(of) == Progress("call", 3, 4)
    clock.now += 0.2
    assert where(of) == ALL


def test_the_same_answer_after_a_silence_does_not_begin_the_time_anew(clock: Clock) -> None:
    of = Whereabouts()
    of.begin()
    of.hear(word(3))
    for _ in range(3):
        clock.now += 0.6
        of.hear(word(3))
        assert where(of) == ALL
        clock.now += 0.1
        of.hear(word(3))
        assert where(of) == ALL
    of.hear(word(4))
    assert where(of) == Progress("call", 4, 5)


def test_what_was_told_of_another_chunk_is_forgotten(clock: Clock) -> None:
    of = Whereabouts()
    of.begin()
    of.hear(word(3))
    of.begin()
    assert where(of, CHUNK.narrowed(7, 10)) is None


def test_where_a_client_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    context = SimpleNamespace(client_worker=SimpleNamespace(_conn_str="head:10001"))
    stub = SimpleNamespace(is_connected=lambda: True, get_context=lambda: context)
    monkeypatch.setattr(ray.util.client, "ray", stub)
    assert clusters._current() == "ray://head:10001"


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:8786", "http://127.0.0.1", "local", "head", "head:port", "ray://head", ":6379", ""]
)
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(OptionsError, match=f"address must be auto, host:port or ray://host:port, not '{address}'"):
        RayExecutor(address=address)
    with pytest.raises(OptionsError, match="address must be"):
        RayEngine(address=address)


def test_that_ray_would_look_elsewhere_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = "127.0.0.2:9"
    monkeypatch.setattr(ray._private.services, "canonicalize_bootstrap_address", lambda _: nowhere)
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(WorkerInitError, match=f"Ray takes {place} for {nowhere}, but no Ray cluster answers"):
            clusters._connect(place)


@pytest.mark.parametrize(
    ("mode", "words"),
    [("token", "refuses the token of this program"), ("", "refuses this program, as it asks for its")],
)
def test_a_wrong_token_is_told_from_none(mode: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", mode)
    error: Any = RuntimeError("no")
    error.code = lambda: SimpleNamespace(name="UNAUTHENTICATED")
    assert words in client._refusal("ray://head:10001", error)
