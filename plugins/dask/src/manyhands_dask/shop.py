"""What is the same for all workers of a run: the job, where it is done, and who is told what happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributed import Client

    from manyhands.errors import ManyhandsError
    from manyhands_dask.hand import Hand
    from manyhands_dask.tasks import Seat, Task


@dataclass(frozen=True, slots=True)
class Shop:
    """What all workers of a run have in common.

    Attributes:
        client: of the cluster.
        run: name of the run.
        job: what `WorkerContext.dumps` gave.
        resources: what a seat takes of its worker's.
        batch_size: `max_hook_chunk_size` of the job.
        replayable: its hooks may run again on the same records.
    """

    client: Client
    run: str
    job: bytes
    resources: Mapping[str, float]
    batch_size: int | None
    replayable: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """Whom a hand tells what happens.

    Attributes:
        ready: a seat of a hand is.
        free: a chunk has a result, and its seat can take another.
        recalled: a chunk is to be given to another.
        refused: a seat cannot be set up.
        ended: a seat has ended, perhaps with an error.
        news: how far a pipe is.
    """

    ready: Callable[[Hand, Seat], object]
    free: Callable[[Task], object]
    recalled: Callable[[Task], object]
    refused: Callable[[ManyhandsError], object]
    ended: Callable[[ManyhandsError | None], object]
    news: Callable[[int, tuple[int, ...]], object]
