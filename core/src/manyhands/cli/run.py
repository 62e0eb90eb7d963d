"""`manyhands run`: runs a job, shows it, sums it up."""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from time import monotonic
from typing import Final, NoReturn

from manyhands.adapters.names import check_overlap, partial_name
from manyhands.adapters.output_file import OutputFile
from manyhands.cli.display import Display, make_display
from manyhands.cli.display.logged import logged
from manyhands.cli.interruption import Interruption
from manyhands.cli.streams import show
from manyhands.config.build import build_pipe, build_run
from manyhands.config.job import Job
from manyhands.config.load import load_job
from manyhands.errors import ManyhandsError, UsageError
from manyhands.manager import PipeManager
from manyhands.pipe import Pipe
from manyhands.plugins.registry import find, prepared
from manyhands.report import FlowReport, RunStatus
from manyhands.worker.tuning import tune_process

_REFRESH_SECONDS: Final = 0.1
_POLL_SECONDS: Final = 0.02
"""A second ^C raises nothing that would end the wait."""

_GRACE_SECONDS: Final = 0.7
_CLUSTER_GRACE_SECONDS: Final = 5.0
"""Workers of a cluster end when they hear of it; only then is it known what they have written."""


def run_job(
    path: Path,
    *,
    executor: str | None,
    settings: list[str],
    progress: str,
    report_file: Path | None,
    strict: bool,
) -> int:
    """Run a job file; returns the exit code.

    Raises:
        UsageError: the job cannot run.
    """
    gc.freeze()  # or whoever collects next looks through all that was imported: workers, the run, Python at its end
    job = load_job(path, executor=executor, settings=settings)
    with _prepared(job):
        pipe = build_pipe(path, job)
        runner = build_run(path, job, pipe)
        return _run_pipe(
            path, pipe, runner, progress=progress, report_file=report_file, strict=strict, grace=_grace(job)
        )


def _prepared(job: Job) -> AbstractContextManager[None]:
    if job.engine is not None:
        return prepared(job.engine.name, job.engine.options, "engine")
    return prepared(job.executor.name, job.executor.options)


def _grace(job: Job) -> float:
    """Seconds that a run may take to end after ^C."""
    backend = find(job.engine.name, "engine") if job.engine is not None else find(job.executor.name)
    return _CLUSTER_GRACE_SECONDS if backend.capabilities.distributed else _GRACE_SECONDS


def _run_pipe(
    path: Path,
    pipe: Pipe,
    runner: Pipe | PipeManager,
    *,
    progress: str,
    report_file: Path | None,
    strict: bool,
    grace: float,
) -> int:
    tune_process()
    with Interruption() as interruption:
        display = make_display(progress, path.stem)
        try:
            # Opened first: a report that cannot be written must not come to light after the run.
            output = _open_report(report_file, path, pipe) if report_file else None
            report, stuck = _run(runner, display, output, grace, interruption)
        finally:
            display.close()
        _conclude(display, pipe, report, output)
        code = _exit_code(report, strict=strict)
        if stuck or interruption.again:
            _leave(code)
    return code


def _open_report(file: Path, job: Path, pipe: Pipe) -> OutputFile:
    """The report's file, which must be none that the job reads or writes."""
    check_overlap([(job, "the job file")], [(file, "the report")])
    pipe.check_files((file, "the report"))
    return OutputFile(file)


def _run(
    runner: Pipe | PipeManager, display: Display, output: OutputFile | None, grace: float, interruption: Interruption
) -> tuple[FlowReport, bool]:
    """The final report, and whether something in the run did not come back."""
    try:
        with logged():
            report = runner.start()
            return report, not _watch(report, display, grace, interruption)
    except BaseException:
        if output:
            output.discard()
        raise


def _watch(report: FlowReport, display: Display, grace: float, interruption: Interruption) -> bool:
    """Show the run to its end; False when something of it had to be left behind."""
    with suppress(KeyboardInterrupt):
        while not interruption.count and not report.wait(_REFRESH_SECONDS):
            show(lambda: display.update(report))
    if report.is_finished and not interruption.count:
        return True
    report.abort()
    if not _ends(report, grace, interruption):
        report.end(RunStatus.ABORTED)
        return False
    return threading.active_count() == 1  # Python would wait for threads of the person's code


def _ends(report: FlowReport, grace: float, interruption: Interruption) -> bool:
    """Whether an aborted run ends while it is waited for."""
    end = monotonic() + grace
    with suppress(KeyboardInterrupt):
        while not interruption.again and not report.wait(_POLL_SECONDS) and monotonic() < end:
            pass
    return report.is_finished


def _conclude(display: Display, pipe: Pipe, report: FlowReport, output: OutputFile | None) -> None:
    """Say what came of the run, also where the report cannot be written."""
    try:
        if output:
            _write_report(output, report)
    finally:
        show(lambda: display.sum_up(report, list(_notes(pipe, report))))
        _complain(report)


def _leave(code: int) -> NoReturn:
    """End the process at once: Python would wait for threads that are stuck in the person's code."""
    show(sys.stderr.flush)
    os._exit(code)


def _write_report(output: OutputFile, report: FlowReport) -> None:
    try:
        output.write(json.dumps(report.as_dict(), indent=2).encode() + b"\n")
        output.finish(durable=report.status is not RunStatus.ABORTED)  # who presses ^C waits for no disk
        output.publish()
    except BaseException:
        output.discard()
        raise


def _notes(pipe: Pipe, report: FlowReport) -> Iterator[str]:
    if report.rejected and report.rejected == report.read:
        yield "every record was rejected: look at the first of them before the others"
    published = report.status in (RunStatus.COMPLETED, RunStatus.STOPPED)
    for name, adapter in (("output", pipe.output_adapter), ("errors", pipe.error_output_adapter)):
        if adapter is not None and adapter.path is not None:
            yield from _where(name, adapter.path, published=published)
    if report.error_count and pipe.error_output_adapter is None:
        yield "the rejected records were only counted; add an [errors] table to keep them"


def _where(name: str, path: Path, *, published: bool) -> Iterator[str]:
    partial = partial_name(Path(os.path.realpath(path)))
    if published:
        yield f"{name}: {_short(path)}"
    elif partial.exists() and partial.stat().st_size:
        yield f"{name}: nothing was published; what was written is in {_short(partial)}"
    else:
        yield f"{name}: nothing was published"


def _short(path: Path) -> str:
    """The path from where the person is, if that is shorter."""
    try:
        return min(os.path.relpath(path), str(path), key=len)
    except (ValueError, OSError):  # another drive, or a current folder that has been removed
        return str(path)


def _complain(report: FlowReport) -> None:
    """One line for what went wrong, however the run was shown."""
    error = report.exception
    if error is not None:
        words = str(error) if isinstance(error, ManyhandsError) else f"{type(error).__name__}: {error}"
        print(f"manyhands: {words}", file=sys.stderr)
    elif report.status is RunStatus.ABORTED:
        print("manyhands: the run was aborted", file=sys.stderr)


def _exit_code(report: FlowReport, *, strict: bool) -> int:
    if report.status not in (RunStatus.COMPLETED, RunStatus.STOPPED):
        return 2 if isinstance(report.exception, UsageError) else 1
    return 3 if report.dead or (strict and report.rejected) else 0
