"""What is measured: one process each, made ready to run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.data import Dataset, ensure

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from benchmarks.measure import Cluster

CHILDREN = Path(__file__).parent / "children"
GOOD = "out/good.jsonl"
BAD = "out/bad.jsonl"
SECONDS = "out/seconds"


class UsageError(Exception):
    """The command line asks for what cannot be measured here."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says.

    Attributes:
        rows: how many each case gets, except in the memory group.
        memory_rows: how many the smaller case of the memory group gets; the larger one gets ten times as many.
        rounds: how often each case runs.
        executors: the backends of manyhands to measure.
        manyhands: its console script.
        zoopipe_python: an interpreter that has the zoopipe release; None to leave it out.
        cache: where generated inputs are kept.
        work: where the measured processes run and write.
    """

    rows: int
    memory_rows: int
    rounds: int
    executors: tuple[str, ...]
    manyhands: Path
    zoopipe_python: Path | None
    cache: Path
    work: Path

    @property
    def python(self) -> Path:
        """The interpreter beside the manyhands command."""
        return self.manyhands.with_name(Path(sys.executable).name)


@dataclass(frozen=True, slots=True)
class Case:
    """One process to measure.

    Attributes:
        name: unique in its group.
        command: run in `folder`, with an empty folder `out` in it.
        folder: its own.
        rows: how many records it reads, or calls it makes; 0 for a process that does neither.
        bad_rows: how many of them belong into the error output.
        same_bytes: its output equals that of the group's other cases that say so.
        leave_out_bad: compare its output without the rows that are bad in the other case's input.
        may_miscount: its output may have so many rows more or fewer.
        own_clock: it writes how long its work took, without its start, to `out/seconds`.
        checks_itself: it has no output, and fails when its results are wrong.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    rows: int = 0
    bad_rows: int = 0
    same_bytes: bool = False
    leave_out_bad: bool = False
    may_miscount: int = 0
    own_clock: bool = False
    checks_itself: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that are compared.

    Attributes:
        name: of the group.
        title: what all its cases do.
        baseline: name of the case that the others are set in relation to.
        rounds: how often each case runs.
        cases: what runs in turn.
        cluster: starts what one run needs beside it, and ends that.
    """

    name: str
    title: str
    baseline: str
    rounds: int
    cases: tuple[Case, ...]
    cluster: Callable[[], AbstractContextManager[Cluster | None]] = nullcontext


@dataclass(frozen=True, slots=True)
class Job:
    """What the cases of a group have in common."""

    group: str
    dataset: Dataset
    hook: bool = False


def can_import(python: Path, module: str) -> bool:
    """Whether this interpreter has the module."""
    try:
        done = subprocess.run([python, "-c", f"import {module}"], check=False, capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


def manyhands(options: Options, job: Job, executor: str, suffix: str = "", **settings: int) -> Case:
    """`manyhands run` as a person would type it; `settings` are those of the backend."""
    name = f"manyhands-{executor}{suffix}"
    folder = folder_of(options, job.group, name)
    for module in ("rows.py", "hooks.py"):
        shutil.copyfile(CHILDREN / module, folder / module)
    (folder / "job.toml").write_text(_job_file(_source(options, job), job, executor, settings), encoding="utf-8")
    command = (str(options.manyhands), "run", "job.toml", "--progress", "none")
    return Case(name, command, folder, job.dataset.rows, job.dataset.bad_rows, same_bytes=True)


def engine(options: Options, job: Job, name: str, workers: int) -> Case:
    """The same job by an engine: so many shards, each read and written by a process of its own."""
    case = manyhands(options, job, "sync", f"-on-{name}")
    with (case.folder / "job.toml").open("a", encoding="utf-8") as file:
        file.write(f'[engine]\nname = "{name}"\nworkers = {workers}\n')
    return replace(case, name=f"engine-{name}")


def by_hand(options: Options, job: Job, name: str, *flags: str) -> Case:
    """The loop written for this job, by the interpreter that runs the benchmark."""
    script = str(CHILDREN / "hand_loop.py")
    command = (sys.executable, script, job.dataset.kind, str(_source(options, job)), GOOD, *_hook_flag(job), *flags)
    return Case(name, command, folder_of(options, job.group, name), job.dataset.rows, same_bytes=True)


def process_pool(options: Options, job: Job, processes: int) -> Case:
    """The same loop over processes of the standard library."""
    name, script = "pool-msgpack", str(CHILDREN / "process_pool.py")
    command = (sys.executable, script, str(_source(options, job)), GOOD, str(processes))
    return Case(name, command, folder_of(options, job.group, name), job.dataset.rows, same_bytes=True)


def zoopipe(options: Options, job: Job, processes: int = 1) -> Case:
    """The zoopipe release; it writes datetimes differently, so only its rows are counted.

    Where it cuts a file in two it may write the row at the cut twice, or lose it.
    """
    name = "zoopipe" if processes == 1 else f"zoopipe-{processes}"
    script, files = str(CHILDREN / "zoopipe_pipe.py"), (str(_source(options, job)), GOOD, BAD)
    command = (str(options.zoopipe_python), script, job.dataset.kind, *files, str(processes), *_hook_flag(job))
    folder = folder_of(options, job.group, name)
    return Case(name, command, folder, job.dataset.rows, may_miscount=processes - 1)


def mapped(options: Options, group: str, tool: str, calls: int, chunksize: int | None = None) -> Case:
    """Function calls by a pool that is up: by its own clock, or its start would be most of what is measured."""
    size = () if chunksize is None else (str(chunksize),)
    command = (str(options.python), str(CHILDREN / "maps.py"), tool, str(calls), *size)
    name = "-".join((tool, *size))
    return Case(name, command, folder_of(options, group, name), calls, own_clock=True, checks_itself=True)


def queued(options: Options, group: str, batch: int, tasks: int, *, end: bool = False) -> Case:
    """Tasks through the shared-memory queue; or how long its end takes after the last of them."""
    command = (str(options.python), str(CHILDREN / "queues.py"), str(batch), str(tasks), *(("end",) if end else ()))
    name = "zoosync-end" if end else f"zoosync-{batch}"
    folder = folder_of(options, group, name)
    return Case(name, command, folder, 0 if end else tasks, own_clock=True, checks_itself=True)


def connected(options: Options, job: Job, kind: str, name: str) -> Case:
    """The job by an executor or an engine: of the group's cluster, or of this machine for comparison."""
    shown = f"{'engine' if kind == 'engine' else 'manyhands'}-{name}"
    command = (kind, name, str(_source(options, job)), GOOD, BAD)
    return _scripted(options, job, shown, "manyhands_pipe.py", *command)


def usual(options: Options, job: Job, name: str, script: str, blocks: int) -> Case:
    """The job as people write it for the group's cluster; its output is a folder of parts."""
    return _scripted(options, job, name, script, str(_source(options, job)), GOOD, str(blocks))


def submitted(options: Options, group: str, records: int, tool: str, chunksize: int | None = None) -> Case:
    """Records in chunks of so many by an executor on the group's cluster; or as many plain tasks of that."""
    name, size = (tool, ()) if chunksize is None else (f"manyhands-{chunksize}", (str(chunksize),))
    command = (str(options.python), str(CHILDREN / "submits.py"), tool, str(records), *size)
    return Case(name, command, folder_of(options, group, name), records, own_clock=True, checks_itself=True)


def _scripted(options: Options, job: Job, name: str, script: str, *arguments: str) -> Case:
    command = (str(options.python), str(CHILDREN / script), *arguments)
    folder = folder_of(options, job.group, name)
    return Case(name, command, folder, job.dataset.rows, same_bytes=True, own_clock=True)


def folder_of(options: Options, group: str, name: str) -> Path:
    """A folder for this case, new."""
    folder = options.work / group / name
    folder.mkdir(parents=True)
    return folder


def _source(options: Options, job: Job) -> Path:
    return ensure(job.dataset, options.cache)


def _hook_flag(job: Job) -> tuple[str, ...]:
    return ("--hook",) if job.hook else ()


def _job_file(source: Path, job: Job, executor: str, settings: dict[str, int]) -> str:
    """The job file. A JSON string is a TOML string too."""
    post = ["hooks:Domain"] if job.hook else []
    lines = "\n".join(f"{name} = {value}" for name, value in settings.items())
    return f"""\
[input]
adapter = "{job.dataset.kind}"
path = {json.dumps(str(source))}
[schema]
model = "rows:Row"
[hooks]
post = {json.dumps(post)}
[output]
adapter = "jsonl"
path = "{GOOD}"
[errors]
adapter = "jsonl"
path = "{BAD}"
[executor]
name = "{executor}"
{lines}
"""
