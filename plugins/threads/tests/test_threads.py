"""The threads backend: chunks side by side, each thread a worker."""

import json
import logging
import sys
import threading
from collections import Counter
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

from manyhands import BaseHook, HookStore, IterableInputAdapter, JSONOutputAdapter, Pipe, WorkerContext, get_executor
from manyhands.config.build import build_pipe
from manyhands.config.load import load_job
from manyhands.errors import OptionsError, ProtocolError, TeardownError, WorkerInitError
from manyhands_sync import SyncFifoExecutor
from manyhands_threads import ThreadExecutor

from .support import LIMIT, Does, Picky, Row, chunk, keep, run, started

# Chosen by name


def test_a_job_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))  # a job looks for modules in its own folder
    (tmp_path / "rows.jsonl").write_text('{"n": 1}\n{"n": 2}\n{"n": 3}\n')
    job = tmp_path / "job.toml"
    job.write_text("""
        [input]
        adapter = "jsonl"
        path = "rows.jsonl"
        [output]
        adapter = "json"
        path = "out.json"
        [executor]
        name = "threads"
        max_workers = 2
        chunksize = 1
    """)
    pipe = build_pipe(job, load_job(job))
    assert (pipe.executor.max_workers, pipe.executor.chunksize) == (2, 1)  # type: ignore[attr-defined]
    report = pipe.run()
    assert (report.executor, report.ok) == ("threads", 3)
    assert json.loads((tmp_path / "out.json").read_text()) == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_what_the_plugin_says_is_what_the_executor_can() -> None:
    (point,) = entry_points(group="manyhands", name="threads")
    (backend,) = point.load().manyhands_backends()
    assert backend.capabilities == ThreadExecutor.capabilities
    assert backend.capabilities.concurrent
    made = get_executor("threads", **backend.options(max_workers=3, chunksize=5).model_dump())
    assert (type(made), made.max_workers, made.chunksize) == (ThreadExecutor, 3, 5)  # type: ignore[attr-defined]


@pytest.mark.parametrize("option", ["max_workers", "chunksize"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2"])
def test_a_wrong_option_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(OptionsError, match=f"{option} must be None or a number from 1"):
        ThreadExecutor(**{option: value})


def test_chunks_are_single_records_only_where_hooks_may_wait() -> None:
    plain, hooked = WorkerContext(), WorkerContext(post_hooks=[Does(keep)])
    assert [ThreadExecutor().chunksize_for(context) for context in (plain, hooked)] == [None, 1]
    assert [ThreadExecutor(chunksize=7).chunksize_for(context) for context in (plain, hooked)] == [7, 7]
    sizes: list[int] = []
    run(ThreadExecutor(max_workers=1), 5, Does(lambda entries, store: sizes.append(len(entries))))
    assert sizes == [1] * 5


# Side by side


def test_as_many_records_are_under_way_as_there_are_threads() -> None:
    meeting, inside, most = threading.Barrier(4), Counter[str](), list[int]()

    def meet(entries: list[Any], store: HookStore) -> None:
        inside["now"] += 1
        meeting.wait(LIMIT)
        most.append(inside["now"])
        meeting.wait(LIMIT)
        inside["now"] -= 1
        meeting.wait(LIMIT)

    report, ok, _ = run(ThreadExecutor(max_workers=4), 16, Does(meet))
    assert report.ok == 16
    assert [entry["position"] for entry in ok] == list(range(16))
    assert set(most) == {4}
    assert len(report.workers) == 4


def test_validators_run_side_by_side_too() -> None:
    meeting = threading.Barrier(3)

    class Slow(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def wait(cls, n: int) -> int:
            meeting.wait(LIMIT)
            return n

    report, _, errors = run(ThreadExecutor(Slow, max_workers=3, chunksize=1), 6)
    assert (report.ok, errors) == (6, [])


def test_each_thread_is_a_worker_with_a_store_of_its_own() -> None:
    meeting = threading.Barrier(3)
    calls, stores = list[tuple[str, int]](), set[int]()

    def note(what: str) -> None:
        calls.append((what, threading.get_ident()))

    def setup(store: HookStore) -> None:
        store["thread"] = threading.get_ident()
        stores.add(id(store))
        note("setup")

    def execute(entries: list[Any], store: HookStore) -> None:
        assert store["thread"] == threading.get_ident()
        meeting.wait(LIMIT)

    hook = Does(execute, setup, teardown=lambda store: note("teardown"))
    report, _, errors = run(ThreadExecutor(max_workers=3), 9, hook)
    assert (report.ok, errors, len(stores)) == (9, [], 3)
    assert Counter(what for what, _ in calls) == {"setup": 3, "teardown": 3}
    assert {ident for what, ident in calls if what == "setup"} == {ident for what, ident in calls if what != "setup"}


def test_jobs_that_never_wait_keep_to_one_thread() -> None:
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        pytest.skip("threads compute side by side here")
    report, ok, _ = run(ThreadExecutor(Row, max_workers=8, chunksize=2), 100)
    assert (len(ok), len(report.workers)) == (100, 1)


@pytest.mark.parametrize("chunksize", [1, 7, 1000])
def test_a_thousand_records_come_out_as_by_sync_byte_for_byte(tmp_path: Path, chunksize: int) -> None:
    def files(executor: Any) -> tuple[dict[str, int], list[bytes]]:
        paths = [tmp_path / f"{executor.name}-{which}.jsonl" for which in ("ok", "errors")]
        source = IterableInputAdapter([{"n": "bad" if n % 31 == 7 else n} for n in range(1000)])
        outputs = map(JSONOutputAdapter, paths)
        report = Pipe(source, *outputs, Row, executor, post_validation_hooks=[Picky()]).run()
        return report.counts, [path.read_bytes() for path in paths]

    counts, written = files(ThreadExecutor(max_workers=4, chunksize=chunksize))
    assert (counts, written) == files(SyncFifoExecutor(chunksize=chunksize))
    assert min(counts[outcome] for outcome in ("ok", "rejected", "dropped")) > 0
    assert counts["in"] == counts["ok"] + counts["rejected"] + counts["dropped"] == 1000


def test_async_hooks_run_on_a_loop_of_each_thread() -> None:
    import asyncio

    class Awaits(BaseHook):
        async def execute(self, entries: list[Any], store: HookStore) -> None:
            await asyncio.sleep(0)
            entries[0]["raw_data"]["n"] += 1

    _, ok, _ = run(ThreadExecutor(max_workers=2), 10, Awaits())
    assert [entry["raw_data"]["n"] for entry in ok] == list(range(1, 11))


# Starting and ending


def test_no_thread_that_can_start_fails_the_run() -> None:
    def setup(store: HookStore) -> None:
        raise RuntimeError("no database")

    with pytest.raises(WorkerInitError, match="setup of hook Does failed: no database"):
        run(ThreadExecutor(max_workers=3), 5, Does(keep, setup))


def test_some_threads_that_cannot_start_are_logged_and_done_without(caplog: pytest.LogCaptureFixture) -> None:
    turn, failed = threading.Lock(), list[int]()

    def setup(store: HookStore) -> None:
        with turn:
            if len(failed) < 2:
                failed.append(1)
                raise RuntimeError("no connection left")

    report, ok, _ = run(ThreadExecutor(max_workers=3), 20, Does(keep, setup))
    assert (report.ok, len(report.workers), len(ok)) == (20, 1, 20)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "no connection left" in caplog.text


def test_the_first_teardown_that_fails_is_told_and_the_others_run() -> None:
    torn: list[int] = []

    def teardown(store: HookStore) -> None:
        torn.append(1)
        raise RuntimeError("disk full")

    with pytest.raises(TeardownError, match="teardown of hook Does failed: disk full"):
        run(ThreadExecutor(max_workers=3), 5, Does(keep, teardown=teardown))
    assert len(torn) == 3


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_chunk_raises_is_in_its_future(error: BaseException) -> None:
    class Raises(ThreadExecutor):
        def process_chunk_on_worker(self, chunk: Any, context: Any) -> Any:  # type: ignore[override]
            raise error

    with started(Raises(max_workers=1)) as executor:
        assert [executor.submit(chunk(n)).exception(LIMIT) for n in range(3)] == [error] * 3


def test_a_chunk_before_the_start_fails_its_future_and_shutdown_may_come_at_any_time() -> None:
    executor = ThreadExecutor()
    assert isinstance(executor.submit(chunk(0)).exception(), ProtocolError)
    assert (executor.progress(executor.submit(chunk(0))), executor.evict(executor.submit(chunk(0)))) == (None, False)
    executor.shutdown()
    executor.shutdown(cancel=True)


def test_one_executor_serves_one_run_after_the_other() -> None:
    executor = ThreadExecutor(Row, max_workers=2)
    assert [run(executor, count, Does(keep))[0].ok for count in (3, 4)] == [3, 4]


def test_a_cancelling_shutdown_runs_nothing_that_had_not_begun() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(entries: list[Any], store: HookStore) -> None:
        begun.set()
        go_on.wait(LIMIT)

    with started(ThreadExecutor(max_workers=1), Does(wait)) as executor:
        futures = [executor.submit(chunk(n)) for n in range(4)]
        assert begun.wait(LIMIT)
        threading.Timer(0.1, go_on.set).start()
        executor.shutdown(cancel=True)
        assert [future.cancelled() for future in futures] == [False, True, True, True]
        assert futures[0].result(LIMIT).ok == 1


def test_a_plain_shutdown_runs_all_that_was_submitted() -> None:
    with started(ThreadExecutor(max_workers=2), Does(keep)) as executor:
        futures = [executor.submit(chunk(n)) for n in range(20)]
    assert [future.result().ok for future in futures] == [1] * 20
