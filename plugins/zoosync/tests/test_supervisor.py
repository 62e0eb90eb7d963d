"""The queue with its workers, when nobody dies."""

from __future__ import annotations

import functools
import json
import logging
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manyhands.adapters.output_file import OutputFile
from manyhands.errors import (
    CallError,
    OptionsError,
    RunAborted,
    SinkError,
    UnpicklableError,
    UsageError,
    WorkerInitError,
)
from manyhands.processes.forkserver import ForkServerLauncher
from manyhands_zoosync import PayloadTooLarge, QueueFull, Supervisor, UnknownFunction, WorkerState, supervisor
from manyhands_zoosync.robust import has_robust_locks

from . import helpers
from .helpers import LIMIT, wait_until


@pytest.fixture(
    params=[pytest.param("robust", marks=pytest.mark.skipif(not has_robust_locks(), reason="none")), "file"]
)
def lock_kind(request, monkeypatch):
    """Every kind of lock."""
    monkeypatch.setattr(supervisor, "best_kind", lambda: request.param)


def values(results):
    """By id; whoever failed raises."""
    found = {}
    for tsk_id, value, error in results:
        assert tsk_id not in found
        if error:
            raise error
        found[tsk_id] = value
    return [found[tsk_id] for tsk_id in sorted(found)]


def test_tasks_of_several_functions_have_results_by_their_ids(lock_kind):
    with Supervisor(2) as queue:
        add, same = queue.register(helpers.add), queue.register(helpers.same)
        ids = [
            queue.enqueue(add, 1, 2),
            queue.enqueue(add, 1),
            queue.enqueue(helpers.add, left=[1], right=[2]),
            queue.enqueue(same, {"a": (1, 2**70)}),
            *queue.enqueue_many(same, ((n,) for n in range(1000))),
            *queue.enqueue_many(same, [[(1,)], (b"x" * 5000,)]),
            *queue.enqueue_many(same, []),
        ]
        assert ids == list(range(1, 1007))
        found = values(queue.results())
        assert found == [3, 2, [1, 2], {"a": (1, 2**70)}, *range(1000), (1,), b"x" * 5000]
        assert queue.enqueue(same, 5) == 1007
        assert values(queue.results()) == [5]
        assert list(queue.results()) == []
        assert queue.statistics.succeeded == 1007


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(st.integers(1, 5), st.integers(6, 400)),
    st.one_of(st.sampled_from([1, 10, 64, 96, 300]), st.integers(1, 300)),
    st.integers(1, 3),
    st.integers(-1, 2),
)
def test_every_task_is_run_exactly_once(tmp_path_factory, num_slots, batch_size, workers, beyond):
    path = tmp_path_factory.mktemp("notes") / "notes"
    tasks = max(num_slots + beyond, 0) or 2 * num_slots
    with Supervisor(workers, num_slots=num_slots, batch_size=batch_size) as queue:
        note = queue.register(helpers.note)
        queue.enqueue_many(note, [(str(path), str(n)) for n in range(tasks)])
        assert values(queue.results()) == list(map(str, range(tasks)))
    assert sorted(map(int, path.read_text().split())) == list(range(tasks))


def test_exceptions_come_back_as_they_are_and_harm_nobody_else():
    with Supervisor(1) as queue:
        fail, same, leave = queue.register(helpers.fail), queue.register(helpers.same), queue.register(sys_exit)
        queue.enqueue(same, 1)
        queue.enqueue(fail, "bad")
        queue.enqueue(leave, 3)
        queue.enqueue(fail)
        queue.enqueue(same, 2)
        results = sorted(queue.results())
    assert [result.value for result in results] == [1, None, None, None, 2]
    assert isinstance(results[1].error, ValueError)
    assert "helpers.py" in str(results[1].error.__cause__)
    assert isinstance(results[2].error, SystemExit)
    assert isinstance(results[3].error, TypeError)
    assert (queue.statistics.succeeded, queue.statistics.failed, queue.statistics.replaced) == (2, 3, 0)


def sys_exit(code):
    raise SystemExit(code)


def test_functions_of_every_kind_travel():
    with Supervisor(1) as queue:
        ids = [queue.register(function) for function in (lambda n: n + 1, functools.partial(helpers.add, 5), len)]
        assert ids == [0, 1, 2]
        for fn_id, argument in zip(ids, (1, 2, "abc"), strict=True):
            queue.enqueue(fn_id, argument)
        assert values(queue.results()) == [2, 7, 3]


def test_arguments_and_results_larger_than_their_room_go_through():
    with Supervisor(2, arena_bytes=1 << 20, ring_bytes=1000, batch_size=3) as queue:
        size, many = queue.register(helpers.size), queue.register(helpers.many)
        queue.enqueue_many(size, ((b"x" * n,) for n in range(0, 300_000, 10_000)))
        queue.enqueue(many, 200_000)
        found = values(queue.results())
        assert found[:-1] == list(range(0, 300_000, 10_000))
        assert found[-1] == b"x" * 200_000
        assert queue._run.desk.arena.free_bytes == 1 << 20


def test_the_edge_of_a_slot():
    at = {size: "x" * (size - 3) for size in (117, 118, 119, 120)}  # with a byte for the list and two for the string
    with Supervisor(1, arena_bytes=64) as queue:
        same = queue.register(helpers.same)
        queue.enqueue_many(same, [(at[117],), (at[118],)])
        for size in (119, 120):
            with pytest.raises(PayloadTooLarge):
                queue.enqueue(same, at[size])
        assert values(queue.results()) == [at[117], at[118]]
    with Supervisor(1, arena_bytes=128) as queue:
        same = queue.register(helpers.same)
        queue.enqueue_many(same, [(at[119],), (at[118],), (at[120],)])
        assert values(queue.results()) == [at[119], at[118], at[120]]


def test_who_finds_no_room_in_time_is_told_and_nothing_is_half_done():
    with Supervisor(1, num_slots=2, batch_size=1, enqueue_timeout=0.1) as queue:
        slow = queue.register(helpers.slow)
        queue.start()
        for _ in range(3):
            queue.enqueue(slow, 0.6)
        begun = time.monotonic()
        with pytest.raises(QueueFull, match=r"within 0\.1 seconds"):
            queue.enqueue(slow, 9)
        assert 0.1 <= time.monotonic() - begun < 5
        with pytest.raises(QueueFull):
            queue.enqueue_many(slow, [(9,), (9,)])
        assert values(queue.results()) == [0.6] * 3
        assert queue.enqueue(slow, 0) == 4
        assert values(queue.results()) == [0]


def test_an_endless_source_is_read_only_as_there_is_room():
    read = 0

    def source():
        nonlocal read
        while True:
            read += 1
            yield (0.01,)

    with Supervisor(1, num_slots=8, batch_size=2, enqueue_timeout=0.0) as queue:
        slow = queue.register(helpers.slow)
        with pytest.raises(QueueFull):
            queue.enqueue_many(slow, source())
        assert read <= 8 + 2 * 256


def test_nobody_need_fetch_results_for_tasks_to_go_in():
    """Neither end waits for the other: what fills up on the one side is taken while there is no room on the other."""
    with Supervisor(2, num_slots=4, ring_bytes=64, batch_size=2) as queue:
        many = queue.register(helpers.many)
        queue.enqueue_many(many, [(500,)] * 60)
        assert values(queue.results()) == [b"x" * 500] * 60


def test_ids_never_come_again_when_those_in_slots_do():
    with Supervisor(2, num_slots=16, batch_size=4, arena_bytes=1 << 16) as queue:
        same = queue.register(helpers.same)
        queue.start()
        first = 2**32 - 40
        queue._run.feeder.next_id = first
        data = b"x" * 200
        ids = [*queue.enqueue_many(same, [(n,) for n in range(30)]), *queue.enqueue_many(same, [(data,)] * 30)]
        ids += [queue.enqueue(same, None), *queue.enqueue_many(same, [(1,)] * 300)]
        assert ids == list(range(first, first + 361))
        assert [result.tsk_id for result in sorted(queue.results())] == ids
        assert queue._run.desk.arena.free_bytes == 1 << 16


def test_what_is_wrong_is_said_before_anything_runs():
    for options, message in (
        ({"workers": 0}, "workers must be at least 1"),
        ({"num_slots": 0}, "num_slots must be at least 1"),
        ({"batch_size": 301}, "batch_size must be between 1 and 300, not 301"),
        ({"start_method": "fork"}, "start_method must be one of .*forkserver.*, not 'fork': a run has threads"),
    ):
        with pytest.raises(OptionsError, match=message):
            Supervisor(**options)
    with Supervisor(1, arena_bytes=1000) as queue:
        with pytest.raises(UnpicklableError, match="lock"):
            queue.register(functools.partial(helpers.same, threading.Lock()))
        same = queue.register(helpers.same)
        with pytest.raises(UnknownFunction, match="the function fail is not registered"):
            queue.enqueue(helpers.fail, "x")
        with pytest.raises(UnknownFunction, match="fn_id 1"):
            queue.enqueue_many(1, [()])
        with pytest.raises(CallError, match="cannot be sent to a worker process"):
            queue.enqueue(same, threading.Lock())
        with pytest.raises(PayloadTooLarge, match="raise arena_bytes"):
            queue.enqueue_many(same, [(1,), (b"x" * 1001,)])
        with pytest.raises(UsageError, match=r"must be the sequence of a call's arguments, .*, not int$"):
            queue.enqueue_many(same, [(2,), 3])
        assert values(queue.results()) == [1, 2]
        with pytest.raises(UsageError, match="before the first task"):
            queue.register(helpers.fail)
    with pytest.raises(UsageError, match="closed"):
        queue.enqueue(same, 1)


def test_a_function_that_cannot_be_loaded_there_is_the_error_of_the_run():
    class Odd:
        def __reduce__(self):
            return exec, ("raise RuntimeError('not here')",)

        def __call__(self):
            pass

    with Supervisor(2) as queue:
        queue.register(Odd())
        with pytest.raises(WorkerInitError, match="RuntimeError: not here"):
            queue.start()
        with pytest.raises(WorkerInitError):
            queue.enqueue(0)


def test_a_run_prints_its_statistics_and_keeps_its_results(capsys):
    queue = Supervisor(2)
    same, fail = queue.register(helpers.same), queue.register(helpers.fail)

    def feed():
        queue.enqueue_many(same, [(n,) for n in range(99)])
        queue.enqueue(fail, "x")

    statistics = queue.run(feed)
    printed = capsys.readouterr().out
    assert printed == f"{statistics}\n"
    assert "100 tasks in" in printed
    assert "99 succeeded, 1 failed, 0 not run" in printed
    assert printed.count("worker ") == 2
    assert sum(worker.total_processed for worker in statistics.workers) == 100
    assert {worker.state for worker in statistics.workers} == {WorkerState.ENDED}
    assert len(list(queue.results())) == 100
    assert list(queue.results()) == []
    queue.close()


def test_results_are_kept_in_a_file_that_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "results.jsonl"
    queue = Supervisor(1, results_file=path)
    same, fail = queue.register(helpers.same), queue.register(helpers.fail)
    queue.enqueue_many(same, [((1, "a"),), (None,)])
    queue.enqueue(fail, "x")
    assert not path.exists()
    queue.run(show=False)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(lines, key=lambda line: line["tsk_id"]) == [
        {"tsk_id": 1, "value": [1, "a"]},
        {"tsk_id": 2, "value": None},
        {"tsk_id": 3, "error": "ValueError: x"},
    ]
    assert list(queue.results()) == []


def test_results_of_a_run_that_was_not_finished_do_not_look_complete(tmp_path):
    path = tmp_path / "results.jsonl"
    with Supervisor(1, batch_size=1, results_file=path) as queue:
        slow = queue.register(helpers.slow)
        queue.enqueue_many(slow, [(0,), (60,)])
        wait_until(lambda: queue._run.desk.collect() and queue.statistics.succeeded)
    assert not path.exists()
    assert (tmp_path / "results.jsonl.partial").read_text() == '{"tsk_id":1,"value":0}\n'


def test_results_of_a_run_whose_source_failed_do_not_look_complete(tmp_path):
    def source():
        yield (1,)
        yield (2,)
        raise LookupError("no more")

    path = tmp_path / "results.jsonl"
    queue = Supervisor(1, results_file=path)
    same = queue.register(helpers.same)
    with pytest.raises(LookupError):
        queue.run(lambda: queue.enqueue_many(same, source()))
    assert not path.exists()
    assert queue.statistics.submitted == 2  # what came before is in


def test_a_file_that_cannot_be_written_ends_the_run(tmp_path, monkeypatch):
    def refuse(self, data):
        raise SinkError("the disk is full")

    path = tmp_path / "results.jsonl"
    queue = Supervisor(1, results_file=path)
    same = queue.register(helpers.same)
    monkeypatch.setattr(OutputFile, "write", refuse)
    with pytest.raises(SinkError, match="the disk is full"):
        queue.run(lambda: queue.enqueue_many(same, [(n,) for n in range(10_000)]))
    assert not path.exists()


def test_workers_that_cannot_be_started_are_the_error_of_the_run(monkeypatch):
    def refuse(self, main, fds):
        raise OSError("no more processes")

    monkeypatch.setattr(ForkServerLauncher, "start", refuse)
    with Supervisor(2) as queue, pytest.raises(WorkerInitError, match="no more processes"):
        queue.start()


def test_a_slow_source_does_not_keep_what_it_has_given_from_the_workers():
    done = []

    def source():
        for n in range(12):
            yield (n,)
            time.sleep(0.03)
            queue._run.desk.collect()
            done.append(queue.statistics.succeeded)

    with Supervisor(1) as queue:
        same = queue.register(helpers.same)
        queue.start()
        queue.enqueue_many(same, source())
        assert done[-1] >= 6
        assert values(queue.results()) == list(range(12))


def test_a_source_may_put_tasks_in():
    with Supervisor(1) as queue:
        same = queue.register(helpers.same)
        queue.enqueue_many(same, ((queue.enqueue(same, n),) for n in range(3)))
        # The blocks have 1 and 2 tasks: ids 2, 5 and 6. Those of the source are 1, 3 and 4, which are what it gives.
        assert values(queue.results()) == [0, 1, 1, 2, 3, 4]


def test_what_a_task_forks_is_not_a_second_worker(caplog, tmp_path):
    notes = tmp_path / "notes"
    with caplog.at_level(logging.INFO, "manyhands.worker"), Supervisor(1) as queue:
        fork, note = queue.register(os.fork), queue.register(helpers.note)
        queue.enqueue(fork)
        queue.enqueue_many(note, [(str(notes), str(n)) for n in range(100)])
        results = sorted(queue.results())
        assert results[0].value > 0
        assert len(results) == 101
        wait_until(lambda: "came back from the task" in caplog.text)
    assert len(notes.read_text().split()) == 100


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="nobody says what is mapped")
def test_a_closed_one_has_no_memory_mapped():
    queue = Supervisor(2)
    queue.enqueue(queue.register(helpers.same), 1)
    list(queue.results())
    queue.close()
    assert "memfd:manyhands" not in Path("/proc/self/maps").read_text()


def test_closing_ends_what_still_runs_and_whoever_waits():
    queue = Supervisor(2, num_slots=1, batch_size=1)
    slow = queue.register(helpers.slow)
    errors = []

    def feed():
        try:
            queue.enqueue_many(slow, [(60,)] * 10)
        except RunAborted as error:
            errors.append(error)

    queue.start()
    thread = threading.Thread(target=feed)
    thread.start()
    wait_until(lambda: queue.statistics.submitted == 3)
    begun = time.monotonic()
    queue.close()
    thread.join()
    assert time.monotonic() - begun < 3
    assert len(errors) == 1
    assert "3 not run" in str(queue.statistics)


def test_what_workers_are_doing_is_seen_while_they_do_it():
    with Supervisor(1, batch_size=50) as queue:
        slow = queue.register(helpers.slow)
        queue.start()
        wait_until(lambda: queue.status()[0].state == WorkerState.IDLE)
        queue.enqueue_many(slow, [(0.02,)] * 50)
        counts = set()
        end = time.monotonic() + LIMIT
        while len(counts) < 5 and time.monotonic() < end:
            status = queue.status()[0]
            if status.state == WorkerState.RUNNING:
                counts.add(status.total_processed)
                assert status.position in range(1, 51)
        assert len(counts) == 5  # inside one batch
        assert status.pid in queue._run._staff.pids()
        assert status.ram_bytes > 1 << 20
        assert values(queue.results()) == [0.02] * 50


def test_a_worker_that_is_stuck_is_known_by_its_silence():
    with Supervisor(1) as queue:
        stuck = queue.enqueue(queue.register(helpers.slow), 60)
        wait_until(lambda: queue.status()[0].state == WorkerState.RUNNING)
        wait_until(lambda: queue.status()[0].silent_seconds > 0.3)
        assert queue.status()[0].position == stuck


def test_what_tasks_print_goes_to_the_log(caplog, capfd):
    with caplog.at_level(logging.INFO, "manyhands.worker"), Supervisor(1) as queue:
        queue.enqueue(queue.register(print), "hello")
        list(queue.results())
    assert [record.message.partition(": ")[2] for record in caplog.records] == ["hello"]
    assert capfd.readouterr() == ("", "")


def test_threads_may_share_it():
    with Supervisor(2, num_slots=64) as queue:
        add = queue.register(helpers.add)
        threads = [
            threading.Thread(target=queue.enqueue_many, args=(add, [(base, n) for n in range(1000)]))
            for base in (0, 10_000, 20_000)
        ]
        for thread in threads:
            thread.start()
        found = []
        while any(thread.is_alive() for thread in threads):
            found += queue.results()
            time.sleep(0)
        found += queue.results()
        assert sorted(result.value for result in found) == [
            base + n for base in (0, 10_000, 20_000) for n in range(1000)
        ]
        assert sorted(result.tsk_id for result in found) == list(range(1, 3001))


def test_the_end_comes_soon_after_the_last_task():
    times = []
    while not times or (times[-1] >= 0.1 and len(times) < 5):  # the machine may have been busy
        with Supervisor(2) as queue:
            same = queue.register(helpers.same)
            queue.start()
            queue.enqueue_many(same, [(n,) for n in range(1000)])
            assert len(list(queue.results())) == 1000
            begun = time.monotonic()
            queue.run(show=False)
            times.append(time.monotonic() - begun)
    assert times[-1] < 0.1


def test_workers_may_be_fresh_interpreters():
    with Supervisor(2, start_method="spawn") as queue:
        pid = queue.register(helpers.pid)
        queue.enqueue_many(pid, [(n,) for n in range(200)])
        assert os.getpid() not in values(queue.results())


def test_who_looks_while_it_is_closed_sees_what_was_last():
    """The terminal does, in a thread of its own."""
    queue = Supervisor(1)
    queue.register(helpers.same)
    with queue:
        queue.enqueue(helpers.same, 1)
        list(queue.results())
        run = queue._run
    assert run.desk.statuses() == run.statistics().workers == queue.status()
    assert [worker.success_count for worker in queue.status()] == [1]


def test_who_waits_while_it_is_closed_reads_nothing_of_other_files():
    queue = Supervisor(1)
    queue.register(helpers.same)
    with queue:
        queue.start()
        desk = queue._run.desk
    other, says = os.pipe()
    os.set_blocking(other, False)
    try:
        desk.bell = other  # the number that it had may be given to another file
        os.write(says, b"for somebody else")
        desk.hear_bell()
        assert os.read(other, 100) == b"for somebody else"
    finally:
        os.close(other)
        os.close(says)


def fails_after_one(queue, slow):
    """A feed that raises when a task is done and another under way."""
    queue.enqueue(helpers.same, 1)
    assert list(queue.results()) == []  # it is in the file
    queue.enqueue(slow, LIMIT)
    wait_until(lambda: queue.status()[0].state is WorkerState.RUNNING)
    raise KeyboardInterrupt


@pytest.mark.parametrize("show", [True, False])
def test_what_was_done_is_told_when_the_run_is_interrupted(tmp_path, capsys, show):
    queue = Supervisor(1, results_file=tmp_path / "out.jsonl")
    queue.register(helpers.same)
    slow = queue.register(time.sleep)
    with pytest.raises(KeyboardInterrupt):
        queue.run(lambda: fails_after_one(queue, slow), show=show)
    partial = tmp_path / "out.jsonl.partial"
    assert partial.read_text() == '{"tsk_id":1,"value":1}\n'
    lines = capsys.readouterr().out.splitlines()
    if show:
        assert lines[0].endswith(": 1 succeeded, 0 failed, 1 not run")
        assert lines[-1] == f"the file of results is not complete: what was written is in {partial}"
    else:
        assert lines == []


class InterruptedOnce:
    """A thread for which somebody waits who is interrupted meanwhile."""

    def __init__(self, thread):
        self.thread = thread
        self.joined = 0
        self.is_alive = thread.is_alive

    def join(self):
        self.joined += 1
        if self.joined == 1:
            raise KeyboardInterrupt
        self.thread.join()


def test_nothing_is_left_when_the_end_is_interrupted_as_well(tmp_path):
    queue = Supervisor(1, results_file=tmp_path / "out.jsonl")
    queue.register(helpers.same)
    slow = queue.register(time.sleep)
    queue.enqueue_many(slow, [(LIMIT,)] * 2)
    wait_until(lambda: queue.status()[0].state is WorkerState.RUNNING)
    staff = queue._run._staff
    thread = staff._thread = InterruptedOnce(staff._thread)
    with pytest.raises(KeyboardInterrupt):
        queue.close()
    assert thread.joined == 2
    assert (queue.statistics.submitted, queue.statistics.succeeded) == (2, 0)
    assert queue._run is None
    assert list(tmp_path.iterdir()) == []  # the file of results was empty, and nobody holds it
    OutputFile(tmp_path / "out.jsonl").discard()
