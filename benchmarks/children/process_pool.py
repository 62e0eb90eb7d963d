"""The loop of hand_loop.py over a pool of processes, as a careful person writes it. CSV only.

python process_pool.py SOURCE OUTPUT PROCESSES

This process reads and writes, the others validate and serialize. Rows travel as msgpack lists, which take it less time
than dicts or pickles; finished bytes come back. Few chunks are under way at a time, so memory stays small, and the
order is kept.
"""

import csv
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import msgpack
from hand_loop import MIB, encode, tune, validate

CHUNK = 1000
AHEAD = 4
"""Chunks under way for each process."""


def chunks(source: str) -> Iterator[bytes]:
    """Rows by csv.reader, packed a thousand at a time."""
    with Path(source).open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        while rows := list(islice(reader, CHUNK)):
            yield msgpack.packb(rows)


def work(chunk: bytes) -> bytes:
    """In a worker: packed rows to lines of JSON."""
    records = [
        {"id": a, "name": b, "email": c, "amount": d, "created": e, "active": f}
        for a, b, c, d, e, f in msgpack.unpackb(chunk)
    ]
    return encode(validate.validate_python(records))  # type: ignore[no-any-return,unused-ignore]  # Any, seen from the root


def results(pool: ProcessPoolExecutor, source: str, window: int) -> Iterator[bytes]:
    """What comes back, in order, with at most `window` chunks under way."""
    waiting: deque[Future[bytes]] = deque()
    for chunk in chunks(source):
        if len(waiting) == window:
            yield waiting.popleft().result()
        waiting.append(pool.submit(work, chunk))
    while waiting:
        yield waiting.popleft().result()


def main(source: str, output: str, processes: str) -> None:
    """Run the job."""
    tune()
    workers = int(processes)
    with ProcessPoolExecutor(workers, initializer=tune) as pool, Path(output).open("wb", buffering=MIB) as file:
        file.writelines(results(pool, source, AHEAD * workers))


if __name__ == "__main__":
    main(*sys.argv[1:])
