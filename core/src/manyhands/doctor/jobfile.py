"""What the other checks read of a job file, without importing anything that it names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from manyhands.config.job import EngineTable, ExecutorTable, Job
from manyhands.config.load import load_job
from manyhands.errors import JobFileError


class Named(NamedTuple):
    """What a job file names; all of it is missing where the file is wrong, which is for the check of jobs to say."""

    executor: ExecutorTable | None = None
    engine: EngineTable | None = None
    outputs: tuple[Path, ...] = ()


def read_job(path: Path) -> Named:
    """The executor, the engine, and the files that are written."""
    try:
        job = load_job(path)
    except JobFileError:
        return Named()
    return Named(job.executor, job.engine, tuple(_outputs(path, job)))


def _outputs(path: Path, job: Job) -> Iterator[Path]:
    for table in (job.output, job.errors):
        if table is not None and isinstance(name := table.options.get("path"), str):
            yield Path(os.path.realpath(path.absolute().parent / name))
