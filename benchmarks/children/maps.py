"""One map of many tiny calls over two processes that are up and warm.

python maps.py manyhands|mp-pool|executor|executor-submit CALLS [CHUNKSIZE]

Writes to out/seconds how long the map took, and fails when its results are wrong. Without CHUNKSIZE each tool chooses.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from calls import add_one, who

PROCESSES = 2
WARM = 100

Function = Callable[[int], int]
Map = Callable[[Function, range, int | None], list[int]]


@contextmanager
def manyhands() -> Iterator[Map]:
    """Ours."""
    from manyhands import Pool

    with Pool(PROCESSES) as pool:
        yield lambda function, numbers, size: pool.map(function, numbers, chunksize=size)


@contextmanager
def mp_pool() -> Iterator[Map]:
    """multiprocessing.Pool.map."""
    with multiprocessing.Pool(PROCESSES) as pool:
        yield pool.map


@contextmanager
def executor() -> Iterator[Map]:
    """concurrent.futures, map."""
    with ProcessPoolExecutor(PROCESSES) as pool:
        yield lambda function, numbers, size: list(pool.map(function, numbers, chunksize=size or 1))


@contextmanager
def executor_submit() -> Iterator[Map]:
    """concurrent.futures, one future for each call, taken as they come; it has no chunks."""
    with ProcessPoolExecutor(PROCESSES) as pool:
        yield lambda function, numbers, _: [
            future.result() for future in as_completed([pool.submit(function, number) for number in numbers])
        ]


TOOLS: dict[str, Callable[[], AbstractContextManager[Map]]] = {
    "manyhands": manyhands,
    "mp-pool": mp_pool,
    "executor": executor,
    "executor-submit": executor_submit,
}


def warm(run: Map) -> None:
    """Wait until every process has answered, and make one small map of what is going to be measured."""
    while len(set(run(who, range(WARM), 1))) < PROCESSES:
        pass
    run(add_one, range(WARM), None)


def main(tool: str, calls: str, chunksize: str | None = None) -> None:
    """Measure."""
    numbers, size = range(int(calls)), int(chunksize) if chunksize else None
    with TOOLS[tool]() as run:
        warm(run)
        started = time.perf_counter()
        results = run(add_one, numbers, size)
        seconds = time.perf_counter() - started
    if len(results) != len(numbers) or sum(results) != sum(numbers) + len(numbers):
        sys.exit(f"{tool}: wrong results: {len(results)} with the sum {sum(results)}")
    Path("out/seconds").write_text(f"{seconds!r}\n", encoding="ascii")


if __name__ == "__main__":
    main(*sys.argv[1:])
