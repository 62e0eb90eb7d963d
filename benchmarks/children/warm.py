"""Connects to the cluster of the run, and lets its processes have imported what they are going to need."""

import importlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ADDRESSES = {"dask": "DASK_SCHEDULER_ADDRESS", "ray": "RAY_ADDRESS"}
"""Variables that say where the cluster is; the clients of both read them, too."""
WORKERS = 2
STARTING_SECONDS = 3.0
"""So long a process of Ray may take to be up."""


def load(modules: Sequence[str]) -> int:
    """In a worker: import them, slowly enough for each worker to get its share; which process that is."""
    for module in modules:
        importlib.import_module(module)
    time.sleep(0.02)
    return os.getpid()


@contextmanager
def dask(*modules: str) -> Iterator[Any]:
    """A client of the Dask cluster."""
    from distributed import Client

    with Client() as client:
        client.wait_for_workers(WORKERS)
        client.run(load, modules)
        client.run_on_scheduler(load, modules)  # it loads what tasks name
        yield client


@contextmanager
def ray(*modules: str) -> Iterator[Any]:
    """Ray, connected.

    It has started a process for each CPU. An actor gets none that has run a task, so where no modules are named these
    are up, but bare.
    """
    import ray

    ray.init(log_to_driver=False, logging_level="ERROR")
    ray.put(modules)  # the first one imports pyarrow here
    time.sleep(STARTING_SECONDS)
    task = ray.remote(load)
    while modules and len(set(ray.get([task.remote(modules) for _ in range(WORKERS)]))) < WORKERS:
        pass
    yield ray
    ray.shutdown()


@contextmanager
def clock() -> Iterator[None]:
    """Writes to out/seconds how long its block takes."""
    started = time.perf_counter()
    yield
    seconds = time.perf_counter() - started
    Path("out/seconds").write_text(f"{seconds!r}\n", encoding="ascii")
