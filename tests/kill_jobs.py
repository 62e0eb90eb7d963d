"""A run of many records, in chunks or in shards, in whose midst something is killed. Workers import it as it is here.

    python -c "from tests.kill_jobs import main; main()" KIND NAME ADDRESS FOLDER

is a program that takes its time over it, and says how it ended.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from manyhands import (
    BaseHook,
    CSVInputAdapter,
    Executor,
    FlowReport,
    JSONOutputAdapter,
    Pipe,
    PipeManager,
    get_engine,
    get_executor,
)
from manyhands.errors import ExecutorBroken
from manyhands.hooks import HookStore
from manyhands.records import Entry

Kind = Literal["executor", "engine"]

COUNT = 500_000
REJECTED = 500
"""So many of them."""

WORKERS = 2


class Row(BaseModel):
    """Of the table."""

    k: int
    name: str
    amount: float


class Paces(BaseHook):
    """Makes a run longer than its cluster lives."""

    def execute(self, entries: list[Entry], store: HookStore) -> None:
        time.sleep(0.4)


def write_table(path: Path) -> None:
    """The table."""
    with path.open("w") as file:
        file.write("k,name,amount\n")
        file.writelines(f"{'x' if k % 1000 == 7 else k},name {k},{k % 97}.25\n" for k in range(COUNT))


def pipe_to(
    folder: Path, executor: Executor | None = None, hooks: Sequence[BaseHook] = (), batch: int | None = None
) -> Pipe:
    """From the table in the folder above to files in this one."""
    source = CSVInputAdapter(folder.parent / "in.csv")
    outputs = JSONOutputAdapter(folder / "out.jsonl"), JSONOutputAdapter(folder / "errors.jsonl")
    return Pipe(source, *outputs, Row, executor, hooks, max_hook_chunk_size=batch)


@contextmanager
def running(
    kind: Kind, name: str, options: dict[str, Any], folder: Path, *, shards: int = WORKERS, **how: Any
) -> Iterator[FlowReport]:
    """The run, which is ended if it has not yet."""
    if kind == "executor":
        with pipe_to(folder, get_executor(name, max_workers=WORKERS, **options), **how) as pipe:
            yield pipe.start()
        return
    engine = get_engine(name, n_workers=WORKERS, **options)
    with PipeManager.parallelize_pipe(pipe_to(folder, **how), shards, engine) as manager:
        yield manager.start()


def main() -> None:
    """Run it, slowly."""
    kind, name, address, folder = sys.argv[1:]
    say: Callable[[str], None] = lambda words: print(words, flush=True)  # noqa: E731, T201  # the test reads it
    slowly = {"hooks": [Paces()], "batch": 1000, "shards": 50}
    with running(kind, name, {"address": address}, Path(folder), **slowly) as report:  # type: ignore[arg-type]  # it is one
        while not report.wait(0.05) and report.ok < COUNT // 10:
            pass  # until some shards are complete
        say("going on")
        report.wait()
        say(json.dumps([report.status, isinstance(report.exception, ExecutorBroken), str(report.exception)]))
