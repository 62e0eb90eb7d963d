"""The worker of a backend that brings the process: here it is this one."""

from __future__ import annotations

import os
import signal
import threading
from array import array
from collections.abc import Iterator
from typing import Any

import cloudpickle
import pytest
from pydantic import BaseModel

from manyhands import BaseHook, Chunk, ChunkKind, ChunkResult, RemoteWorker, WorkerContext, dump_chunk, load_result
from manyhands.errors import ProtocolError, TeardownError, WorkerInitError
from manyhands.worker import codec, remote
from manyhands.worker.cell import read_progress
from manyhands.worker.plan import RecordsCancelled

SEEN: list[Any] = []
"""What hooks leave, which travel by name and are in this process all the same."""

WORD = array("Q", [0])


@pytest.fixture(autouse=True)
def _unchanged() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)
    SEEN.clear()
    WORD[0] = 0


class Row(BaseModel):
    k: int


class Tells(BaseHook):
    """Notes its life, and where the worker says that it is."""

    def setup(self, store: Any) -> None:
        SEEN.append("setup")

    def execute(self, entries: list[Any], store: Any) -> None:
        SEEN.append(read_progress(WORD[0], packed(4)))

    def teardown(self, store: Any) -> None:
        SEEN.append("teardown")


class Fails(BaseHook):
    def __init__(self, stage: str) -> None:
        super().__init__()
        self.stage = stage

    def setup(self, store: Any) -> None:
        self._fail("setup")

    def teardown(self, store: Any) -> None:
        self._fail("teardown")

    def _fail(self, stage: str) -> None:
        if stage == self.stage:
            raise RuntimeError("it fails")


class Forks(BaseHook):
    """Both processes come back."""

    def execute(self, entries: list[Any], store: Any) -> None:
        if pid := os.fork():
            SEEN.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        else:
            signal.alarm(20)  # whatever happens


class Unloadable:
    def __reduce__(self) -> Any:
        return int, ("no number",)


def packed(count: int, **values: Any) -> Chunk:
    return Chunk(3, 0, count, ChunkKind.PACKED, codec.dumps([{"k": k, **values} for k in range(count)]))


def run(worker: RemoteWorker, chunk: Chunk) -> ChunkResult:
    """There and back."""
    return load_result(*worker.run(*dump_chunk(chunk)))


def job(*hooks: BaseHook, **more: Any) -> bytes:
    return WorkerContext(pre_hooks=hooks, **more).dumps()


@pytest.mark.parametrize("compression", [None, "lz4"])
def test_a_chunk_goes_there_and_comes_back(compression: Any) -> None:
    worker = RemoteWorker(job(schema_model=Row, compression=compression))
    result = run(worker, packed(3))
    rejected = run(worker, packed(2, k="x"))
    assert (result.sequence, result.lo, result.hi, result.ok) == (3, 0, 3, 3)
    assert [entry["validated_data"] for entry in result.output] == [{"k": 0}, {"k": 1}, {"k": 2}]  # type: ignore[index]  # entries, as there is no encoder
    assert (rejected.rejected, len(rejected.errors)) == (2, 2)


def test_hooks_are_set_up_once_and_torn_down_once() -> None:
    worker = RemoteWorker(job(Tells()))
    run(worker, packed(4))
    worker.teardown()
    worker.teardown()
    assert SEEN == ["setup", None, "teardown"]


def test_it_says_where_it_is() -> None:
    run(RemoteWorker(job(Tells()), word=WORD), packed(4))
    _, place = SEEN
    assert (place.stage, place.lo, place.hi) == ("pre", 0, 4)
    assert read_progress(WORD[0], packed(4)) is None


def test_no_record_begins_once_the_run_is_aborted() -> None:
    aborted: list[bool] = []
    worker = RemoteWorker(job(Tells()), lambda: bool(aborted))
    assert run(worker, packed(4)).ok == 4
    aborted.append(True)
    with pytest.raises(RecordsCancelled):
        run(worker, packed(4))
    assert SEEN == ["setup", None]


def test_it_raises_what_hooks_raise_at_their_ends() -> None:
    with pytest.raises(WorkerInitError, match="it fails"):
        RemoteWorker(job(Fails("setup")))
    worker = RemoteWorker(job(Fails("teardown")))
    with pytest.raises(TeardownError, match="it fails"):
        worker.teardown()


def test_functions_do_the_same_for_the_thread_that_calls_them() -> None:
    def live() -> None:
        remote.set_up(job(Tells()))
        chunk = packed(4)
        SEEN.append(load_result(*remote.run(*dump_chunk(chunk))).ok)
        remote.tear_down()

    thread = threading.Thread(target=live)
    thread.start()
    thread.join()
    assert SEEN == ["setup", None, 4, "teardown"]
    with pytest.raises(ProtocolError, match=r"set_up\(\) must be called first, in the same thread"):
        remote.run(*dump_chunk(packed(4)))
    with pytest.raises(ProtocolError, match=r"set_up\(\) must be called first"):
        remote.tear_down()


def test_a_job_that_cannot_be_loaded_is_no_worker() -> None:
    with pytest.raises(WorkerInitError, match=r"a worker process cannot load the job: ValueError: .*no number"):
        RemoteWorker(cloudpickle.dumps(Unloadable()))


def test_an_interrupt_is_left_to_the_program() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=RemoteWorker, args=(job(),))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    RemoteWorker(job())
    signal.raise_signal(signal.SIGINT)  # nothing happens
    assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN  # which programs that hooks start would inherit


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # what hooks do is not ours to choose
def test_a_process_that_a_hook_has_forked_does_not_come_back() -> None:
    assert run(RemoteWorker(job(Forks())), packed(1)).ok == 1
    assert SEEN == [1]
