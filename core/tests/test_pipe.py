"""A pipe: what it takes, and how a run begins and ends."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from manyhands import (
    BaseHook,
    CSVInputAdapter,
    IterableInputAdapter,
    JSONOutputAdapter,
    MemoryOutputAdapter,
    Pipe,
)
from manyhands.adapters.base import BaseOutputAdapter, EntryWriter, Writer
from manyhands.errors import (
    InputError,
    OutputError,
    ProtocolError,
    SinkError,
    TeardownError,
    UsageError,
    WorkerInitError,
)
from manyhands.events import Event, RunEnded
from manyhands.records import Entry
from manyhands.report import RunStatus
from manyhands_sync import SyncFifoExecutor

from .support import ScriptedExecutor, Watch, rows, run_pipe, wait_until
from .workers import Does


class Row(BaseModel):
    k: int
    n: int


class Other(Row):
    pass


class Awaits(BaseHook):
    async def execute(self, entries: list[Entry], store: Any) -> None:
        await asyncio.sleep(0)
        entries[0]["validated_data"]["n"] += 1


SOURCE = IterableInputAdapter([{"k": 1, "n": 2}])


def test_the_schema_may_be_given_to_the_pipe_or_to_the_executor() -> None:
    for of_pipe, of_executor in ((Row, None), (None, Row), (Row, Row)):
        ran = run_pipe(rows(3, bad={1}), SyncFifoExecutor(of_executor), schema=of_pipe)
        assert (ran.report.ok, ran.report.rejected) == (2, 1)


def test_two_schemas_are_refused() -> None:
    with pytest.raises(UsageError, match="different schemas"):
        Pipe(SOURCE, schema_model=Row, executor=SyncFifoExecutor(Other))


def test_without_an_executor_the_pipe_runs_here() -> None:
    report = Pipe(SOURCE).run()
    assert (report.executor, report.ok) == ("sync", 1)


def test_a_running_pipe_cannot_be_started_again(tmp_path: Path) -> None:
    output = JSONOutputAdapter(tmp_path / "out.jsonl")
    with Pipe(IterableInputAdapter({"k": k} for k in count()), output, executor=SyncFifoExecutor()) as pipe:
        report = pipe.start()
        with pytest.raises(UsageError, match="this pipe is running"):
            pipe.start()
        wait_until(lambda: report.ok)
    assert report.status is RunStatus.ABORTED


def test_a_pipe_runs_again_from_the_start(tmp_path: Path) -> None:
    path, watch = tmp_path / "out.jsonl", Watch()
    pipe = Pipe(
        IterableInputAdapter(rows(30)),
        JSONOutputAdapter(path),
        executor=ScriptedExecutor(chunksize=7),
        pre_validation_hooks=[watch],
    )
    first, content = pipe.run(), path.read_bytes()
    second = pipe.run()
    assert first is not second
    assert first.counts == second.counts
    assert path.read_bytes() == content
    assert set(watch.ran.values()) == {2}


def test_an_input_that_cannot_be_opened_leaves_no_output_behind(tmp_path: Path) -> None:
    pipe = Pipe(CSVInputAdapter(tmp_path / "none.csv"), JSONOutputAdapter(tmp_path / "out.jsonl"))
    with pytest.raises(InputError, match=r"none\.csv"):
        pipe.run()
    assert list(tmp_path.iterdir()) == []
    assert pipe.report.status is RunStatus.PENDING


def test_an_output_that_cannot_be_opened_leaves_the_other_unharmed(tmp_path: Path) -> None:
    (tmp_path / "ok.jsonl").write_text("before\n")
    errors = JSONOutputAdapter(tmp_path / "missing" / "errors.jsonl")
    with pytest.raises(OutputError, match="does not exist"):
        Pipe(SOURCE, JSONOutputAdapter(tmp_path / "ok.jsonl"), errors).run()
    assert (tmp_path / "ok.jsonl").read_text() == "before\n"
    assert [path.name for path in tmp_path.iterdir()] == ["ok.jsonl"]


def test_no_output_may_be_the_input_or_the_other_output(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("k\n1\n")
    (tmp_path / "link.jsonl").symlink_to(path)
    with pytest.raises(OutputError, match="it is also the input"):
        Pipe(CSVInputAdapter(path), JSONOutputAdapter(tmp_path / "link.jsonl", format="lines")).run()
    same = JSONOutputAdapter(tmp_path / "out.jsonl")
    with pytest.raises(OutputError, match="it is also the output"):
        Pipe(CSVInputAdapter(path), same, JSONOutputAdapter(tmp_path / "." / "out.jsonl")).run()
    assert path.read_text() == "k\n1\n"


def test_run_async_leaves_the_event_loop_free() -> None:
    async def main() -> tuple[Any, list[str]]:
        order = list[str]()
        opened = threading.Event()

        def source() -> Iterator[dict[str, int]]:
            assert opened.wait(10)
            yield {"k": 1, "n": 1}

        async def beside() -> None:
            order.append("beside")
            opened.set()

        output = MemoryOutputAdapter()
        pipe = Pipe(IterableInputAdapter(source()), output, None, Row, None, [], [Awaits()])
        report, _ = await asyncio.gather(pipe.run_async(), beside())
        return report, [*order, output.results[0]["validated_data"]]

    report, seen = asyncio.run(main())
    assert report.status is RunStatus.COMPLETED
    assert seen == ["beside", {"k": 1, "n": 2}]


def test_cancelling_the_task_of_run_async_aborts_the_run(tmp_path: Path) -> None:
    pipe = Pipe(IterableInputAdapter({"k": k} for k in count()), JSONOutputAdapter(tmp_path / "out.jsonl"))

    async def main() -> None:
        task = asyncio.create_task(pipe.run_async())
        await asyncio.to_thread(wait_until, lambda: pipe.report.ok)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert pipe.report.is_finished

    asyncio.run(main())
    assert pipe.report.status is RunStatus.ABORTED
    assert not (tmp_path / "out.jsonl").exists()


def test_run_async_raises_what_made_the_run_fail() -> None:
    with pytest.raises(TeardownError):
        asyncio.run(Pipe(SOURCE, pre_validation_hooks=[Fails("teardown")]).run_async())


def test_a_plain_run_with_async_hooks_works_inside_an_event_loop() -> None:
    async def main() -> int:
        return run_pipe(rows(5), SyncFifoExecutor(), schema=Row, post=[Awaits()]).report.ok

    assert asyncio.run(main()) == 5


def test_an_interrupt_ends_the_run_and_is_raised_again(tmp_path: Path) -> None:
    class Interrupts(BaseHook):
        def execute(self, entries: list[Entry], store: Any) -> None:
            if entries[0]["position"] == 2000:
                os.kill(os.getpid(), signal.SIGINT)

    source = IterableInputAdapter({"k": k} for k in count())
    pipe = Pipe(source, JSONOutputAdapter(tmp_path / "out.jsonl"), pre_validation_hooks=[Interrupts()])
    with pytest.raises(KeyboardInterrupt):
        pipe.run()
    assert pipe.report.status is RunStatus.ABORTED
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl.partial"]


class Fails(BaseHook):
    def __init__(self, where: str) -> None:
        super().__init__()
        self._where = where
        self.torn_down = 0

    def setup(self, store: Any) -> None:
        if self._where == "setup":
            raise ConnectionError("no database")

    def execute(self, entries: list[Entry], store: Any) -> None:
        pass

    def teardown(self, store: Any) -> None:
        self.torn_down += 1
        if self._where == "teardown":
            raise ConnectionError("no database")


@pytest.mark.parametrize(("where", "error"), [("setup", WorkerInitError), ("teardown", TeardownError)])
@pytest.mark.parametrize("kind", ["sync", "scripted"])
def test_a_hook_that_cannot_begin_or_end_fails_the_run(
    where: str, error: type[Exception], kind: str, tmp_path: Path
) -> None:
    executor = SyncFifoExecutor() if kind == "sync" else ScriptedExecutor(slots=1)
    hook = Fails(where)
    pipe = Pipe(
        IterableInputAdapter(rows(5)),
        JSONOutputAdapter(tmp_path / "out.jsonl"),
        executor=executor,
        pre_validation_hooks=[hook],
    )
    with pytest.raises(error, match=f"{where} of hook Fails failed: no database"):
        pipe.run()
    assert pipe.report.status is RunStatus.FAILED
    assert not (tmp_path / "out.jsonl").exists()
    assert hook.torn_down == (where == "teardown")
    assert pipe.report.counts["in"] == (5 if where == "teardown" else 0)


class FullOutput(BaseOutputAdapter):
    """A disk that is full when the last bytes are flushed."""

    def open(self, columns: tuple[str, ...] | None) -> Writer:
        class Full(EntryWriter):
            def finish(self) -> None:
                raise SinkError("cannot write: No space left on device")

        return Full(len)


@pytest.mark.parametrize("first", [True, False])
def test_neither_output_is_published_when_one_cannot_be_finished(first: bool, tmp_path: Path) -> None:
    outputs = [FullOutput(), JSONOutputAdapter(tmp_path / "file.jsonl")]
    pipe = Pipe(IterableInputAdapter(rows(5, bad={1})), *(outputs if first else outputs[::-1]), Row)
    with pytest.raises(SinkError, match="No space left"):
        pipe.run()
    assert pipe.report.status is RunStatus.FAILED
    assert [path.name for path in tmp_path.iterdir()] == ["file.jsonl.partial"]


def test_an_observer_that_raises_is_disabled_and_the_run_unaffected(caplog: pytest.LogCaptureFixture) -> None:
    seen, calls = list[Event](), list[Event]()

    def raising(event: Event) -> None:
        calls.append(event)
        raise ZeroDivisionError

    pipe = Pipe(
        IterableInputAdapter(rows(30)), executor=SyncFifoExecutor(chunksize=5), observers=[raising, seen.append]
    )
    with caplog.at_level(logging.ERROR, "manyhands"):
        report = pipe.run()
    assert report.ok == 30
    assert len(calls) == 1
    assert len(seen) == 2 + 2 * 6
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "is disabled" in caplog.text


def test_observers_have_heard_of_the_end_when_a_run_returns() -> None:
    held = threading.Event()
    heard = list[Event]()

    def slow(event: Event) -> None:
        if isinstance(event, RunEnded):
            held.wait(0.05)
        heard.append(event)

    report = Pipe(SOURCE, observers=[slow]).run()
    assert heard[-1] == RunEnded("completed", report.counts)


def test_the_context_manager_aborts_what_still_runs_and_is_idempotent() -> None:
    with Pipe(IterableInputAdapter({"k": k} for k in count())) as pipe:
        report = pipe.start()
    assert report.status is RunStatus.ABORTED
    pipe.shutdown()
    Pipe(SOURCE).shutdown()


def test_an_executor_that_answers_with_no_future_fails_the_run() -> None:
    class Answers(ScriptedExecutor):
        def submit(self, chunk: Any) -> Any:
            return None

    with pytest.raises(ProtocolError, match="submit"):
        Pipe(SOURCE, executor=Answers()).run()


@pytest.mark.parametrize(
    ("hooks", "longest"),
    [([], 10_000), ([Does(lambda given, store: None)], 64 << 10)],
    ids=["without hooks", "with hooks"],
)
def test_an_executor_may_want_other_blocks_but_hooks_find_the_same_batches_everywhere(
    tmp_path: Path, hooks: list[BaseHook], longest: int
) -> None:
    source = tmp_path / "in.csv"
    source.write_text("a\n" + "12345678\n" * 20_000)
    lengths: list[int] = []
    executor = ScriptedExecutor(gate=lambda chunk: lengths.append(chunk.nbytes))
    executor.block_bytes = 10_000
    output = JSONOutputAdapter(tmp_path / "out.jsonl")
    report = Pipe(CSVInputAdapter(source), executor=executor, pre_validation_hooks=hooks, output_adapter=output).run()
    assert report.ok == 20_000
    assert max(lengths) <= longest < 2 * max(lengths)


def test_an_executor_runs_one_pipe_at_a_time() -> None:
    executor = SyncFifoExecutor()
    gate = threading.Event()

    def rows() -> Iterator[dict[str, int]]:
        gate.wait(10)
        yield {"a": 1}

    first = Pipe(IterableInputAdapter(rows), executor=executor)
    report = first.start()
    second = Pipe(IterableInputAdapter([{"b": 1}]), executor=executor)
    with pytest.raises(UsageError, match="is running another pipe"):
        second.run()
    gate.set()
    assert report.wait(10)
    assert second.run().ok == first.run().ok == 1


def test_an_executor_is_free_again_after_a_pipe_that_could_not_be_opened(tmp_path: Path) -> None:
    executor = SyncFifoExecutor()
    with pytest.raises(InputError):
        Pipe(CSVInputAdapter(tmp_path / "missing.csv"), executor=executor).run()
    assert Pipe(IterableInputAdapter([{"a": 1}]), executor=executor).run().ok == 1


def test_an_observer_that_exits_ends_nothing() -> None:
    def leave(event: object) -> None:
        raise SystemExit(3)

    assert Pipe(IterableInputAdapter([{"a": 1}]), observers=[leave]).run().counts["ok"] == 1


def test_a_hook_that_cannot_be_called_and_a_schema_that_cannot_be_built_are_refused_at_once() -> None:
    class Short(BaseHook):
        def execute(self, entries: Any) -> None:  # type: ignore[override]
            pass

    class Open(BaseModel):
        a: Nowhere  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(UsageError, match=r"Short must define execute\(entries, store\)"):
        Pipe(IterableInputAdapter([]), pre_validation_hooks=[Short()])
    with pytest.raises(UsageError, match="schema Open cannot be used: `Open` is not fully defined"):
        Pipe(IterableInputAdapter([]), schema_model=Open)


def test_an_id_that_cannot_be_made_rejects_its_record_alone() -> None:
    def odd(position: int) -> int:
        return 1 // (position - 1)

    entries = list(Pipe(IterableInputAdapter([{"a": 0}, {"a": 1}, {"a": 2}]), id_generator=odd).stream())
    assert [entry["status"] for entry in entries] == ["validated", "failed", "validated"]
    assert entries[1]["errors"][0]["type"] == "ZeroDivisionError"


def test_a_source_may_fill_one_dict_again_and_again() -> None:
    def rows() -> Iterator[dict[str, int]]:
        row: dict[str, int] = {}
        for n in range(3):
            row["n"] = n
            yield row

    assert [entry["raw_data"]["n"] for entry in Pipe(IterableInputAdapter(rows())).stream()] == [0, 1, 2]
