"""Cases of the conformance kit find the fault of a backend that has one, and name it."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from manyhands import BaseExecutor, Capabilities
from manyhands.chunks import Chunk, ChunkKind, ChunkResult
from manyhands.errors import TeardownError, WorkerLost
from manyhands.plugins.spec import Backend
from manyhands.testing import bench as benches
from manyhands.testing.bench import Bench
from manyhands.testing.cases.accounting import AccountingCases
from manyhands.testing.cases.cancelling import CancelCases
from manyhands.testing.cases.codec import CodecCases
from manyhands.testing.cases.crashes import CrashCases
from manyhands.testing.cases.events import EventCases
from manyhands.testing.cases.hooks import HookCases
from manyhands.testing.cases.maps import MapCases
from manyhands.testing.cases.order import OrderCases
from manyhands.worker.context import WorkerContext


class Honest(BaseExecutor):
    """Runs chunks where they are submitted; those below have one fault each."""

    capabilities = Capabilities(inline=True)
    context: WorkerContext

    def start(self, context: WorkerContext) -> None:
        context.setup()
        self.context = context

    def submit(self, chunk: Chunk) -> Future[ChunkResult]:
        future: Future[ChunkResult] = Future()
        try:
            future.set_result(self.run(chunk))
        except Exception as error:  # noqa: BLE001  # the driver decides
            future.set_exception(error)
        return future

    def run(self, chunk: Chunk) -> ChunkResult:
        return self.process_chunk_on_worker(chunk, self.context)

    def shutdown(self, *, cancel: bool = False) -> None:
        if hasattr(self, "context"):
            self.context.teardown()


class RunsTwice(Honest):
    def run(self, chunk: Chunk) -> ChunkResult:
        super().run(chunk)
        return super().run(chunk)


class LosesTheLast(Honest):
    """And says that it was dropped."""

    def run(self, chunk: Chunk) -> ChunkResult:
        result = super().run(chunk.narrowed(chunk.lo, chunk.hi - 1) if chunk.size > 1 else chunk)
        result.dropped += chunk.hi - result.hi
        result.hi = chunk.hi
        return result


class MixesUp(Honest):
    """Gives out one chunk's lines as another's."""

    before: bytes = b""

    def run(self, chunk: Chunk) -> ChunkResult:
        result = super().run(chunk)
        if isinstance(result.output, bytes) and result.output and chunk.sequence in (2, 3):
            self.before, result.output = result.output, self.before or result.output
        return result


class ThroughJSON(Honest):
    def run(self, chunk: Chunk) -> ChunkResult:
        if chunk.kind is ChunkKind.LIST:
            chunk = replace(chunk, payload=json.loads(json.dumps(chunk.payload, default=str, skipkeys=True)))
        return super().run(chunk)


class IgnoresChunksize(Honest):
    def chunksize_for(self, context: WorkerContext) -> int | None:
        return 4


class IgnoresBatches(Honest):
    def start(self, context: WorkerContext) -> None:
        context.max_hook_chunk_size = None
        super().start(context)


class ForgetsTeardown(Honest):
    def shutdown(self, *, cancel: bool = False) -> None:
        pass


class SwallowsTeardown(Honest):
    def shutdown(self, *, cancel: bool = False) -> None:
        with suppress(TeardownError):
            super().shutdown()


class StartsAllTheSame(Honest):
    """Sets up when the first chunk comes."""

    def start(self, context: WorkerContext) -> None:
        self.context = context

    def run(self, chunk: Chunk) -> ChunkResult:
        if self.context._worker is None:
            self.context.setup()
        return super().run(chunk)


class UnlocksTheStore(Honest):
    def start(self, context: WorkerContext) -> None:
        super().start(context)
        context.worker.hooks.store.unlock()


class Nameless(Honest):
    def run(self, chunk: Chunk) -> ChunkResult:
        return replace(super().run(chunk), worker="")


class BlamesWorkers(Honest):
    """Tells each record that is rejected as the death of a worker."""

    def run(self, chunk: Chunk) -> ChunkResult:
        result = super().run(chunk)
        if result.rejected:
            raise WorkerLost(reason="bad luck")
        return result


class Flattens(Honest):
    """Turns what a call raised into a RuntimeError."""

    def run(self, chunk: Chunk) -> ChunkResult:
        result = super().run(chunk)
        if chunk.kind is ChunkKind.CALLS:
            result.errors = [(place, RuntimeError(str(error))) for place, error in result.errors]
        return result


class InThread(Honest):
    """One thread, whose runs nobody can end."""

    capabilities = Capabilities()

    def start(self, context: WorkerContext) -> None:
        self._thread = ThreadPoolExecutor(1)
        context = self.adapted(context)
        self._thread.submit(super().start, context).result()

    def adapted(self, context: WorkerContext) -> WorkerContext:
        return context

    def submit(self, chunk: Chunk) -> Future[ChunkResult]:
        return self._thread.submit(self.run, chunk)

    def shutdown(self, *, cancel: bool = False) -> None:
        self._thread.shutdown()
        super().shutdown()


class Deaf(InThread):
    """Does not hear of an abort."""

    def adapted(self, context: WorkerContext) -> WorkerContext:
        return WorkerContext.loads(context.dumps())


# ruff: noqa: E501  # a table

Case = Callable[..., None]

FAULTS: list[tuple[type[Honest], Case, dict[str, Any], str]] = [
    (RunsTwice, AccountingCases.test_each_record_alone_has_its_outcome, {"seed": 1, "is_async": False}, "2 times inst"),
    (LosesTheLast, AccountingCases.test_records_of_a_batch_have_their_outcomes, {"seed": 3, "chunksize": 7}, "not written"),
    (MixesUp, OrderCases.test_output_is_in_input_order, {"chunksize": 7, "is_async": True}, "more than once"),
    (ThroughJSON, CodecCases.test_values_reach_the_worker_with_their_types, {}, "'decimal': \"str '1.10' instead of Decimal"),
    (ThroughJSON, CodecCases.test_values_come_back_with_their_types, {}, "values come back from workers changed"),
    (IgnoresChunksize, CodecCases.test_chunksize_is_honoured_to_the_letter, {"source": "csv", "chunksize": 7}, "batches of [4, "),
    (IgnoresBatches, HookCases.test_max_hook_chunk_size_caps_the_batch, {}, "came in batches of [7, 7"),
    (ForgetsTeardown, HookCases.test_each_worker_sets_its_store_up_and_tears_it_down, {"is_async": False}, "1 setups and 0"),
    (UnlocksTheStore, HookCases.test_the_store_is_read_only_while_hooks_execute, {}, "ok instead of rejected"),
    (SwallowsTeardown, CrashCases.test_what_is_raised_in_teardown_fails_the_run, {"fault": "sys.exit"}, "instead of a TeardownErr"),
    (StartsAllTheSame, CrashCases.test_what_is_raised_in_setup_ends_the_run_before_it_begins, {"fault": "raise"}, "records were r"),
    (BlamesWorkers, CrashCases.test_what_is_raised_costs_its_record_alone, {"stage": "pre"}, "dead instead of rejected"),
    (BlamesWorkers, HookCases.test_a_hook_that_must_not_run_twice_has_its_batch_rejected, {}, "dead instead of rejected"),
    (Nameless, EventCases.test_events_tell_the_run, {}, "do not say which worker"),
    (Flattens, MapCases.test_exceptions_come_in_their_places_and_keep_their_types, {}, "RuntimeError"),
    (Deaf, CancelCases.test_an_aborted_run_starts_no_record_any_more, {"chunksize": 500, "is_async": False}, "after the abort"),
]  # fmt: skip


def make_bench(kind: type[Honest], folder: Path, patch: pytest.MonkeyPatch) -> Bench:
    backend = Backend("flawed", "executor", "nowhere:Flawed", capabilities=kind.capabilities)
    patch.setattr(benches, "find", lambda name: backend)
    patch.setattr(benches, "get_executor", lambda name, **options: kind(**options))
    return Bench("flawed", {}, folder)


@pytest.mark.parametrize(
    ("kind", "case", "how", "words"),
    [pytest.param(*each, id=f"{each[0].__name__}-{each[1].__name__}") for each in FAULTS],
)
def test_a_fault_is_found_and_named(
    kind: type[Honest], case: Case, how: dict[str, Any], words: str, *, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AssertionError) as caught:
        case(None, make_bench(kind, tmp_path, monkeypatch), **how)
    said = str(caught.value)
    assert words in said
    assert said.startswith("flawed: ")
    assert "The contract says (" in said


@pytest.mark.parametrize(("case", "how"), [pytest.param(*each[1:3], id=each[1].__name__) for each in FAULTS[:-1]])
def test_no_fault_is_found_where_there_is_none(
    case: Case, how: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case(None, make_bench(Honest, tmp_path, monkeypatch), **how)
