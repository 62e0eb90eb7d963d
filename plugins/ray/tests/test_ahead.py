"""The chunk that waits in a worker while another runs there: when it begins, and what becomes of it if it does not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest

from manyhands.chunks import Chunk, ChunkKind, ChunkResult
from manyhands.worker.cell import ProgressCell
from manyhands_ray import hand as hands
from manyhands_ray.board import Board, pid_space
from manyhands_ray.hand import Hand, State
from manyhands_ray.line import Task
from manyhands_ray.supervisor import Supervisor
from manyhands_ray.work import Work
from manyhands_ray.workshop import Workshop

from .support import LIMIT


class Bed:
    """A worker whose calls are answered by nobody, and what it is to do."""

    def __init__(self, folder: Path) -> None:
        self.work = Work()
        self.called: list[int] = []
        shop = Workshop(folder, "board", None, None, {}, lambda _: None, lambda _: (False, False))
        self.hand = Hand(1, shop, SimpleNamespace(run=SimpleNamespace(remote=self._call)))
        self.there = Board(folder / "board1")
        self.hand.meet(msgpack.packb({"pid": 1, "host": "here", "near": True, "space": pid_space(), "versions": {}}))
        self.hand.be_ready("one")

    def _call(self, _: bytes, call: int) -> Any:
        self.called.append(call)
        return SimpleNamespace(future=Future)

    def give(self, count: int = 1) -> list[Task]:
        """Another call, with so many chunks."""
        for number in range(count):
            self.work.add((Chunk(number, 0, 1, ChunkKind.PACKED, b"\x91\x80"), Future[ChunkResult]()))
        take = self.work.take_ahead if self.hand.state is State.BUSY else self.work.take
        tasks = take(self.hand, count)
        assert len(tasks) == count
        self.hand.give(tasks, lambda _: None)
        return tasks

    def settle(self, count: int = 1) -> tuple[list[Task | None], list[Task]]:
        """It has answered: so many have run."""
        settled = self.hand.settle(count)
        self.work.put_back(*self.hand.line.go_on(self.work.begin))
        return settled


@pytest.fixture
def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    """A worker that shares a board with the program."""
    monkeypatch.setattr(hands, "check_connection", lambda: None)
    made = Bed(tmp_path)
    yield made
    made.there.close()
    made.hand._killed = 0.0  # there is no actor to be killed
    made.hand.bury()


def test_the_second_call_begins_when_the_first_is_answered(bed: Bed) -> None:
    (first,), (second,) = bed.give(), bed.give()
    assert (bed.called, bed.hand.has_room) == ([1, 2], False)
    bed.there.wait(1)
    assert bed.there.begin(1)
    waiting = threading.Thread(target=bed.there.wait, args=(2,), daemon=True)
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    assert (first[1].running(), second[1].running()) == (True, False)
    assert bed.hand.progress(second[1]) is None
    assert bed.settle() == ([first], [])
    waiting.join(LIMIT)
    assert not waiting.is_alive()
    assert bed.there.begin(2)
    assert second[1].running()
    assert bed.settle() == ([second], [])
    assert (bed.hand.state, bed.hand.line.done) == (State.READY, 2)


@pytest.mark.parametrize("why", ["cancelled", "taken"])
def test_the_second_call_does_not_begin_if_it_is_not_wanted(bed: Bed, why: str) -> None:
    _, (second,) = bed.give(), bed.give()
    assert bed.there.begin(1)
    if why == "cancelled":
        assert second[1].cancel()
    else:
        assert bed.hand.line.take_next() == [second]
    bed.settle()
    bed.there.wait(2)
    assert not bed.there.begin(2)
    (third,) = bed.give()
    assert bed.settle(0) == ([], [])
    assert bed.there.begin(3)
    assert bed.settle() == ([third], [])
    assert (bed.hand.state, bed.hand.line.done, second[1].running()) == (State.READY, 2, False)


def test_what_waits_at_a_worker_that_is_killed_does_not_begin(bed: Bed) -> None:
    """The answer to the first may have been under way."""
    (first,), (second,) = bed.give(), bed.give()
    assert bed.there.begin(1)
    bed.hand._killed = 0.0
    supervisor = object.__new__(Supervisor)
    supervisor._work = bed.work
    supervisor._evict(first[1])
    assert bed.settle() == ([first], [])
    assert not bed.there.begin(2)
    assert (bed.work.waiting, second[1].running()) == (1, False)


def test_a_call_whose_first_chunk_is_cancelled_gives_the_others_back(bed: Bed) -> None:
    bed.give()
    first, *others = bed.give(3)
    assert first[1].cancel()
    bed.settle()
    assert not bed.there.begin(2)
    assert bed.work.take_ahead(bed.hand, 2) == others


def test_a_worker_that_sees_no_board_has_one_call(bed: Bed) -> None:
    bed.hand.is_near = False
    bed.give()
    assert (bed.called, bed.hand.has_room) == ([0], False)


def test_of_several_chunks_in_a_call_the_first_counts_as_running(bed: Bed) -> None:
    tasks = bed.give(3)
    assert [future.running() for _, future in tasks] == [True, False, False]
    ProgressCell(bed.there.word).begin(tasks[0][0])
    assert bed.hand.progress(tasks[0][1]) is None  # it may have run, and wait for the others
    assert bed.hand.last_progress() is not None
    assert bed.there.begin(1)
    bed.hand.line.take_others()
    assert bed.hand.progress(tasks[0][1]) is not None


@pytest.mark.parametrize("begun", range(4))
def test_a_call_is_cut_down_to_what_runs(bed: Bed, begun: int) -> None:
    tasks = bed.give(3)
    assert all(bed.there.begin(1) for _ in range(begun))
    assert bed.hand.line.cut() == []  # it is not slow
    bed.hand.line._since -= 1
    running = tasks[begun - 1] if begun else None
    assert bed.hand.line.cut() == [task for task in tasks if task is not running]
    assert bed.hand.line.cut() == []
    assert bed.hand.line.sole is running
    assert not bed.there.begin(1)
    assert bed.settle(begun) == ([*[None] * (begun - 1), running] if running else [], [])
    assert bed.hand.line.done == begun == bed.there.begun


def test_what_a_call_had_no_time_for_is_given_back(bed: Bed) -> None:
    tasks = bed.give(3)
    assert bed.there.begin(1)
    assert bed.settle(1) == (tasks[:1], tasks[1:])


@pytest.mark.parametrize("begun", range(4))
def test_of_a_worker_that_is_dead_all_but_what_ran_is_given_back(bed: Bed, begun: int) -> None:
    tasks, ahead = bed.give(3), bed.give(2)
    assert all(bed.there.begin(1) for _ in range(begun))
    running = tasks[begun - 1] if begun else None
    assert bed.hand.line.take_others() == [task for task in [*tasks, *ahead] if task is not running]
    assert bed.hand.line.take_others() == []
    assert (bed.hand.line.task, bed.hand.has_begun) == (running, begun > 0)


def test_a_worker_that_goes_on_until_it_is_stopped(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it runs by then is what is left of its call."""
    tasks = bed.give(3)
    assert bed.there.begin(1)
    stop = Board.stop
    monkeypatch.setattr(Board, "stop", lambda board, call: (bed.there.begin(call), stop(board, call)))
    assert bed.hand.line.task is tasks[0]
    assert bed.hand.line.take_others() == [tasks[0], tasks[2]]
    assert bed.hand.line.task is tasks[1]


def test_who_dies_as_it_is_stopped_was_at_what_it_ran(bed: Bed) -> None:
    tasks = bed.give(3)
    assert bed.there.begin(1)
    bed.hand.line.take_others()
    bed.there.words[1] += 1
    assert bed.hand.line.task is tasks[0]
