"""Cells of shared memory, and the board of an engine that is made of them: nothing that is read is torn."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from manyhands.engines.board import Board, Status
from manyhands.processes.cells import CellReader, CellWriter, cell_bytes
from manyhands.processes.owner import Owner
from manyhands.report import FlowReport

WORDS = 3
PIPES = 8
FIELDS = len(Status._fields)

WRITER = """
import sys
from itertools import count
from pathlib import Path
from manyhands.engines.board import Board, Status

with Board(Path(sys.argv[1])) as board:
    for number in count(1):
        board.write(1, Status(*[number + place for place in range(len(Status._fields))]))
"""


@pytest.fixture
def memory() -> memoryview:
    return memoryview(bytearray(cell_bytes(WORDS)))


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Board.create(PIPES) as made:
        yield made
        made.remove()


def test_a_cell_has_whole_lines() -> None:
    assert [cell_bytes(words) for words in (1, 6, 7, 14, 15)] == [64, 64, 128, 128, 192]


def test_what_is_written_is_read(memory: memoryview) -> None:
    writer, reader = CellWriter(memory), CellReader(memory, WORDS)
    assert reader.read() == bytes(8 * WORDS)
    for number in range(3):
        writer.write(bytes([number]) * 8 * WORDS)
        assert reader.read() == bytes([number]) * 8 * WORDS
        assert reader.read() is reader.read()


def test_half_written_is_not_read(memory: memoryview) -> None:
    writer, reader, words = CellWriter(memory), CellReader(memory, WORDS), memory.cast("Q")
    writer.write(b"a" * 8 * WORDS)
    before = reader.read()
    words[0] += 1  # it is writing, or died of it
    words[2] = 6
    assert reader.read() is before
    words[0] += 1  # a processor that shows this before the check sum
    assert reader.read() is before


def test_the_next_writer_goes_on_where_one_died_writing(memory: memoryview) -> None:
    memory.cast("Q")[0] = 7
    CellWriter(memory).write(b"a" * 8 * WORDS)
    assert CellReader(memory, WORDS).read() == b"a" * 8 * WORDS


def test_a_board_has_a_cell_for_each_pipe(board: Board) -> None:
    status = Status(*range(1, FIELDS + 1))
    board.write(1, status)
    assert [board.read(pipe) for pipe in range(3)] == [Status(), status, Status()]
    assert not board.is_cancelled
    with Board(board.path) as other:
        other.cancel()
        other.write(2, status)
    assert board.is_cancelled
    assert board.read(2) == status


def test_nobody_else_can_open_a_board(board: Board) -> None:
    assert board.path.stat().st_mode & 0o777 == 0o600


def test_no_read_of_a_board_is_torn(board: Board) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, board.path]) as writer:
        try:
            end, seen = time.monotonic() + 60, set()
            while len(seen) < 5000:
                status = board.read(1)
                assert status == Status() or list(status) == list(range(status[0], status[0] + FIELDS))
                seen.add(status.read)
                assert time.monotonic() < end
        finally:
            writer.kill()


def test_to_look_and_to_say_cost_next_to_nothing(board: Board) -> None:
    """To look at all pipes 100 times a second takes 1 % of a core, to say how far one is 20 times a second 2 %."""
    report, worker, looking, saying = FlowReport("sync"), Owner.this(), [], []
    for _ in range(50):
        begun = time.thread_time()
        for pipe in range(PIPES):
            board.write(pipe, Status.of(report, worker, 0))
        saying.append((time.thread_time() - begun) / PIPES)
        begun = time.thread_time()
        for pipe in range(PIPES):
            board.read(pipe)
        looking.append(time.thread_time() - begun)
    assert min(looking) * 100 <= 0.01
    assert min(saying) * 20 <= 0.02
