"""Status cells: whatever is read was written so, at one time."""

from __future__ import annotations

import os
import time

import pytest

from manyhands.processes.launch import make_launcher
from manyhands_zoosync import Statistics, WorkerState, WorkerStatus
from manyhands_zoosync.segment import Segment
from manyhands_zoosync.status import CELL_BYTES, StatusReader, StatusWriter, ram_bytes

from .helpers import LIMIT, wait_until

MASK = (1 << 64) - 1


@pytest.fixture
def segment():
    made = Segment.create(4096)
    yield made
    made.close()


@pytest.fixture
def cell(segment):
    return segment.view(128, CELL_BYTES)


def fill(writer, number):
    """Set every field to what follows from the number."""
    writer.total_processed = number
    writer.success_count = number * 3 & MASK
    writer.error_count = number ^ MASK
    writer.position = number * number & MASK
    writer.end = number << 32 & MASK
    writer.state = WorkerState(number % len(WorkerState))


def fits(status):
    number = status.total_processed
    expected = (number * 3 & MASK, number ^ MASK, number * number & MASK, number << 32 & MASK)
    found = (status.success_count, status.error_count, status.position, status.end)
    return found == expected and status.state == number % len(WorkerState)


def write_for_ever(fds):
    segment = Segment(fds[0], 4096)
    writer = StatusWriter(segment.view(128, CELL_BYTES))
    number = 0
    while True:
        number += 0x1_0000_0001
        fill(writer, number & MASK >> 1)
        writer.publish()


def test_a_cell_nobody_wrote_says_so(cell):
    assert StatusReader(cell).read() == WorkerStatus()
    assert WorkerStatus().pid is None  # 0 would be the caller's own process group for `os.kill`


def test_what_is_written_is_read(cell):
    writer, reader = StatusWriter(cell), StatusReader(cell)
    for number in (0, 1, 7, MASK >> 1):
        fill(writer, number)
        writer.publish()
        status = reader.read()
        assert fits(status)
        assert status.total_processed == number
    assert status.pid == os.getpid()
    assert abs(status.ram_bytes - ram_bytes()) < ram_bytes() / 2
    assert status.started <= status.heartbeat <= time.monotonic_ns()
    assert 0 <= status.silent_seconds < LIMIT


def test_half_written_is_not_read(cell):
    writer, reader = StatusWriter(cell), StatusReader(cell)
    fill(writer, 5)
    writer.publish()
    before = reader.read()
    words = cell.cast("Q")
    words[0] += 1  # it is writing, or died of it
    words[2] = 6
    assert reader.read() == before
    words[0] += 1  # a processor that shows this before the check sum
    assert reader.read() == before
    words.release()


def test_the_next_writer_goes_on_where_one_died_writing(cell):
    words = cell.cast("Q")
    words[0] = 7
    writer = StatusWriter(cell)
    fill(writer, 9)
    writer.publish()
    assert fits(StatusReader(cell).read())
    words.release()


def read_against_a_writer(segment, cell, reads):
    launcher = make_launcher("forkserver")
    child = launcher.start("plugins.zoosync.tests.test_status:write_for_ever", [segment.descriptor])
    reader, seen, changes, torn = StatusReader(cell), None, 0, 0
    try:
        wait_until(lambda: reader.read().pid)
        end = time.monotonic() + 100 * LIMIT
        while reads > 0 or changes < 50:
            reads -= 1
            assert time.monotonic() < end
            status = reader.read()
            if status is not seen:
                torn += not fits(status)
                changes, seen = changes + 1, status
    finally:
        child.close()
        launcher.close()
    assert torn == 0


def test_no_read_against_a_busy_writer_is_torn(segment, cell):
    read_against_a_writer(segment, cell, 100_000)


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_no_read_of_ten_millions_against_a_busy_writer_is_torn(segment, cell):
    read_against_a_writer(segment, cell, 10_000_000)


def test_polling_and_publishing_cost_next_to_nothing(segment):
    """All cells 100 times a second: 1 % of a core. A worker that publishes 100 times a second: 2 % of its time."""
    writers = [StatusWriter(segment.view(number * CELL_BYTES, CELL_BYTES)) for number in range(8)]
    readers = [StatusReader(segment.view(number * CELL_BYTES, CELL_BYTES)) for number in range(8)]
    publishing, polling = [], []
    for _ in range(200):
        begun = time.thread_time()
        for writer in writers:
            writer.total_processed += 1
            writer.publish()
        written = time.thread_time()
        for reader in readers:
            reader.read()
        publishing.append((written - begun) / len(writers))
        polling.append(time.thread_time() - written)
    assert min(polling) * 100 <= 0.01
    assert min(publishing) * 100 <= 0.02


@pytest.mark.parametrize(("replaced", "words"), [(1, "1 worker replaced"), (2, "2 workers replaced")])
def test_statistics_have_a_row_for_a_worker_that_never_ran(replaced, words):
    table = str(Statistics(1.0, 3, 1, 1, 1, replaced, [WorkerStatus(), WorkerStatus(pid=1234567)]))
    assert f"1 killed their workers; {words}\nworker   0  pid       -  " in table
    assert "\nworker   1  pid 1234567  " in table
