"""The groups: which cases are measured beside each other."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import clusters
from benchmarks.cases import (
    Case,
    Group,
    Job,
    Options,
    UsageError,
    by_hand,
    can_import,
    connected,
    engine,
    folder_of,
    manyhands,
    mapped,
    process_pool,
    queued,
    submitted,
    usual,
    zoopipe,
)
from benchmarks.data import Dataset, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

PROCESSES = 2
BATCH = 64
SINGLE_PART = 50
"""Calls sent one by one take so much longer that a fiftieth of them will do."""
RECORDS_PART = 100
"""Of records in small chunks over connections a hundredth will do."""
CHUNKSIZES = (1, 10, 1000)
BAG_MIB = (1, 8)
"""Blocks of a bag."""
DATA_BLOCKS = (0, 16)
"""How many of a dataset; 0 lets Ray choose."""


def build(name: str, options: Options) -> Group:
    """The group of this name, with its inputs and job files in place.

    Raises:
        UsageError: the manyhands command is missing, or what a cluster takes.
    """
    if not options.manyhands.is_file():
        raise UsageError(f"there is no manyhands command at {options.manyhands}; install it or say --manyhands PATH")
    for module in ON_CLUSTERS.get(name, ()):
        if not Path("/proc/self/stat").exists() or not can_import(options.python, module):
            raise UsageError(f"{name} needs Linux, and {module} in {options.python}: see benchmarks/README.md")
    return GROUPS[name](options)


def _loops(options: Options, kind: Kind, *, hook: bool) -> Group:
    """One job by manyhands, by hand, and by the zoopipe release."""
    job = Job(f"{kind}-hook" if hook else kind, Dataset(kind, options.rows), hook)
    cases = [manyhands(options, job, executor) for executor in options.executors]
    cases += [by_hand(options, job, "hand-tuned", "--tuned"), by_hand(options, job, "hand-stock")]
    if options.zoopipe_python:
        cases.append(zoopipe(options, job))
    title = f"{options.rows:,} rows of 6 columns, {kind.upper()} to model to JSONL" + (", Python post hook" * hook)
    return Group(job.group, title, "hand-tuned", options.rounds, tuple(cases))


def _bad(options: Options) -> Group:
    """One row in a hundred is rejected."""
    clean, dirty = (Job("bad", Dataset("csv", options.rows, bad)) for bad in (False, True))
    cases: list[Case] = []
    for executor in options.executors:
        cases.append(replace(manyhands(options, clean, executor, "-clean"), leave_out_bad=True))
        cases.append(manyhands(options, dirty, executor))
    title = f"{options.rows:,} rows of CSV, one in a hundred bad"
    return Group("bad", title, cases[0].name, options.rounds, tuple(cases))


def _memory(options: Options) -> Group:
    """The same job on ten times the rows. Memory varies so little that one round does."""
    small, large = (Job("memory", Dataset("csv", options.memory_rows * times)) for times in (1, 10))
    cases: list[Case] = []
    for executor in options.executors:
        cases += [manyhands(options, small, executor), manyhands(options, large, executor, "-10x")]
    title = f"peak memory, CSV, {small.dataset.rows:,} and {large.dataset.rows:,} rows"
    compared = (replace(case, same_bytes=False) for case in cases)
    return Group("memory", title, cases[0].name, 1, tuple(compared))


def _parallel(options: Options) -> Group:
    """One job by two processes, and by the backends that have only one, which must not cost more than sync."""
    job = Job("parallel", Dataset("csv", options.rows))
    cases = [manyhands(options, job, "sync")]
    if can_import(options.python, "manyhands_multiprocessing"):
        cases.append(manyhands(options, job, "multiprocessing", max_workers=PROCESSES))
    cases += [
        manyhands(options, job, backend)
        for backend in ("threads", "asyncio")
        if can_import(options.python, f"manyhands_{backend}")
    ]
    cases.append(process_pool(options, job, PROCESSES))
    if options.zoopipe_python:
        cases.append(zoopipe(options, job, PROCESSES))
    title = f"{options.rows:,} rows of 6 columns, CSV to model to JSONL, one process and {PROCESSES}"
    return Group("parallel", title, "manyhands-sync", options.rounds, tuple(cases))


def _engine(options: Options) -> Group:
    """One job in shards, whole pipes side by side, and in chunks."""
    job = Job("engine", Dataset("csv", options.rows))
    cases = [manyhands(options, job, "sync")]
    if can_import(options.python, "manyhands_multiprocessing"):
        cases.append(manyhands(options, job, "multiprocessing", max_workers=PROCESSES))
        cases.append(engine(options, job, "multiprocessing", PROCESSES))
    if can_import(options.python, "manyhands_zoosync.engine"):
        cases.append(engine(options, job, "zoosync", PROCESSES))
    if options.zoopipe_python:
        cases.append(zoopipe(options, job, PROCESSES))
    title = f"{options.rows:,} rows of 6 columns, CSV to model to JSONL, one process and {PROCESSES} shards"
    return Group("engine", title, "manyhands-sync", options.rounds, tuple(cases))


def _queue(options: Options) -> Group:
    """Tasks through shared memory, in batches and one by one; the end is measured after a few thousand."""
    calls = max(options.rows // SINGLE_PART, 1)
    cases = [mapped(options, "queue", "executor", calls, 1), mapped(options, "queue", "executor-submit", calls)]
    if can_import(options.python, "manyhands_zoosync"):
        cases.append(queued(options, "queue", BATCH, options.rows))
        cases.append(queued(options, "queue", 1, calls))
        cases.append(queued(options, "queue", BATCH, calls, end=True))
    title = f"{options.rows:,} tasks of x + 1 in batches of {BATCH}, {calls:,} by themselves, {PROCESSES} processes"
    return Group("queue", title, "executor-1", options.rounds, tuple(cases))


def _map(options: Options) -> Group:
    """Calls in chunks. They are over so soon that they need more rounds."""
    cases = [mapped(options, "map", "mp-pool", options.rows, size) for size in (None, 10_000, 100_000)]
    if can_import(options.python, "manyhands_multiprocessing"):
        cases.insert(0, mapped(options, "map", "manyhands", options.rows))
    title = f"{options.rows:,} calls of x + 1, {PROCESSES} warm processes"
    return Group("map", title, "mp-pool", 4 * options.rounds, tuple(cases))


def _map_single(options: Options) -> Group:
    """Each call by itself."""
    calls = max(options.rows // SINGLE_PART, 1)
    cases = [mapped(options, "map-single", tool, calls, 1) for tool in ("executor", "mp-pool")]
    cases.append(mapped(options, "map-single", "executor-submit", calls))
    if can_import(options.python, "manyhands_multiprocessing"):
        cases.insert(0, mapped(options, "map-single", "manyhands", calls, 1))
    title = f"{calls:,} calls of x + 1, each by itself, {PROCESSES} warm processes"
    return Group("map-single", title, "executor-1", options.rounds, tuple(cases))


def _dask(options: Options) -> Group:
    """One job on a cluster of Dask: by ours, and as people write it; and on this machine."""
    job = Job("dask", Dataset("csv", options.rows))
    bags = [usual(options, job, f"bag-{mib}", "dask_bag.py", mib << 20) for mib in BAG_MIB]
    title = f"{options.rows:,} rows of 6 columns, CSV to model to JSONL, {PROCESSES} warm workers of Dask, or processes"
    cases = (*_ours(options, job, "dask"), *bags)
    return Group("dask", title, bags[0].name, options.rounds, cases, partial(clusters.dask, options.python))


def _ray(options: Options) -> Group:
    """As for Dask; its JSON has other datetimes."""
    job = Job("ray", Dataset("csv", options.rows))
    sets = [usual(options, job, f"data-{blocks}", "ray_data.py", blocks) for blocks in DATA_BLOCKS]
    title = f"{options.rows:,} rows of 6 columns, CSV to model to JSONL, {PROCESSES} warm CPUs of Ray, or processes"
    cases = (*_ours(options, job, "ray"), *(replace(case, same_bytes=False) for case in sets))
    return Group("ray", title, sets[0].name, options.rounds, cases, partial(clusters.ray, options.python))


def _ours(options: Options, job: Job, name: str) -> list[Case]:
    backends = (name, "multiprocessing")
    return [connected(options, job, kind, backend) for backend in backends for kind in ("engine", "executor")]


def _dask_submit(options: Options) -> Group:
    """Small chunks against the plainest use of a client."""
    records = max(options.rows // RECORDS_PART, 1)
    cases = (*_in_chunks(options, "dask", records), submitted(options, "dask-submit", records, "submit"))
    title = f"{records:,} records in small chunks, and plain tasks, {PROCESSES} warm workers of Dask"
    return Group("dask-submit", title, "submit", options.rounds, cases, partial(clusters.dask, options.python))


def _ray_submit(options: Options) -> Group:
    """As for Dask; tasks, and calls of actors."""
    records = max(options.rows // RECORDS_PART, 1)
    plain = [submitted(options, "ray-submit", records, tool) for tool in ("tasks", "actors")]
    title = f"{records:,} records in small chunks, and plain tasks, {PROCESSES} warm CPUs of Ray"
    cases = (*_in_chunks(options, "ray", records), *plain)
    return Group("ray-submit", title, "tasks", options.rounds, cases, partial(clusters.ray, options.python))


def _in_chunks(options: Options, name: str, records: int) -> list[Case]:
    return [submitted(options, f"{name}-submit", records, name, size) for size in CHUNKSIZES]


def _startup(options: Options) -> Group:
    """How long it takes until anything happens; runs so short need more rounds."""
    python = str(options.python)
    commands = {
        "bare": (python, "-c", "pass"),
        "import": (python, "-c", "import manyhands"),
        "version": (str(options.manyhands), "--version"),
    }
    cases = tuple(Case(name, command, folder_of(options, "startup", name)) for name, command in commands.items())
    return Group("startup", "start of the interpreter, the import and the command", "bare", 4 * options.rounds, cases)


GROUPS: dict[str, Callable[[Options], Group]] = {
    "csv": lambda options: _loops(options, "csv", hook=False),
    "csv-hook": lambda options: _loops(options, "csv", hook=True),
    "jsonl": lambda options: _loops(options, "jsonl", hook=False),
    "jsonl-hook": lambda options: _loops(options, "jsonl", hook=True),
    "bad": _bad,
    "memory": _memory,
    "parallel": _parallel,
    "engine": _engine,
    "queue": _queue,
    "map": _map,
    "map-single": _map_single,
    "startup": _startup,
    "dask": _dask,
    "dask-submit": _dask_submit,
    "ray": _ray,
    "ray-submit": _ray_submit,
}
ON_CLUSTERS: dict[str, tuple[str, ...]] = {
    "dask": ("manyhands_dask", "manyhands_multiprocessing", "dask.bag", "distributed"),
    "dask-submit": ("manyhands_dask", "distributed"),
    "ray": ("manyhands_ray", "manyhands_multiprocessing", "ray.data", "pandas"),
    "ray-submit": ("manyhands_ray", "ray"),
}
"""Groups that start a cluster, and what it takes: only measured when they are named."""
