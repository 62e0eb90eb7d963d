"""Workers start, work and end when they are told to, with everything that was promised to hooks."""

from __future__ import annotations

import os
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final

import psutil
import pytest

from manyhands.errors import TeardownError, WorkerInitError
from manyhands.testing.bench import PATIENCE, Bench, became
from manyhands.testing.cases.needs import needs
from manyhands.testing.notes import Gate, Held, Meeting, Note, Witness, fail
from manyhands.worker.context import WorkerContext

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from manyhands.chunks import ChunkResult
    from manyhands.executor import Executor

_MOMENT: Final = 0.2
_LATE_SECONDS: Final = 2.0

either_end: pytest.MarkDecorator = pytest.mark.parametrize("cancel", [False, True], ids=["shutdown", "cancel"])


class LifecycleCases:
    """`start`, `submit` and `shutdown`, as the driver calls them and as it may have to."""

    def test_start_waits_for_the_setup_of_a_worker(self, bench: Bench) -> None:
        hook = Witness(bench.folder, setup=Held(Gate(bench.folder), _MOMENT))
        with bench.started(WorkerContext(pre_hooks=[hook])):
            ready = hook.notes.read("setup")
        assert ready, bench.broken("start", "start() returned before a worker had passed its hooks' setup")

    @either_end
    def test_nothing_runs_when_shutdown_has_returned(self, bench: Bench, *, cancel: bool) -> None:
        hook = Witness(bench.folder, teardown=Held(Gate(bench.folder), _MOMENT / 2))
        with bench.started(WorkerContext(pre_hooks=[hook]), cancel=cancel) as executor:
            bench.results(*_submit(bench, executor, 2 * bench.workers))
        alive = sorted({_place(note) for note in hook.notes.read() if _is_alive(bench, note)})
        assert not alive, bench.broken("shutdown", f"it returned while there were workers: {', '.join(alive)}")

    @either_end
    def test_each_worker_is_set_up_once_and_torn_down_once(self, bench: Bench, *, cancel: bool) -> None:
        hook = _shared_out(bench)
        with bench.started(WorkerContext(pre_hooks=[hook]), cancel=cancel) as executor:
            bench.results(*_submit(bench, executor, 4 * bench.workers))
        _check_lives(bench, hook)

    def test_hooks_execute_with_the_store_of_their_worker(self, bench: Bench) -> None:
        hook = _shared_out(bench)
        with bench.started(WorkerContext(pre_hooks=[hook])) as executor:
            bench.results(*_submit(bench, executor, 4 * bench.workers))
        set_up, used = ({_worker(note) for note in hook.notes.read(what)} for what in ("setup", "execute"))
        strange = sorted(used - set_up, key=str)
        assert not strange, bench.broken("workers", f"hooks had stores that no setup filled there: {strange}")

    def test_a_setup_that_fails_is_raised_by_start(self, bench: Bench) -> None:
        executor = bench.make()
        context = bench.adapt(WorkerContext(pre_hooks=[Witness(bench.folder, setup=fail)]), executor)
        error = _raised_by(lambda: executor.start(context))
        executor.shutdown(cancel=True)
        fault = f"a hook's setup failed with 'it fails', and start() raised {error!r}"
        assert isinstance(error, WorkerInitError), bench.broken("start", fault)
        assert "it fails" in str(error), bench.broken("start", fault)
        _run_anew(bench, executor)

    def test_an_executor_runs_one_job_after_the_other(self, bench: Bench) -> None:
        executor = bench.make()
        for _ in range(2):
            _run_anew(bench, executor)

    def test_a_teardown_that_takes_time_ends_before_shutdown_returns(self, bench: Bench) -> None:
        hook = Witness(bench.folder, teardown=Held(Gate(bench.folder), _MOMENT))
        with bench.started(WorkerContext(pre_hooks=[hook])) as executor:
            bench.results(*_submit(bench, executor, 2 * bench.workers))
        begun, ended = (len(hook.notes.read(what)) for what in ("setup", "teardown"))
        fault = f"when shutdown() returned, {ended} of {begun} teardowns had ended"
        assert ended == begun, bench.broken("shutdown", fault)

    def test_a_teardown_that_fails_is_raised_by_shutdown(self, bench: Bench) -> None:
        executor = bench.make()
        executor.start(bench.adapt(WorkerContext(pre_hooks=[Witness(bench.folder, teardown=fail)]), executor))
        bench.results(*_submit(bench, executor, 1))
        error = _raised_by(executor.shutdown)
        fault = f"a hook's teardown failed with 'it fails', and shutdown() raised {error!r}"
        assert isinstance(error, TeardownError), bench.broken("shutdown", fault)
        assert "it fails" in str(error), bench.broken("shutdown", fault)

    def test_shutdown_may_be_called_again(self, bench: Bench) -> None:
        hook = Witness(bench.folder)
        with bench.started(WorkerContext(pre_hooks=[hook])) as executor:
            bench.results(*_submit(bench, executor, 1))
        ended = hook.notes.read("teardown")
        for cancel in (False, True):
            executor.shutdown(cancel=cancel)
        assert hook.notes.read("teardown") == ended, bench.broken("shutdown", "called again, it runs teardown again")

    @either_end
    def test_shutdown_without_start_does_nothing(self, bench: Bench, *, cancel: bool) -> None:
        bench.make().shutdown(cancel=cancel)

    def test_shutdown_lets_chunks_that_wait_be_run(self, bench: Bench) -> None:
        gate = Gate(bench.folder)
        with bench.started(WorkerContext(pre_hooks=[Witness(bench.folder, Held(gate, _MOMENT / 2))])) as executor:
            futures = _submit(bench, executor, 2 * bench.workers + 1)
        unfinished = [future for future in futures if not future.done() or future.cancelled() or future.exception()]
        fault = f"when shutdown() returned, {len(unfinished)} of {len(futures)} chunks had no result: {unfinished}"
        assert not unfinished, bench.broken("shutdown", fault)

    @needs(not_="inline")
    def test_submit_returns_while_all_workers_are_busy(self, bench: Bench) -> None:
        gate = Gate(bench.folder)
        with bench.started(WorkerContext(pre_hooks=[Witness(bench.folder, Held(gate, PATIENCE))])) as executor:
            futures: list[Future[ChunkResult]] = []
            count = executor.slots() + 2 * bench.workers + 2
            thread = threading.Thread(target=lambda: futures.extend(_submit(bench, executor, count)))
            thread.start()
            thread.join(PATIENCE / 2)
            blocked = thread.is_alive()
            gate.open()
            thread.join(PATIENCE)
            bench.results(*futures)
        assert not blocked, bench.broken("submit", f"one of {count} calls of submit() waits for a worker to be free")

    def test_submit_before_start_is_refused(self, bench: Bench) -> None:
        _check_refused(bench, bench.make(), "before start()")

    def test_submit_after_shutdown_is_refused(self, bench: Bench) -> None:
        with bench.started(WorkerContext(pre_hooks=[Witness(bench.folder)])) as executor:
            pass
        _check_refused(bench, executor, "after shutdown()")


def _submit(bench: Bench, executor: Executor, count: int) -> list[Future[ChunkResult]]:
    return [executor.submit(bench.chunk([{"n": n}], n, start=n)) for n in range(count)]


def _run_anew(bench: Bench, executor: Executor) -> None:
    """The executor runs a job of a chunk."""
    executor.start(bench.adapt(WorkerContext(pre_hooks=[Witness(bench.folder)]), executor))
    try:
        (result,) = bench.results(*_submit(bench, executor, 1))
    finally:
        executor.shutdown()
    assert result.ok == 1, bench.broken("reuse", f"a chunk of one record gave {result}")


def _raised_by(call: Callable[[], object]) -> Exception | None:
    try:
        call()
    except Exception as error:  # noqa: BLE001  # whatever it is, the case says what it should be
        return error
    return None


def _check_refused(bench: Bench, executor: Executor, when: str) -> None:
    futures: list[Future[ChunkResult]] = []
    if _raised_by(lambda: futures.append(executor.submit(bench.chunk([{"n": 0}])))) is None:
        (future,) = futures
        bench.wait_until(future.done, f"the future of a chunk that was submitted {when} was done", 5.0, "submit")
        refused = future.cancelled() or future.exception() is not None
        assert refused, bench.broken("submit", f"a chunk that was submitted {when} was run")


def _shared_out(bench: Bench) -> Witness:
    """A hook for which two workers have a chunk at a time, where there are two."""
    return Witness(bench.folder, Meeting(bench.folder, PATIENCE) if bench.capabilities.concurrent else None)


def _check_lives(bench: Bench, hook: Witness) -> None:
    """See that each store had one setup and one teardown, by the time that shutdown() returned."""
    set_up, torn_down = (Counter(map(_worker, hook.notes.read(what))) for what in ("setup", "teardown"))
    twice = [f"{times} times in process {pid}" for (pid, _), times in set_up.items() if times > 1]
    assert not twice, bench.broken("workers", f"a store was set up more than once: {', '.join(twice)}")
    missed, spare = sorted(set_up - torn_down, key=str), sorted(torn_down - set_up, key=str)
    mixed = {pid for pid, _ in missed} & {pid for pid, _ in spare}
    assert not mixed, bench.broken("workers", f"teardown was given other stores than setup, in processes {mixed}")
    assert not spare, bench.broken("workers", f"teardown ran again, or without setup, in (process, store) {spare}")
    assert not missed, _not_torn_down(bench, hook)


def _not_torn_down(bench: Bench, hook: Witness) -> str:
    """Why there are fewer teardowns than setups."""

    def counts() -> list[Counter[str]]:
        return [Counter(map(_place, hook.notes.read(what))) for what in ("setup", "teardown")]

    set_up, torn_down = counts()
    missing = f"{(set_up - torn_down).total()} of {set_up.total()} teardowns"
    if became(lambda: len({each.total() for each in counts()}) == 1, _LATE_SECONDS):
        return bench.broken("shutdown", f"{missing} ended only after shutdown() had returned")
    again = [f"{times} times in {place}" for place, times in set_up.items() if 0 < torn_down[place] < times]
    if again:
        return bench.broken("workers", f"setup ran more often than teardown: {', '.join(again)}")
    return bench.broken("shutdown", f"{missing} never ran")


def _worker(note: Note) -> tuple[int, str | None]:
    return note.pid, note.store


def _place(note: Note) -> str:
    return f"thread {note.thread}" if note.pid == os.getpid() else f"process {note.pid}"


def _is_alive(bench: Bench, note: Note) -> bool:
    if note.pid == os.getpid():
        others = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
        return note.thread in others
    if bench.capabilities.distributed:  # its processes are the cluster's, and may stay for the next job
        return False
    try:
        return bool(psutil.Process(note.pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
