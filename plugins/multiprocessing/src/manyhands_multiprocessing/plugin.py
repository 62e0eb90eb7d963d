"""What manyhands sees of this distribution."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Literal

from pydantic import Field

from manyhands.executor import Capabilities
from manyhands.plugins.spec import Backend, EngineOptions, ProcessExecutorOptions, hookimpl


class MultiProcessingOptions(ProcessExecutorOptions):
    """Options of the multiprocessing backend.

    Attributes:
        max_workers: processes; left out: one for each CPU that this process may use.
        start_method: how they start: `forkserver` or `spawn`.
        max_chunks_per_worker: after so many chunks a worker is replaced by a new one; left out: never.
    """

    max_workers: Annotated[int, Field(ge=1, strict=True)] | None = None
    start_method: Literal["forkserver", "spawn"] = "forkserver"
    max_chunks_per_worker: Annotated[int, Field(ge=1, strict=True)] | None = None


class MultiProcessEngineOptions(EngineOptions):
    """Options of the engine.

    Attributes:
        start_method: how workers start: `forkserver` or `spawn`.
    """

    start_method: Literal["forkserver", "spawn"] = "forkserver"


CAPABILITIES = Capabilities(concurrent=True, crosses_process=True, can_kill=True, reports_progress=True)


@hookimpl
def manyhands_backends() -> list[Backend]:
    """The executor and the engine."""
    load = "manyhands_multiprocessing.executor:MultiProcessingExecutor"
    prepare = "manyhands_multiprocessing.plugin:prepare"
    engine = "manyhands_multiprocessing.engine:MultiProcessEngine"
    return [
        Backend("multiprocessing", "executor", load, MultiProcessingOptions, CAPABILITIES, prepare),
        Backend("multiprocessing", "engine", engine, MultiProcessEngineOptions, CAPABILITIES, prepare),
    ]


def prepare(options: MultiProcessingOptions | MultiProcessEngineOptions) -> AbstractContextManager[None]:
    """Fork the server now, where that is possible: later it takes a fresh interpreter."""
    if options.start_method != "forkserver":
        return nullcontext()
    from manyhands.processes.early import early_server

    return early_server("manyhands_multiprocessing.worker", "manyhands.engines.task")
