"""The same job as people write it for Dask: a bag of lines.

python dask_bag.py SOURCE OUTPUT BLOCKSIZE

OUTPUT is a folder of parts. Writes to out/seconds how long it took: from a client that is connected, to workers that
are up and have imported what they need, to the last part.
"""

import csv
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import dask.bag
from rows import Row
from warm import clock
from warm import dask as connected


def parse(lines: Iterable[str], header: list[str]) -> Iterator[dict[str, str]]:
    """A block of lines to records; only the first block begins with the header."""
    return (dict(zip(header, row, strict=True)) for row in csv.reader(lines) if row != header)


def main(source: str, output: str, blocksize: str) -> None:
    """Run the job."""
    with Path(source).open(encoding="utf-8", newline="") as file:
        header = next(csv.reader(file))
    with connected("dask.bag", "rows"), clock():
        # Dask has no types.
        lines = dask.bag.read_text(source, blocksize=int(blocksize))  # type: ignore[no-untyped-call,unused-ignore]
        models = lines.map_partitions(parse, header).map(Row.model_validate)
        models.map(Row.model_dump_json).to_textfiles(f"{output}/*.jsonl", last_endline=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
