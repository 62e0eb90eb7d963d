"""What every worker of a run gets when it starts: in shared memory too, so that nobody has to wait for a pipe."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from manyhands.errors import UnpicklableError
from manyhands.worker import pickles
from manyhands.worker.surroundings import Surroundings
from manyhands_zoosync.layout import Layout
from manyhands_zoosync.lock import LockKind
from manyhands_zoosync.segment import Segment


@dataclass(frozen=True, slots=True)
class BaseJob:
    """What any of them is told.

    Attributes:
        layout: of the memory.
        lock: kind of its lock.
        batch_size: tasks that a worker claims at once, at most.
    """

    layout: Layout
    lock: LockKind
    batch_size: int

    def save(self) -> Segment:
        """It in a segment of its own.

        Raises:
            OSError: there is no memory, or there are no descriptors, for it.
        """
        data = pickles.dumps(self)
        segment = Segment.create(len(data))
        segment.view(0, len(data))[:] = data
        return segment

    @classmethod
    def load(cls, descriptor: int) -> Self:
        """It again, from the segment of this descriptor, which is closed."""
        size = os.fstat(descriptor).st_size
        segment = Segment(descriptor, size)
        try:
            job: Self = pickles.loads(segment.view(0, size))
        finally:
            segment.close()
        return job


@dataclass(frozen=True, slots=True)
class Job(BaseJob):
    """What workers are told that call functions.

    Attributes:
        functions: each as bytes, by its `fn_id`.
        surroundings: of the program.
    """

    functions: Mapping[int, bytes]
    surroundings: Surroundings


@dataclass(frozen=True, slots=True)
class ChunkJob(BaseJob):
    """What workers are told that run chunks.

    Attributes:
        context: the job of the pipe as bytes.
        argv: of the program.
    """

    context: bytes
    argv: Sequence[str]


def dump_function(function: Callable[..., Any]) -> bytes:
    """A function as bytes.

    Raises:
        UnpicklableError: it cannot travel.
    """
    try:
        return pickles.dumps(function)
    except Exception as error:
        name = getattr(function, "__qualname__", None) or repr(function)
        raise UnpicklableError(
            f"the function {name} cannot be sent to a worker process: {pickles.named(error)}"
        ) from error
