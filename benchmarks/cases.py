"""What is measured: groups of cases that are run in turn and compared with each other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.data import Dataset, Kind, ensure

if TYPE_CHECKING:
    from collections.abc import Callable

CHILDREN = Path(__file__).parent / "children"
GOOD = "out/good.jsonl"
BAD = "out/bad.jsonl"


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


@dataclass(frozen=True, slots=True)
class Case:
    """One process to measure.

    Attributes:
        name: unique in its group.
        command: run in `folder`, with an empty folder `out` in it.
        folder: its own.
        rows: how many records it reads; 0 for a process that reads and writes nothing.
        bad_rows: how many of them belong into the error output.
        same_bytes: its output equals that of the group's other cases that say so.
        leave_out_bad: compare its output without the rows that are bad in the other case's input.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    rows: int = 0
    bad_rows: int = 0
    same_bytes: bool = False
    leave_out_bad: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """Cases that are compared.

    Attributes:
        name: of the group.
        title: what all its cases do.
        baseline: name of the case that the others are set in relation to.
        rounds: how often each case runs.
        cases: what runs in turn.
    """

    name: str
    title: str
    baseline: str
    rounds: int
    cases: tuple[Case, ...]


def build(name: str, options: Options) -> Group:
    """The group of this name, with its inputs and job files in place.

    Raises:
        UsageError: the manyhands command is missing, although the group has a case for it.
    """
    if not options.manyhands.is_file():
        raise UsageError(f"there is no manyhands command at {options.manyhands}; install it or say --manyhands PATH")
    return GROUPS[name](options)


def has_zoopipe(python: Path) -> bool:
    """Whether this interpreter can import the zoopipe release."""
    try:
        done = subprocess.run([python, "-c", "import zoopipe"], check=False, capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


@dataclass(frozen=True, slots=True)
class Job:
    """What the cases of a group have in common."""

    group: str
    dataset: Dataset
    hook: bool = False


def _loops(options: Options, kind: Kind, *, hook: bool) -> Group:
    """One job by manyhands, by hand, and by the zoopipe release."""
    job = Job(f"{kind}-hook" if hook else kind, Dataset(kind, options.rows), hook)
    cases = [_manyhands(options, job, executor) for executor in options.executors]
    cases += [_by_hand(options, job, "hand-tuned", "--tuned"), _by_hand(options, job, "hand-stock")]
    if options.zoopipe_python:
        cases.append(_zoopipe(options, job))
    title = f"{options.rows:,} rows of 6 columns, {kind.upper()} to model to JSONL" + (", Python post hook" * hook)
    return Group(job.group, title, "hand-tuned", options.rounds, tuple(cases))


def _bad(options: Options) -> Group:
    """One row in a hundred is rejected."""
    clean, dirty = (Job("bad", Dataset("csv", options.rows, bad)) for bad in (False, True))
    cases: list[Case] = []
    for executor in options.executors:
        cases.append(replace(_manyhands(options, clean, executor, "-clean"), leave_out_bad=True))
        cases.append(_manyhands(options, dirty, executor))
    title = f"{options.rows:,} rows of CSV, one in a hundred bad"
    return Group("bad", title, cases[0].name, options.rounds, tuple(cases))


def _memory(options: Options) -> Group:
    """The same job on ten times the rows. Memory varies so little that one round does."""
    small, large = (Job("memory", Dataset("csv", options.memory_rows * times)) for times in (1, 10))
    cases: list[Case] = []
    for executor in options.executors:
        cases += [_manyhands(options, small, executor), _manyhands(options, large, executor, "-10x")]
    title = f"peak memory, CSV, {small.dataset.rows:,} and {large.dataset.rows:,} rows"
    compared = (replace(case, same_bytes=False) for case in cases)
    return Group("memory", title, cases[0].name, 1, tuple(compared))


def _startup(options: Options) -> Group:
    """How long it takes until anything happens; runs so short need more rounds."""
    python = str(options.manyhands.with_name(Path(sys.executable).name))
    commands = {
        "bare": (python, "-c", "pass"),
        "import": (python, "-c", "import manyhands"),
        "version": (str(options.manyhands), "--version"),
    }
    cases = tuple(Case(name, command, _folder(options, "startup", name)) for name, command in commands.items())
    return Group("startup", "start of the interpreter, the import and the command", "bare", 4 * options.rounds, cases)


def _manyhands(options: Options, job: Job, executor: str, suffix: str = "") -> Case:
    """`manyhands run` as a person would type it."""
    name = f"manyhands-{executor}{suffix}"
    folder = _folder(options, job.group, name)
    for module in ("rows.py", "hooks.py"):
        shutil.copyfile(CHILDREN / module, folder / module)
    (folder / "job.toml").write_text(_job_file(_source(options, job), executor, job), encoding="utf-8")
    command = (str(options.manyhands), "run", "job.toml", "--progress", "none")
    return Case(name, command, folder, job.dataset.rows, job.dataset.bad_rows, same_bytes=True)


def _by_hand(options: Options, job: Job, name: str, *flags: str) -> Case:
    """The loop written for this job, by the interpreter that runs the benchmark."""
    script = str(CHILDREN / "hand_loop.py")
    command = (sys.executable, script, job.dataset.kind, str(_source(options, job)), GOOD, *_hook_flag(job), *flags)
    return Case(name, command, _folder(options, job.group, name), job.dataset.rows, same_bytes=True)


def _zoopipe(options: Options, job: Job) -> Case:
    """The zoopipe release; it writes datetimes differently, so only its rows are counted."""
    script, source = str(CHILDREN / "zoopipe_pipe.py"), str(_source(options, job))
    command = (str(options.zoopipe_python), script, job.dataset.kind, source, GOOD, BAD, *_hook_flag(job))
    return Case("zoopipe", command, _folder(options, job.group, "zoopipe"), job.dataset.rows)


def _source(options: Options, job: Job) -> Path:
    return ensure(job.dataset, options.cache)


def _hook_flag(job: Job) -> tuple[str, ...]:
    return ("--hook",) if job.hook else ()


def _folder(options: Options, group: str, name: str) -> Path:
    folder = options.work / group / name
    folder.mkdir(parents=True)
    return folder


def _job_file(source: Path, executor: str, job: Job) -> str:
    """The job file. A JSON string is a TOML string too."""
    post = ["hooks:Domain"] if job.hook else []
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
"""


GROUPS: dict[str, Callable[[Options], Group]] = {
    "csv": lambda options: _loops(options, "csv", hook=False),
    "csv-hook": lambda options: _loops(options, "csv", hook=True),
    "jsonl": lambda options: _loops(options, "jsonl", hook=False),
    "jsonl-hook": lambda options: _loops(options, "jsonl", hook=True),
    "bad": _bad,
    "memory": _memory,
    "startup": _startup,
}
