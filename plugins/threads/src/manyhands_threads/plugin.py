"""What manyhands sees of this distribution."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from manyhands.executor import Capabilities
from manyhands.plugins.spec import Backend, ExecutorOptions, hookimpl


class ThreadOptions(ExecutorOptions):
    """Options of this backend.

    Attributes:
        max_workers: how many threads; left out: five for each CPU.
        chunksize: as everywhere, but left out it is 1 for jobs with hooks.
    """

    max_workers: Annotated[int, Field(ge=1, strict=True)] | None = None


@hookimpl
def manyhands_backends() -> list[Backend]:
    """The one backend."""
    return [
        Backend(
            "threads",
            "executor",
            "manyhands_threads.executor:ThreadExecutor",
            options=ThreadOptions,
            capabilities=Capabilities(concurrent=True, reports_progress=True),
        )
    ]
