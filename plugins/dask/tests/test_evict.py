"""A chunk is taken off its worker: what has begun is killed, what has not is cancelled; only the worker knows which."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from manyhands import BaseHook, Chunk, ChunkKind, WorkerContext
from manyhands.errors import WorkerLost
from manyhands.worker import codec
from manyhands_dask import DaskExecutor
from manyhands_dask.hand import Hand
from manyhands_dask.keeper import Keeper
from manyhands_dask.tasks import Task

from .clusters import Cluster, cluster, has_ended, wait_until

FIRST, SECOND = 1, 2
SECONDS = 60


class Spins(BaseHook):
    """Says which process has begun a record, and is in it until it may end."""

    def __init__(self, folder: Path, *, replay: bool = True) -> None:
        super().__init__()
        self.folder = folder
        self.replay = replay

    def execute(self, entries: list[Any], store: Any) -> None:
        k = entries[0]["raw_data"]["k"]
        (self.folder / f"{k}.part").write_text(str(os.getpid()))
        (self.folder / f"{k}.part").rename(self.folder / str(k))
        while not (self.folder / "over").exists():
            time.sleep(0.01)


class Running:
    """An executor that runs a chunk in one process, and has another."""

    def __init__(self, cluster: Cluster, folder: Path, seats: int = 1, *, replay: bool = True) -> None:
        self.folder = folder
        self.executor = DaskExecutor(address=cluster.address, max_workers=seats)
        self.executor.start(WorkerContext(pre_hooks=[Spins(folder, replay=replay)]))
        self.first = self._submit(FIRST)
        wait_until(lambda: self.ran(FIRST), "the first chunk runs")
        self.process = psutil.Process(self.pid_of(FIRST))
        self.second = self._submit(SECOND)

    def _submit(self, k: int) -> Future[Any]:
        return self.executor.submit(Chunk(k, k, 1, ChunkKind.PACKED, codec.dumps([{"k": k}])))

    def evict(self, future: Future[Any]) -> None:
        assert self.executor.evict(future)

    def ran(self, k: int) -> bool:
        return (self.folder / str(k)).exists()

    def pid_of(self, k: int) -> int:
        return int((self.folder / str(k)).read_text())

    def end(self) -> None:
        (self.folder / "over").touch()
        self.executor.shutdown()


@contextmanager
def one_seat(shared: Cluster, folder: Path) -> Iterator[Running]:
    """The second chunk waits behind the first."""
    made = Running(shared, folder)
    try:
        yield made
    finally:
        made.end()
        shared.wait_for_workers(2)


def is_cancelled(future: Future[Any]) -> bool:
    return not wait([future], SECONDS).not_done and future.cancelled()


def is_lost(future: Future[Any]) -> bool:
    return isinstance(future.exception(SECONDS), WorkerLost)


def hold_back_begins(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What workers say of chunks that begin is under way, until the function is called that this gives."""
    hear = Hand._hear_of_chunk
    held: list[Callable[[], object]] = []

    def hear_later(hand: Hand, what: str, *about: Any) -> None:
        if what != "begun":
            hear(hand, what, *about)
            return
        loop = asyncio.get_running_loop()
        held.append(lambda: loop.call_soon_threadsafe(hear, hand, what, *about))

    def release() -> None:
        monkeypatch.setattr(Hand, "_hear_of_chunk", hear)
        for each in held:
            each()

    monkeypatch.setattr(Hand, "_hear_of_chunk", hear_later)
    return release


def test_a_chunk_whose_begin_is_under_way_is_killed(
    shared: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = hold_back_begins(monkeypatch)
    with one_seat(shared, tmp_path) as seat:
        assert not seat.first.running()
        seat.evict(seat.first)
        release()
        assert is_lost(seat.first)
        wait_until(lambda: has_ended(seat.process), "the worker that spins is killed")
        wait_until(lambda: seat.ran(SECOND), "what waited behind it runs elsewhere")


def test_a_chunk_that_waits_in_a_worker_is_cancelled_and_never_runs(shared: Cluster, tmp_path: Path) -> None:
    with one_seat(shared, tmp_path) as seat:
        seat.evict(seat.second)
        assert is_cancelled(seat.second)
        assert not has_ended(seat.process)
        (tmp_path / "over").touch()
        assert seat.first.result(SECONDS).ok == 1
    assert not seat.ran(SECOND)


@pytest.mark.parametrize("dies", [True, False], ids=["dies", "says nothing"])
def test_a_worker_that_cannot_tell_is_waited_for_no_longer(
    shared: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, dies: bool
) -> None:
    monkeypatch.setattr("manyhands_dask.hand._ANSWER_SECONDS", 2 * SECONDS if dies else 0.5)
    with one_seat(shared, tmp_path) as seat:
        wait_until(seat.first.running, "its begin is heard of")
        seat.process.suspend()
        seat.evict(seat.second)
        if dies:
            seat.process.send_signal(signal.SIGKILL)
        assert is_cancelled(seat.second)
        wait_until(lambda: has_ended(seat.process), "the worker that says nothing is killed")
        if dies:
            assert is_lost(seat.first)
        else:
            wait_until(lambda: seat.pid_of(FIRST) != seat.process.pid, "what is not to blame runs elsewhere")
    assert not seat.ran(SECOND)


def test_a_worker_is_killed_only_for_what_it_still_has(monkeypatch: pytest.MonkeyPatch) -> None:
    chunk = Chunk(0, 0, 1, ChunkKind.PACKED, b"")
    hand, killed = Hand("tcp://there", {}, 1, None, None), []  # type: ignore[arg-type]  # neither is used
    monkeypatch.setattr(hand, "kill", killed.append)
    begun, back, stays = (Task(chunk, Future(), hand, hand.seats[0], is_evicted=True) for _ in range(3))
    begun.begin()
    back.leave()
    for task in (begun, back, stays):
        hand._insist(task)
    assert killed == [stays]


def test_a_worker_that_cannot_be_killed_is_let_go_and_ends_itself(
    shared: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(keeper: Keeper) -> None:
        """The nanny is out of reach."""

    monkeypatch.setattr(Keeper, "kill", fail)
    monkeypatch.setattr("manyhands_dask.hand._END_SECONDS", 0.5)
    with one_seat(shared, tmp_path) as seat:
        seat.evict(seat.first)
        assert is_lost(seat.first)
        wait_until(lambda: seat.ran(SECOND), "what waited behind it runs elsewhere")
        assert seat.pid_of(SECOND) != seat.process.pid
        wait_until(lambda: has_ended(seat.process), "who was let go ends")


def test_what_waits_is_cancelled_with_the_run(shared: Cluster, tmp_path: Path) -> None:
    with one_seat(shared, tmp_path) as seat:
        seat.executor.shutdown(cancel=True)
        assert seat.second.cancelled()
        assert seat.first.done()
    assert not seat.ran(SECOND)


@pytest.mark.parametrize("replay", [True, False], ids=["may run again", "may not"])
def test_what_runs_beside_it_is_not_to_blame(tmp_path: Path, *, replay: bool) -> None:
    with cluster(1, "--nthreads", "2") as made:
        seats = Running(made, tmp_path, 2, replay=replay)
        try:
            wait_until(lambda: seats.ran(SECOND), "both run")
            assert seats.pid_of(SECOND) == seats.process.pid
            seats.evict(seats.first)
            assert is_lost(seats.first)
            (tmp_path / "over").touch()
            assert seats.second.result(SECONDS).ok == 1 if replay else is_lost(seats.second)
        finally:
            seats.end()
