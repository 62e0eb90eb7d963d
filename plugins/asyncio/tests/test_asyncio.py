"""The asyncio backend: one bound for all async calls, threads for everything else."""

import asyncio
import json
import sys
import threading
from importlib.metadata import entry_points
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any, Self

import pytest

from manyhands import BaseHook, HookStore, IterableInputAdapter, JSONOutputAdapter, Pipe, get_executor
from manyhands.config.build import build_pipe
from manyhands.config.load import load_job
from manyhands.errors import OptionsError
from manyhands_asyncio import AsyncIOExecutor
from manyhands_sync import SyncFifoExecutor

from .support import LIMIT, Awaits, Does, Overlap, Picky, Row, pass_by, run

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
        name = "asyncio"
        concurrency = 4
        max_workers = 2
        chunksize = 1
    """)
    pipe = build_pipe(job, load_job(job))
    executor: Any = pipe.executor
    assert (executor.concurrency, executor.max_workers, executor.chunksize) == (4, 2, 1)
    report = pipe.run()
    assert (report.executor, report.ok) == ("asyncio", 3)
    assert json.loads((tmp_path / "out.json").read_text()) == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_what_the_plugin_says_is_what_the_executor_can() -> None:
    (point,) = entry_points(group="manyhands", name="asyncio")
    (backend,) = point.load().manyhands_backends()
    assert backend.capabilities == AsyncIOExecutor.capabilities
    assert backend.capabilities.async_native
    made: Any = get_executor("asyncio", **backend.options(concurrency=3).model_dump())
    assert (type(made), made.concurrency) == (AsyncIOExecutor, 3)


@pytest.mark.parametrize("option", ["max_workers", "chunksize", "concurrency"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "2"])
def test_a_wrong_option_is_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(OptionsError, match=f"{option} must be .*a number from 1"):
        AsyncIOExecutor(**{option: value})


def test_what_is_no_open_loop_is_refused() -> None:
    with pytest.raises(OptionsError, match="loop must be an event loop of asyncio, not str: 'uvloop'"):
        AsyncIOExecutor(loop="uvloop")  # type: ignore[arg-type]
    loop = asyncio.new_event_loop()
    executor = AsyncIOExecutor(loop=loop)
    loop.close()
    with pytest.raises(OptionsError, match="loop is closed"):
        AsyncIOExecutor(loop=loop)
    with pytest.raises(OptionsError, match="loop is closed"):
        run(executor, 1)


# Overlapping calls


class Response:
    async def __aenter__(self) -> Self:
        await asyncio.sleep(0.1)
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    async def json(self) -> dict[str, int]:
        return {"answer": 42}


class ClientSession:
    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    def get(self, url: str) -> Response:
        return Response()


aiohttp = ModuleType("aiohttp")
aiohttp.ClientSession = ClientSession  # type: ignore[attr-defined]


class AsyncAPIEnrichmentHook(BaseHook):
    async def execute(self, entries, store):  # type: ignore[no-untyped-def]
        async with aiohttp.ClientSession() as session:
            for entry in entries:
                async with session.get(f"https://api.example.com/{entry['raw_data']['n']}") as resp:
                    data = await resp.json()
                    entry["raw_data"]["enriched"] = data
        return entries


def test_a_thousand_requests_of_a_tenth_of_a_second_take_little_more_than_one_second() -> None:
    for _ in range(3):  # a busy machine may try again
        begun = perf_counter()
        report, ok, _ = run(AsyncIOExecutor(concurrency=100), 1000, AsyncAPIEnrichmentHook())
        seconds = perf_counter() - begun
        assert report.ok == 1000
        assert all(entry["raw_data"]["enriched"] == {"answer": 42} for entry in ok)
        assert seconds >= 1.0
        if seconds <= 1.6:
            return
    raise AssertionError(f"it took {seconds:.2f} s")


@pytest.mark.parametrize("chunksize", [1, 3, None])
@pytest.mark.parametrize("workers", [1, None])
def test_exactly_so_many_calls_overlap_as_allowed_whatever_the_chunks(
    chunksize: int | None, workers: int | None
) -> None:
    overlap = Overlap(12)
    executor = AsyncIOExecutor(concurrency=12, max_workers=workers, chunksize=chunksize)
    report, _, errors = run(executor, 200, Awaits(overlap.call))
    assert (report.ok, errors) == (200, [])
    assert overlap.most == 12


def test_two_async_hooks_share_the_bound() -> None:
    overlap = Overlap(5)
    run(AsyncIOExecutor(concurrency=5, chunksize=2), 100, Awaits(overlap.call), Awaits(overlap.call))
    assert overlap.most == 5


def test_plain_hooks_run_in_as_many_threads_as_allowed_and_never_on_the_loop() -> None:
    overlap, threads = Overlap(3), set[int]()

    async def note(entries: list[Any], store: HookStore) -> None:
        threads.add(threading.get_ident())

    def block(entries: list[Any], store: HookStore) -> None:
        assert threading.get_ident() not in threads
        overlap.block(entries, store)

    report, _, errors = run(AsyncIOExecutor(max_workers=3, chunksize=1), 60, Awaits(note), Does(block))
    assert (report.ok, errors, len(threads)) == (60, [], 1)
    assert overlap.most == 3


def test_a_plain_hook_that_blocks_holds_up_no_async_call() -> None:
    passed, second = threading.Event(), list[int]()

    def block(entries: list[Any], store: HookStore) -> None:
        if entries[0]["position"] == 0:
            assert passed.wait(LIMIT)

    async def pass_on(entries: list[Any], store: HookStore) -> None:
        second.append(entries[0]["position"])
        if len(second) == 5:
            passed.set()

    report, _, errors = run(AsyncIOExecutor(max_workers=2, chunksize=1), 6, Does(block), Awaits(pass_on))
    assert (report.ok, errors, second[-1]) == (6, [], 0)


def test_plain_hooks_and_async_ones_take_turns() -> None:
    async def double(entries: list[Any], store: HookStore) -> None:
        await asyncio.sleep(0)
        entries[0]["raw_data"]["n"] *= 2

    def add(entries: list[Any], store: HookStore) -> None:
        for entry in entries:
            entry["raw_data"]["n"] += 1

    _, ok, _ = run(AsyncIOExecutor(Row, chunksize=7), 50, Does(add), Awaits(double), Does(add))
    assert [entry["validated_data"]["n"] for entry in ok] == [2 * (n + 1) + 1 for n in range(50)]


def test_a_plain_hook_may_return_what_is_to_be_awaited() -> None:
    _, ok, _ = run(AsyncIOExecutor(), 5, Does(pass_by))
    assert len(ok) == 5


@pytest.mark.parametrize("chunksize", [1, 7, 1000])
def test_a_thousand_records_come_out_as_by_sync_byte_for_byte(tmp_path: Path, chunksize: int) -> None:
    def files(executor: Any) -> tuple[dict[str, int], list[bytes]]:
        paths = [tmp_path / f"{executor.name}-{which}.jsonl" for which in ("ok", "errors")]
        source = IterableInputAdapter([{"n": "bad" if n % 31 == 7 else n} for n in range(1000)])
        outputs = map(JSONOutputAdapter, paths)
        hooks = [Picky(), Does(lambda entries, store: entries[::-1])]
        report = Pipe(source, *outputs, Row, executor, post_validation_hooks=hooks).run()
        return report.counts, [path.read_bytes() for path in paths]

    counts, written = files(AsyncIOExecutor(max_workers=4, chunksize=chunksize))
    assert (counts, written) == files(SyncFifoExecutor(chunksize=chunksize))
    assert min(counts[outcome] for outcome in ("ok", "rejected", "dropped")) > 0
    assert counts["in"] == counts["ok"] + counts["rejected"] + counts["dropped"] == 1000
