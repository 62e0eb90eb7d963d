"""Locks between processes: they exclude, time out, and survive the death of their holder."""

from __future__ import annotations

import errno
import os
import signal
import threading
import time

import pytest

from manyhands.processes.launch import make_launcher
from manyhands_zoosync import LockTimeout
from manyhands_zoosync.lock import Guard, best_kind, open_lock
from manyhands_zoosync.robust import has_robust_locks
from manyhands_zoosync.segment import Segment

from .helpers import LIMIT

HERE = "plugins.zoosync.tests.test_lock"
KINDS = ["robust", "file"]

need_robust = pytest.mark.skipif(not has_robust_locks(), reason="there are none here")


@pytest.fixture(params=[pytest.param("robust", marks=need_robust), "file"])
def kind(request):
    return request.param


@pytest.fixture
def segment():
    made = Segment.create(4096)
    yield made
    made.close()


@pytest.fixture
def lock(segment, kind):
    made = open_lock(segment, 0, kind, create=True)
    yield made
    made.close()


@pytest.fixture(scope="module")
def launcher():
    made = make_launcher("forkserver")
    made.start("builtins:list", []).close()  # its server is there before the first test
    yield made
    made.close()


def open_here(fds):
    kind = KINDS[fds[1] is not None and os.read(fds[1], 1)[0]]
    segment = Segment(fds[0], 4096)
    return segment, open_lock(segment, 0, kind, create=False)


def take_and_die(fds):
    _, lock = open_here(fds)
    lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


def take_and_stay(fds):
    _, lock = open_here(fds)
    lock.acquire()
    os.write(fds[2], b"!")
    time.sleep(600)


def wait_for_it(fds):
    _, lock = open_here(fds)
    os.write(fds[2], b"!")
    lock.acquire(1.5)
    lock.release()


def count(fds):
    segment, lock = open_here(fds)
    words = segment.words(64, 1)
    for _ in range(3000):
        lock.acquire()
        words[0] = words[0] + 1
        lock.release()


class Process:
    """A process that has the lock too, and says `!` when it is that far."""

    def __init__(self, launcher, main, segment, kind):
        number, tell = os.pipe()
        self.said, says = os.pipe()
        os.write(tell, bytes([KINDS.index(kind)]))
        self.child = launcher.start(f"{HERE}:{main}", [segment.descriptor, number, says])
        for fd in (number, tell, says):
            os.close(fd)

    def close(self):
        self.child.close()
        os.close(self.said)


def test_it_excludes_other_processes(launcher, segment, lock, kind):
    processes = [Process(launcher, "count", segment, kind) for _ in range(2)]
    words = segment.words(64, 1)
    for _ in range(3000):
        lock.acquire(LIMIT)
        words[0] = words[0] + 1
        lock.release()
    assert [process.child.wait().code for process in processes] == [0, 0]
    for process in processes:
        process.close()
    assert words[0] == 9000


def test_it_excludes_other_threads(segment, lock):
    numbers = [0]

    def add():
        for _ in range(500):
            lock.acquire(LIMIT)
            number = numbers[0]
            time.sleep(0)
            numbers[0] = number + 1
            lock.release()

    threads = [threading.Thread(target=add) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert numbers == [1500]


def test_the_time_for_which_who_waits_is_stopped_does_not_count(launcher, segment, lock, kind):
    lock.acquire()
    waiter = Process(launcher, "wait_for_it", segment, kind)
    os.read(waiter.said, 1)
    time.sleep(0.1)
    waiter.child.kill(signal.SIGSTOP)
    time.sleep(1.6)
    waiter.child.kill(signal.SIGCONT)
    time.sleep(0.1)
    lock.release()
    assert waiter.child.wait().code == 0
    waiter.close()


def test_who_dies_with_it_does_not_keep_it_and_the_next_is_told_once(launcher, segment, lock, kind):
    for _ in range(3):
        process = Process(launcher, "take_and_die", segment, kind)
        assert process.child.wait().signal == signal.SIGKILL
        process.close()
        assert lock.acquire(LIMIT) is True
        lock.release()
        assert lock.acquire(LIMIT) is False
        lock.release()


def test_who_waits_for_it_gets_it_when_its_holder_is_killed(launcher, segment, lock, kind):
    process = Process(launcher, "take_and_stay", segment, kind)
    assert os.read(process.said, 1) == b"!"
    threading.Timer(0.1, process.child.kill).start()
    begun = time.monotonic()
    assert lock.acquire(LIMIT) is True
    assert 0.05 < time.monotonic() - begun < LIMIT / 2
    lock.release()
    process.close()


def test_waiting_ends_in_time(launcher, segment, lock, kind):
    process = Process(launcher, "take_and_stay", segment, kind)
    assert os.read(process.said, 1) == b"!"
    for timeout in (0.0, 0.15):
        begun = time.monotonic()
        with pytest.raises(LockTimeout, match=f"for {timeout:g} seconds"):
            lock.acquire(timeout)
        assert timeout <= time.monotonic() - begun < timeout + 5
    process.close()
    assert lock.acquire(LIMIT) is True
    lock.release()


def test_a_guard_repairs_before_anything_else_and_lets_go_if_it_cannot(launcher, segment, lock, kind):
    repaired = []

    def repair():
        repaired.append(1)
        if len(repaired) == 1:
            raise RuntimeError("not yet")

    guard = Guard(lock, repair, LIMIT)
    for _ in range(2):
        process = Process(launcher, "take_and_die", segment, kind)
        process.child.wait()
        process.close()
        if not repaired:
            with pytest.raises(RuntimeError), guard:
                pytest.fail("it is not repaired")
    with guard:
        assert repaired == [1, 1]
    with guard:
        assert repaired == [1, 1]


@need_robust
def test_a_thread_that_was_interrupted_when_it_had_just_taken_it_gets_it_back(segment):
    lock = open_lock(segment, 0, "robust", create=True)
    assert lock.acquire() is False
    assert lock.acquire(1.0) is True
    lock.release()
    with pytest.raises(OSError, match="released") as caught:
        lock.release()
    assert caught.value.errno == errno.EPERM
    lock.close()


@need_robust
def test_glibc_has_the_better_kind():
    assert best_kind() == "robust"
