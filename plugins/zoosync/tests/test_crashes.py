"""The queue with its workers when these, or the program, are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from manyhands.errors import WorkerInitError, WorkerLost
from manyhands_zoosync import Supervisor, WorkerState, supervisor
from manyhands_zoosync.robust import has_robust_locks

from . import helpers
from .helpers import wait_until

need_robust = pytest.mark.skipif(not has_robust_locks(), reason="there are none here")

ROOT = Path(__file__).parents[3]


def everything(queue):
    """Results by id; each comes once."""
    results = list(queue.results())
    found = {result.tsk_id: result for result in results}
    assert len(found) == len(results)
    return found


def test_the_batch_of_a_killed_worker_is_run_again_by_another(tmp_path):
    with Supervisor(1, batch_size=10) as queue:
        die_once, same = queue.register(helpers.die_once), queue.register(helpers.same)
        ids = [*queue.enqueue_many(same, [(n,) for n in range(5)])]
        ids.append(queue.enqueue(die_once, str(tmp_path / "once")))
        ids += queue.enqueue_many(same, [(n,) for n in range(100)])
        found = everything(queue)
        assert [found[n].value for n in ids] == [*range(5), "survived", *range(100)]
        assert (queue.statistics.succeeded, queue.statistics.lost, queue.statistics.replaced) == (106, 0, 1)
        assert queue.status()[0].pid == queue._run._staff.pids()[0]
        wait_until(lambda: queue.status()[0].total_processed >= 100)


@pytest.mark.parametrize("retries", [0, 2])
def test_a_task_that_kills_every_worker_is_lost_alone(retries):
    with Supervisor(2, crash_retries=retries) as queue:
        same, die = queue.register(helpers.same), queue.register(helpers.always_die)
        leave = queue.register(helpers.leave)
        queue.enqueue_many(same, [(n,) for n in range(300)])
        killer = queue.enqueue(die)
        queue.enqueue_many(same, [(n,) for n in range(300)])
        leaver = queue.enqueue(leave, 3)
        found = everything(queue)
        lost = {n: result.error for n, result in found.items() if result.error}
        assert set(lost) == {killer, leaver}
        assert all(type(error) is WorkerLost for error in lost.values())
        assert lost[killer].cause == "SIGKILL"
        assert lost[leaver].cause == "exit code 3"
        assert (queue.statistics.succeeded, queue.statistics.failed, queue.statistics.lost) == (600, 2, 2)
        wait_until(lambda: queue.statistics.replaced == 2 * (retries + 1))


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        pytest.param("robust", "after the head", marks=need_robust),
        pytest.param("robust", "before the head", marks=need_robust),
        pytest.param("robust", "before the claim", marks=need_robust),
        ("file", "before the head"),
    ],
)
def test_a_worker_that_is_killed_with_the_lock_in_its_hands_stops_nobody(kind, how, tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "best_kind", lambda: kind)
    with Supervisor(2, num_slots=64, batch_size=7) as queue:
        arm, note = queue.register(helpers.die_with_the_lock), queue.register(helpers.note)
        queue.start()
        queue.enqueue(arm, str(tmp_path / "once"), how)
        queue.enqueue(arm, str(tmp_path / "once"), how)
        queue.enqueue_many(note, [(str(tmp_path / "notes"), str(n)) for n in range(500)])
        found = everything(queue)
        assert [found[n].value for n in range(3, 503)] == list(map(str, range(500)))
        wait_until(lambda: queue.statistics.replaced == 1)
    assert (tmp_path / "once").exists()
    # Those that it had claimed had not begun.
    assert Counter((tmp_path / "notes").read_text().split()) == Counter(map(str, range(500)))


def test_a_worker_that_is_killed_while_it_has_nothing_to_do_is_replaced():
    with Supervisor(2) as queue:
        pid = queue.register(helpers.pid)
        queue.start()
        wait_until(lambda: [status.state for status in queue.status()] == [WorkerState.IDLE] * 2)
        before = queue._run._staff.pids()
        for victim in before:
            os.kill(victim, signal.SIGKILL)
        wait_until(lambda: queue.statistics.replaced == 2)
        queue.enqueue_many(pid, [(n,) for n in range(100)])
        workers = {result.value for result in queue.results()}
        assert workers <= set(queue._run._staff.pids())
        assert not workers & set(before)


def test_a_dead_worker_does_not_look_alive(monkeypatch):
    with Supervisor(1) as queue:
        same = queue.register(helpers.same)
        queue.enqueue(same, 1)
        list(queue.results())
        wait_until(lambda: queue.status()[0].state == WorkerState.IDLE)
        monkeypatch.setattr(queue._run._staff, "_replace", lambda *_, **__: None)
        os.kill(queue._run._staff.pids()[0], signal.SIGKILL)
        wait_until(lambda: queue.status()[0].state == WorkerState.ENDED)
        assert queue.status()[0].total_processed == 1


def test_workers_that_all_die_before_they_are_ready_are_the_error_of_the_run(monkeypatch):
    class Deadly:
        def __reduce__(self):
            return os._exit, (7,)

        def __call__(self):
            pass

    with Supervisor(2) as queue:
        queue.register(Deadly())
        queue.enqueue(0)
        with pytest.raises(WorkerInitError, match=r"die before they are ready \(exit code 7\)"):
            list(queue.results())


def kill_at_random(seed, tasks, kills):
    chance = random.Random(seed)
    with Supervisor(
        2, num_slots=chance.choice([3, 100, 2000]), batch_size=chance.choice([1, 30, 300]), crash_retries=50
    ) as queue:
        same = queue.register(helpers.same)
        queue.start()

        def kill():
            for _ in range(kills):
                time.sleep(chance.random() * 0.05)
                victims = set(queue._run._staff.pids()) & {status.pid for status in queue.status()}  # they are ready
                for victim in sorted(victims)[: chance.randint(1, 2)]:
                    with suppress(ProcessLookupError):  # it has just been replaced
                        os.kill(victim, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        expected: dict[int, int] = {}
        while killer.is_alive():
            ids = queue.enqueue_many(same, [(n,) for n in range(tasks)])
            expected |= dict(zip(ids, range(tasks), strict=True))
        found = everything(queue)
        assert {n: result.value for n, result in found.items()} == expected
        assert queue.statistics.succeeded == len(expected)


def test_workers_that_are_killed_at_random_lose_nothing():
    kill_at_random(1, 500, 10)


@pytest.mark.chaos
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(10))
def test_workers_that_are_killed_at_random_a_hundred_times_lose_nothing(seed):
    kill_at_random(seed, 2000, 100)


PROGRAM = """
import sys
from plugins.zoosync.tests import helpers
from manyhands_zoosync import Supervisor

queue = Supervisor(2, num_slots=16, batch_size=4)
slow, same = queue.register(helpers.slow), queue.register(helpers.same)
queue.start()
print(*queue._run._staff.pids(), flush=True)
queue.enqueue(slow, 60)
while True:
    queue.enqueue_many(same, [(n,) for n in range(100)])
"""


def at_random(count):
    chance = random.Random(count)
    return [pytest.param(chance.random(), marks=pytest.mark.chaos) for _ in range(count)]


@pytest.mark.parametrize("after", [0.0, 0.2, *at_random(30)])
def test_nothing_is_left_of_a_program_that_is_killed(after):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    line = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(line, env=environment, stdout=-1, stderr=-1, text=True) as program:
        pids = [int(pid) for pid in program.stdout.readline().split()]
        time.sleep(after)
        program.kill()
        killed = time.monotonic()
        assert len(pids) == 2
        wait_until(lambda: not any(is_alive(pid) for pid in pids))
        assert time.monotonic() - killed < 2
        assert program.stderr.read() == ""  # no tracker complains


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_an_interpreter_that_ends_with_the_queue_open_says_nothing():
    code = (
        "from manyhands_zoosync import Supervisor; q = Supervisor(1); q.register(len); q.start(); q.enqueue(0, 'abc')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
