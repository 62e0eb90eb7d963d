"""The job of the groups `dask` and `ray` by manyhands, on a cluster that is up or on processes of this machine.

python manyhands_pipe.py executor|engine dask|ray|multiprocessing SOURCE OUTPUT ERRORS

Writes to out/seconds how long that took: from a program that is connected, if there is a cluster, to the end of the
run, with all that a run starts and ends. Dask has imported manyhands before; workers of Ray are bare, and
processes of this machine are part of the run.
"""

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from rows import Row
from warm import ADDRESSES, WORKERS, clock, dask, ray

from manyhands import CSVInputAdapter, JSONOutputAdapter, Pipe, PipeManager, get_engine, get_executor

CONNECTED: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "dask": partial(dask, "rows", "manyhands.adapters.csv", "manyhands.adapters.json", "manyhands_dask.remote_pipe"),
    "ray": ray,
    "multiprocessing": nullcontext,
}


def options_of(name: str) -> dict[str, Any]:
    """Where the cluster is, if it is one."""
    return {"address": os.environ[ADDRESSES[name]]} if name in ADDRESSES else {}


def make(kind: str, name: str, source: Path, output: Path, errors: Path) -> Pipe | PipeManager:
    """The pipe, or the manager of its shards."""
    executor = get_executor(name, max_workers=WORKERS, **options_of(name)) if kind == "executor" else None
    whole = Pipe(
        input_adapter=CSVInputAdapter(source),
        output_adapter=JSONOutputAdapter(output),
        error_output_adapter=JSONOutputAdapter(errors),
        schema_model=Row,
        executor=executor,
    )
    if kind == "executor":
        return whole
    return PipeManager.parallelize_pipe(whole, WORKERS, get_engine(name, n_workers=WORKERS, **options_of(name)))


def main(kind: str, name: str, *files: str) -> None:
    """Measure."""
    with CONNECTED[name]():
        job = make(kind, name, *map(Path, files))
        with clock():
            job.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
