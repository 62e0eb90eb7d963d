"""Ways in which queues of this design are known to lose tasks, repeat them, or stop. Each was seen in another one.

What happens when a worker dies is in `test_crashes`: that its batch is lost, that its state stays as it was, that its
room is never given back, that nobody takes its place, that a lock which it held is never free again. That the end takes
seconds is in `test_supervisor`.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter

import pytest

from manyhands_zoosync import QueueFull, Supervisor, UnknownFunction

from . import helpers
from .helpers import wait_until


@pytest.fixture(scope="module")
def queue():
    with Supervisor(2, num_slots=64, batch_size=10) as made:
        for function in (helpers.same, helpers.note, helpers.fail, helpers.add):
            made.register(function)
        made.start()
        yield made


def everything(queue):
    return [result.value for result in sorted(queue.results())]


@pytest.mark.parametrize("value", [7, 1.5, True])
def test_functions_of_plain_numbers_are_called(queue, value, tmp_path):
    queue.enqueue(helpers.add, value, value)
    assert everything(queue) == [value + value]


@pytest.mark.parametrize("tasks", [63, 64, 65, 128])
def test_a_full_ring_is_not_an_empty_one(queue, tasks):
    queue.enqueue_many(helpers.same, [(n,) for n in range(tasks)])
    assert everything(queue) == list(range(tasks))


def test_a_stream_that_fills_the_ring_again_and_again_goes_on(queue):
    for _ in range(5):
        queue.enqueue_many(helpers.same, ((n,) for n in range(1000)))
        assert everything(queue) == list(range(1000))


@pytest.mark.parametrize("batch_size", [10, 96])
def test_a_batch_need_be_no_power_of_two(batch_size, tmp_path):
    notes = tmp_path / "notes"
    with Supervisor(2, num_slots=1000, batch_size=batch_size) as queue:
        note = queue.register(helpers.note)
        queue.enqueue_many(note, [(str(notes), str(n)) for n in range(1000)])
        list(queue.results())
    assert Counter(notes.read_text().split()) == Counter(map(str, range(1000)))


def test_the_count_of_tasks_that_wait_never_drifts(queue):
    queue.enqueue_many(helpers.same, ((n,) for n in range(20_000)))
    assert everything(queue) == list(range(20_000))
    shared = queue._run.desk.queue
    with shared.guard:
        assert len(shared) == 0
        assert shared._head[0] == shared._tail[0] == queue.statistics.submitted


def test_the_signal_to_leave_reaches_every_worker():
    with Supervisor(3, batch_size=300) as queue:
        same = queue.register(helpers.same)
        queue.start()
        wait_until(lambda: (queue._run.desk.collect(), len(queue._run.desk.ready) == 3)[1])
        queue.enqueue(same, 1)
        assert everything(queue) == [1]
        begun = time.monotonic()
    assert time.monotonic() - begun < 3
    assert [worker.state.name for worker in queue.statistics.workers] == ["ENDED"] * 3


@pytest.mark.parametrize("value", [2**63 + 5, -(2**63) - 1, 2**64, 10**40])
def test_integers_do_not_wrap(queue, value):
    queue.enqueue(helpers.same, value)
    assert everything(queue) == [value]


def test_a_task_for_which_there_is_no_room_is_not_dropped_in_silence():
    with Supervisor(1, num_slots=1, batch_size=1, enqueue_timeout=0.0) as queue:
        slow = queue.register(helpers.slow)
        with pytest.raises(QueueFull):
            queue.enqueue_many(slow, [(0.1,)] * 20)
        taken = queue.statistics.submitted
        assert 1 <= taken < 20
        assert everything(queue) == [0.1] * taken


def test_a_task_for_an_unknown_function_is_not_dropped_in_silence(queue):
    for number in (4, -1, 2**32):
        with pytest.raises(UnknownFunction):
            queue.enqueue(number, 1)
    assert everything(queue) == []


def test_results_and_exceptions_come_back(queue):
    queue.enqueue(helpers.same, "value")
    queue.enqueue(helpers.fail, "reason")
    good, bad = sorted(queue.results())
    assert (good.value, good.error) == ("value", None)
    assert isinstance(bad.error, ValueError)


def test_nobody_moves_a_count_without_the_lock(queue):
    """So that no processor shows a count before what it counts."""
    shared = queue._run.desk.queue
    begun = threading.Event()

    def put():
        begun.set()
        queue.enqueue(helpers.same, 1)

    with shared.guard:
        before = shared._tail[0]
        thread = threading.Thread(target=put)
        thread.start()
        begun.wait()
        time.sleep(0.05)
        assert shared._tail[0] == before
    thread.join()
    assert everything(queue) == [1]


def test_the_tracker_of_resources_is_left_alone():
    code = """
import sys
from manyhands_zoosync import Supervisor
with Supervisor(1) as queue:
    queue.enqueue(queue.register(len), "abc")
    assert [result.value for result in queue.results()] == [3]
assert "multiprocessing.resource_tracker" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
