"""The ring of slots: every task is handed out exactly once, whatever the fill and the batches."""

from __future__ import annotations

import ctypes
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands_zoosync import LocalTaskQueue, TaskSlot128
from manyhands_zoosync.arena import Arena
from manyhands_zoosync.layout import LINE, MOST_AT_ONCE, Layout
from manyhands_zoosync.slots import DATA_BYTES, SLOT, SLOT_BYTES
from manyhands_zoosync.taskqueue import Signal

from .helpers import shared_queue, slots


def ids_of(data):
    return [task[0] for task in LocalTaskQueue(data)]


def test_a_slot_is_what_the_structure_says():
    assert ctypes.sizeof(TaskSlot128) == SLOT.size == SLOT_BYTES == 128
    assert [name for name, _ in TaskSlot128._fields_] == ["tsk_id", "fn_id", "payload"]
    slot = TaskSlot128.from_buffer_copy(SLOT.pack(7, 2**32 - 1, 3, 4, b"data"))
    assert (slot.tsk_id, slot.fn_id, bytes(slot.payload)) == (7, 2**32 - 1, b"\3\4data" + bytes(DATA_BYTES - 4))


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(1, 1 << 20), st.integers(0, 1 << 20))
def test_nothing_overlaps_in_the_memory(num_slots, workers, ring_bytes, arena_bytes):
    layout = Layout(num_slots, workers, ring_bytes, arena_bytes)
    places = [(layout.lock, 64), (layout.head, 8), (layout.tail, 8), (layout.signal, 16), (layout.arena, arena_bytes)]
    for worker in range(workers):
        places += [(layout.claim(worker), 40), (layout.written(worker), 8), (layout.read(worker), 8)]
        places += [(layout.status(worker), 128), (layout.batch(worker), 300 * 128), (layout.ring(worker), ring_bytes)]
    places += [(layout.commits, 8 * num_slots), (layout.slots, 128 * num_slots)]
    places.sort()
    assert all(start + size <= other for (start, size), (other, _) in pairwise(places))
    assert sum(places[-1]) <= layout.size
    lined = [layout.claim(workers - 1), layout.status(0), layout.slots]
    assert not any(place % LINE for place in lined)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_task_is_claimed_once_and_in_order(data):
    num_slots = data.draw(st.one_of(st.integers(1, 9), st.integers(1, 700)), "num_slots")
    workers = data.draw(st.integers(1, 4), "workers")
    with shared_queue(num_slots, workers) as queue:
        put, claimed, waiting = 0, [], 0
        for _ in range(data.draw(st.integers(1, 25), "steps")):
            if data.draw(st.booleans()):
                wanted = data.draw(st.one_of(st.just(num_slots), st.integers(0, num_slots + 3)), "tasks")
                with queue.guard:
                    found = queue.put(slots(*range(put, put + wanted)))
                assert found == min(wanted, num_slots - waiting)
                put, waiting = put + found, waiting + found
            else:
                worker, most = data.draw(st.integers(0, workers - 1)), data.draw(st.integers(1, MOST_AT_ONCE), "batch")
                with queue.guard:
                    batch = queue.claim(worker, most)
                expected = min(most, -(-waiting // workers))
                assert len(batch.slots) // SLOT_BYTES == expected if batch else not expected
                if batch:
                    assert batch.first == len(claimed)
                    claimed += ids_of(batch.slots)
                    waiting -= expected
            with queue.guard:
                assert len(queue) == waiting
        assert claimed == list(range(len(claimed)))
        assert len(claimed) + waiting == put


@pytest.mark.parametrize("most", [1, 7, 10, 64, 96, 299, 300])
@pytest.mark.parametrize("num_slots", [1, 2, 63, 64, 65, 300, 1000])
def test_a_ring_that_is_exactly_full_is_emptied_again_and_again(num_slots, most):
    with shared_queue(num_slots, 1) as queue:
        for turn in range(3):
            tasks = range(turn * num_slots, (turn + 1) * num_slots)
            with queue.guard:
                assert queue.put(slots(*tasks)) == num_slots
                assert queue.put(slots(1)) == 0
                found = []
                while batch := queue.claim(0, most):
                    found += ids_of(batch.slots)
            assert found == list(tasks)


def test_counts_beyond_32_bits_are_counts_like_others():
    with shared_queue(5, 1) as queue:
        queue._head[0] = queue._tail[0] = 2**32 - 2
        for turn in range(4):
            with queue.guard:
                assert queue.put(slots(*range(turn, turn + 9))) == 5
                assert ids_of(queue.claim(0, 300).slots) == list(range(turn, turn + 5))
        assert queue._head[0] == 2**32 + 18


def test_a_task_that_is_not_committed_is_not_handed_out():
    with shared_queue(8, 1) as queue, queue.guard:
        queue.put(slots(1, 2, 3))
        queue._commits[1] = 0
        assert queue.claim(0, 300) is None
        queue._commits[1] = 2
        assert ids_of(queue.claim(0, 300).slots) == [1, 2, 3]


@pytest.mark.parametrize("is_behind", [False, True])
def test_what_a_dead_worker_had_claimed_is_there_for_its_supervisor_alone(is_behind):
    with shared_queue(8, 2) as queue, queue.guard:
        queue.put(slots(*range(8)))
        assert ids_of(queue.claim(0, 3).slots) == [0, 1, 2]
        queue.running(0)[0] = 2
        if is_behind:  # it died before it could say so
            queue._head[0] = 0
            queue.repair()
        assert ids_of(queue.claim(1, 2).slots) == [3, 4]
        queue.repair()
        claimed, running = queue.take_over(0)
        assert (claimed.first, ids_of(claimed.slots), running) == (0, [0, 1, 2], 2)
        assert queue.take_over(0)[0].slots == b""
        assert ids_of(queue.claim(1, 300).slots) == [5, 6]  # its share
        assert queue.take_over(1)[1] == 0


def test_a_signal_reaches_every_worker_and_uses_no_task_up():
    with shared_queue(8, 3) as queue, queue.guard:
        queue.put(slots(1, 2))
        queue.signal = Signal.TERMINATE
        assert [queue.signal for _ in range(3)] == [Signal.TERMINATE] * 3
        assert ids_of(queue.claim(0, 1).slots) == [1]
        queue.signal = Signal.ABORT
        assert queue.claim(1, 1) is None
        assert len(queue) == 1


def test_sleepers_are_woken_once_and_no_more_than_needed():
    with shared_queue(8, 3) as queue, queue.guard:
        assert list(queue.wake(5)) == []
        for worker in (0, 2):
            queue.fall_asleep(worker)
        assert not queue.wake_coordinator()
        queue.fall_asleep()
        assert list(queue.wake(1)) == [0]
        assert list(queue.wake(5)) == [2]
        assert list(queue.wake(5)) == []
        assert [queue.wake_coordinator() for _ in range(2)] == [True, False]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 700), st.none()), max_size=40))
def test_the_arena_gives_no_byte_away_twice_and_gets_all_back(steps):
    memory = memoryview(bytearray(2048))
    arena, held = Arena(memory), []
    for number, step in enumerate(steps):
        if step is None:
            if held:
                start, data = held.pop(number % len(held))
                arena.free(start, len(data))
        else:
            data = bytes([number % 255 + 1]) * step
            if (start := arena.put(data)) is not None:
                held.append((start, data))
        assert all(bytes(memory[start : start + len(data)]) == data for start, data in held)
    for start, data in held:
        arena.free(start, len(data))
    assert arena._free == [(0, 2048)]
    assert arena.free_bytes == 2048


def test_what_a_worker_has_begun_is_seen_until_it_claims_again():
    with shared_queue(4, 1) as queue:
        assert queue.at(0) is None
        with queue.guard:
            queue.put(slots(7, 8))
            queue.claim(0, 1)
        assert queue.at(0) is None
        queue.running(0)[0] = 1
        assert queue.at(0) == 7
        with queue.guard:
            queue.claim(0, 1)
        assert queue.at(0) is None


def test_how_far_a_dead_worker_was_is_not_said_of_the_next():
    with shared_queue(4, 2) as queue, queue.guard:
        queue.put(slots(7))
        queue.claim(1, 1)
        queue.running(1)[0], queue.progress(1)[0] = 1, 99
        assert queue.progress(0)[0] == 0
        queue.take_over(1)
        assert (queue.progress(1)[0], queue.at(1)) == (0, None)
