"""What manyhands sees of this distribution."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from manyhands.executor import Capabilities
from manyhands.plugins.spec import Backend, ExecutorOptions, hookimpl


class AsyncIOOptions(ExecutorOptions):
    """Options of this backend.

    Attributes:
        concurrency: how many calls of async hooks may overlap.
        max_workers: how many threads may run hooks that are not async, and validation; left out: four more than CPUs.
        loop: an event loop to use; only from Python.
    """

    concurrency: Annotated[int, Field(ge=1, strict=True)] = 10
    max_workers: Annotated[int, Field(ge=1, strict=True)] | None = None
    loop: SkipJsonSchema[Any] = None  # no job file can name one


@hookimpl
def manyhands_backends() -> list[Backend]:
    """The one backend."""
    return [
        Backend(
            "asyncio",
            "executor",
            "manyhands_asyncio.executor:AsyncIOExecutor",
            options=AsyncIOOptions,
            capabilities=Capabilities(concurrent=True, reports_progress=True, async_native=True),
        )
    ]
