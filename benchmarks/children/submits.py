"""Records in small chunks through an executor on a cluster, and as many plain tasks of that cluster.

python submits.py dask|ray RECORDS CHUNKSIZE
python submits.py submit|tasks|actors RECORDS

Writes to out/seconds how long it took, from a cluster whose workers are up to the last result, and fails when results
are missing. A plain task takes the bytes of a record and gives them back, and all are handed over at once. Ours cuts,
packs, unpacks and encodes besides, and keeps few under way.
"""

import json
import sys
from collections.abc import Callable
from itertools import cycle

from calls import Same, same
from manyhands_pipe import CONNECTED, options_of
from warm import WORKERS, clock, dask, ray

from manyhands import IterableInputAdapter, NullOutputAdapter, Pipe, get_executor


def manyhands(name: str, numbers: range, chunksize: int) -> int:
    """Our executor."""
    records = IterableInputAdapter({"n": n} for n in numbers)
    with CONNECTED[name](), clock():
        executor = get_executor(name, chunksize=chunksize, max_workers=WORKERS, **options_of(name))
        return Pipe(records, NullOutputAdapter(), executor=executor).run().ok


def dask_submit(records: list[bytes]) -> int:
    """One future for each, and all results at the end. Impure, or Dask would first look which of them it knows."""
    with dask("calls") as client, clock():
        return len(client.gather([client.submit(same, record, pure=False) for record in records]))


def ray_tasks(records: list[bytes]) -> int:
    """One task for each."""
    with ray("calls") as connected, clock():
        task = connected.remote(same)
        return len(connected.get([task.remote(record) for record in records]))


def ray_actors(records: list[bytes]) -> int:
    """One call for each, of two actors in turn, any number under way: who does so cannot tell what killed an actor."""
    with ray() as connected:
        actors = [connected.remote(Same).remote() for _ in range(WORKERS)]
        connected.get([actor.same.remote(b"") for actor in actors])
        with clock():
            return len(connected.get([actor.same.remote(record) for actor, record in zip(cycle(actors), records)]))


PLAIN: dict[str, Callable[[list[bytes]], int]] = {
    "submit": dask_submit,
    "tasks": ray_tasks,
    "actors": ray_actors,
}


def main(tool: str, records: str, chunksize: str = "") -> None:
    """Measure."""
    numbers = range(int(records))
    if chunksize:
        count = manyhands(tool, numbers, int(chunksize))
    else:
        count = PLAIN[tool]([json.dumps({"n": n}).encode() for n in numbers])
    if count != len(numbers):
        sys.exit(f"{tool}: {count} results")


if __name__ == "__main__":
    main(*sys.argv[1:])
