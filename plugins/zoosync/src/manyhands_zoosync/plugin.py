"""What manyhands sees of this distribution."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Annotated, Literal

from pydantic import Field

from manyhands.executor import Capabilities
from manyhands.plugins.spec import Backend, EngineOptions, ProcessExecutorOptions, hookimpl


class ZoosyncOptions(ProcessExecutorOptions):
    """Options of the executor.

    Attributes:
        max_workers: processes; left out: one for each CPU that this process may use.
        start_method: how they start: `forkserver` or `spawn`.
    """

    max_workers: Annotated[int, Field(ge=1, strict=True)] | None = None
    start_method: Literal["forkserver", "spawn"] = "forkserver"


class ZoosyncPoolEngineOptions(EngineOptions):
    """Options of the engine.

    Attributes:
        stuck_timeout: seconds after which a worker is killed that says nothing, or that is still at the same record;
            left out: never.
        start_method: how workers start: `forkserver` or `spawn`.
    """

    stuck_timeout: Annotated[float, Field(gt=0)] | None = None
    start_method: Literal["forkserver", "spawn"] = "forkserver"


CAPABILITIES = Capabilities(concurrent=True, crosses_process=True, can_kill=True, reports_progress=True)


@hookimpl
def manyhands_backends() -> list[Backend]:
    """The executor and the engine."""
    load = "manyhands_zoosync.executor:ZoosyncExecutor"
    prepare = "manyhands_zoosync.plugin:prepare"
    engine = "manyhands_zoosync.engine:ZoosyncPoolEngine"
    return [
        Backend("zoosync", "executor", load, ZoosyncOptions, CAPABILITIES, prepare),
        Backend("zoosync", "engine", engine, ZoosyncPoolEngineOptions, CAPABILITIES, prepare),
    ]


def prepare(options: ZoosyncOptions | ZoosyncPoolEngineOptions) -> AbstractContextManager[None]:
    """Fork the server now, where that is possible: later it takes a fresh interpreter."""
    if options.start_method != "forkserver":
        return nullcontext()
    from manyhands.processes.early import early_server

    return early_server("manyhands_zoosync.chunkworker", "manyhands_zoosync.robust", "manyhands.engines.task")
