"""`manyhands check`: what a job would run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from manyhands.cli.columns import print_columns
from manyhands.config.build import build_pipe, build_run, check_code, check_files
from manyhands.config.job import AdapterTable, EngineTable, ExecutorTable
from manyhands.config.load import load_job
from manyhands.cpus import cpus
from manyhands.pipe import Pipe


def check_job(path: Path, *, executor: str | None, settings: list[str]) -> None:
    """Import all that the job names, look at its files, and print what would run.

    Raises:
        UsageError: the job cannot run; says why.
    """
    job = load_job(path, executor=executor, settings=settings)
    pipe = build_pipe(path, job)
    check_files(pipe)
    build_run(path, job, pipe)
    if pipe.executor.capabilities.crosses_process:
        check_code(pipe)
    print_columns(
        [
            *_rows(job.input, job.output, job.errors, pipe),
            ("executor", _named(job.executor)),
            *([("engine", f"{_named(job.engine)} workers={job.engine.workers or cpus()}")] if job.engine else []),
            ("run", " ".join(f"{key}={value}" for key, value in job.run.model_dump().items())),
        ]
    )
    print(f"{path} is fine: nothing was run")


def _rows(source: AdapterTable, output: Any, errors: Any, pipe: Pipe) -> list[tuple[str, str]]:
    return [
        ("input", f"{source.adapter} {pipe.input_adapter.path or ''}".rstrip()),
        ("pre hooks", _names(pipe.pre_validation_hooks)),
        ("schema", pipe.schema_model.__name__ if pipe.schema_model else "none: records are taken as they are"),
        ("post hooks", _names(pipe.post_validation_hooks)),
        ("output", _target(output, pipe.output_adapter)),
        ("errors", _target(errors, pipe.error_output_adapter)),
    ]


def _named(table: ExecutorTable | EngineTable) -> str:
    return " ".join([table.name, *(f"{key}={value!r}" for key, value in table.options.items())])


def _names(hooks: list[Any]) -> str:
    return ", ".join(type(hook).__name__ for hook in hooks) or "none"


def _target(table: AdapterTable | None, adapter: Any) -> str:
    return "none: counted only" if table is None else f"{table.adapter} {adapter.path or ''}".rstrip()
