"""Who works for a run, and when there is no hope, with workers that only take notes."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import Client

from manyhands.errors import ExecutorBroken, WorkerInitError
from manyhands_dask import DaskExecutor
from manyhands_dask import crew as crews
from manyhands_dask.crew import Crew
from manyhands_dask.hand import Hand
from manyhands_dask.tasks import Seat, State

from .clusters import Cluster, wait_until
from .deeds import Paces, pipe_to

FAILED = WorkerInitError("the database was busy")


def crew_of(*states: State, most: int | None = None) -> Crew:
    """One worker for each state, with one seat that has it."""
    scheduler = SimpleNamespace(address="tcp://there")
    shop: Any = SimpleNamespace(client=SimpleNamespace(scheduler=scheduler), resources={})
    crew = Crew(shop, most, None, hooked=False)
    heard: Any = crew._heard
    for number, state in enumerate(states):
        hand = crew.hands[str(number)] = Hand(str(number), {}, 1, shop, heard)
        hand.seats[0].state = state
    return crew


def of(crew: Crew, number: int) -> tuple[Hand, Seat]:
    hand = crew.hands[str(number)]
    return hand, hand.seats[0]


def test_where_nothing_can_be_set_up_the_run_fails_at_once() -> None:
    crew = crew_of()
    crew._refuse(FAILED)
    with pytest.raises(WorkerInitError, match="busy"):
        crew._check()


@pytest.mark.parametrize("is_first", [True, False])
def test_who_could_not_be_set_up_does_not_end_a_run_that_others_are_replaced_in(
    monkeypatch: pytest.MonkeyPatch, *, is_first: bool
) -> None:
    crew = crew_of(State.READY)
    if is_first:
        crew._refuse(FAILED)
    crew._be_ready(*of(crew, 0))
    if not is_first:
        crew._refuse(FAILED)
    crew.hands.clear()
    crew._check()
    monkeypatch.setattr(crews, "_ALONE_SECONDS", -1.0)
    with pytest.raises(ExecutorBroken, match="has no worker" if is_first else "has no worker.*the database was busy"):
        crew._check()


def test_an_abort_kills_only_those_that_are_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[str] = []
    monkeypatch.setattr(Hand, "kill", lambda hand: killed.append(hand.address))
    crew_of(*State).kill_those_at_work()
    assert killed == [
        str(number) for number, state in enumerate(State) if state.name in ("STARTING", "READY", "LEAVING")
    ]


def test_a_worker_is_out_when_it_has_answered_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    hand, seat = of(crew_of(State.WAITING), 0)
    assert hand.is_out  # its seat was not asked for
    seat.asked = 0.0
    assert not hand.is_out
    monkeypatch.setattr(Hand, "_is_silent", True)
    assert hand.is_out  # it is busy with what holds the interpreter, and may never answer
    seat.state = State.STARTING
    assert not hand.is_out
    monkeypatch.setattr(Hand, "_is_silent", False)
    seat.state = State.ENDED
    assert hand.is_out


def test_another_is_asked_in_place_of_one_that_is_stuck_behind_somebody_elses_task() -> None:
    crew = crew_of(State.WAITING, most=1)
    _, seat = of(crew, 0)
    seat.asked = float("inf")
    assert crew._seats_of({"nthreads": 1}) == 0
    seat.asked = float("-inf")
    assert crew._seats_of({"nthreads": 1}) == 1


def test_one_too_many_leaves() -> None:
    crew = crew_of(State.READY, State.READY, most=1)
    crew._be_ready(*of(crew, 1))
    assert [of(crew, number)[1].state for number in (0, 1)] == [State.READY, State.LEAVING]
    assert of(crew, 1)[0]._outbox.get_nowait() == {"what": "leave", "seat": 0}
    assert crew._seats_of({"nthreads": 1}) == 0


def test_who_waits_for_somebody_elses_tasks_is_told(caplog: pytest.LogCaptureFixture) -> None:
    crew = crew_of(State.WAITING)
    of(crew, 0)[1].asked = float("-inf")
    crew._check()
    crew._check()
    assert [record.message for record in caplog.records] == [
        "every worker that is asked is busy with somebody else's tasks; waiting for one"
    ]


def test_of_two_workers_the_one_that_is_idle_works_and_the_other_is_one_too_many(
    shared: Cluster, tmp_path: Path
) -> None:
    busy, idle = shared.wait_for_workers(2)
    with Client(shared.address, set_as_default=False) as client:
        theirs = client.submit(time.sleep, 8, workers=[busy], pure=False)
        wait_until(lambda: client.processing()[busy], "somebody's task runs")
        executor = DaskExecutor(address=shared.address, chunksize=1, max_workers=1)
        pipe = pipe_to(tmp_path, 10**6, executor, Paces(tmp_path, 0.05))
        pipe.start()
        try:
            wait_until(lambda: pipe.report.ok, "the idle worker works")
            assert not theirs.done()
            wait_until(theirs.done, "somebody's task ends")
            wait_until(lambda: len([*tmp_path.glob("*.up")]) == 2, "the busy worker is set up, too")
            wait_until(lambda: not client.processing()[busy], "it is left")
            assert client.processing()[idle]
        finally:
            pipe.report.abort()
            assert pipe.report.wait(30)
