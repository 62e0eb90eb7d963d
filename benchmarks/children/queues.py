"""Many tiny tasks, with results, through the shared-memory queue of zoosync and two processes that are up and warm.

python queues.py BATCH TASKS [end]

Writes to out/seconds how long that took, and fails when results are wrong. With `end` it is instead the time from the
last task to the return of `run`, which has ended the processes and released the memory by then.
"""

import sys
import time
from pathlib import Path

from calls import add_one, who

from manyhands_zoosync import Supervisor

PROCESSES = 2
WARM = 100


def warm(queue: Supervisor) -> None:
    """Wait until every process has answered."""
    pids: set[int] = set()
    while len(pids) < PROCESSES:
        queue.enqueue_many(who, zip(range(WARM)))
        pids.update(result.value for result in queue.results())


def through(batch: int, tasks: int) -> float:
    """Seconds until every task has its result."""
    with Supervisor(PROCESSES, batch_size=batch) as queue:
        queue.register(who)
        queue.register(add_one)
        warm(queue)
        started = time.perf_counter()
        queue.enqueue_many(add_one, zip(range(tasks)))
        values = [result.value for result in queue.results()]
        seconds = time.perf_counter() - started
    if len(values) != tasks or sum(values) != tasks * (tasks + 1) // 2:
        sys.exit(f"zoosync: wrong results: {len(values)} with the sum {sum(values)}")
    return seconds


def end(batch: int, tasks: int) -> float:
    """Seconds from the last task to the end."""
    queue = Supervisor(PROCESSES, batch_size=batch)
    queue.register(time.monotonic)
    queue.run(lambda: queue.enqueue_many(time.monotonic, [()] * tasks), show=False)
    ended = time.monotonic()
    done = [result.value for result in queue.results()]
    if len(done) != tasks:
        sys.exit(f"zoosync: {len(done)} results")
    return ended - max(done)


def main(batch: str, tasks: str, what: str = "") -> None:
    """Measure."""
    seconds = (end if what == "end" else through)(int(batch), int(tasks))
    Path("out/seconds").write_text(f"{seconds!r}\n", encoding="ascii")


if __name__ == "__main__":
    main(*sys.argv[1:])
