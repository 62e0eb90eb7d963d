"""What the workers of a run have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Self

from manyhands.processes.owner import owned_name
from manyhands_ray.board import KIND, Board

if TYPE_CHECKING:
    from manyhands.worker.context import WorkerContext
    from manyhands_ray.crew import Staffing


@dataclass(frozen=True, slots=True)
class Workshop:
    """It.

    Attributes:
        folder: for their boards, until they have them open.
        boards: how the names of these begin.
        job: the job's context, in Ray's object store.
        batch_size: `max_hook_chunk_size` of the job.
        options: of the actors.
        answered: called from a thread of Ray when a call has ended, with what is to be done then.
        on_note: takes what a worker tells of the pipe that runs in it; see `manyhands_ray.away.copy`.
    """

    folder: Path
    boards: str
    job: Any
    batch_size: int | None
    options: dict[str, Any]
    answered: Callable[[Callable[[], None]], None]
    on_note: Callable[[bytes], tuple[bool, bool]]

    @classmethod
    def make(
        cls,
        job: Any,
        context: WorkerContext,
        staffing: Staffing,
        answered: Callable[[Callable[[], None]], None],
    ) -> Self:
        """That of a run; what others have left of theirs is removed.

        Args:
            job: see there.
            context: the job.
            staffing: what the person wants of the workers.
            answered: see there.
        """
        folder = Path(gettempdir())
        Board.sweep(folder)
        options = {**staffing.needs.options, "runtime_env": staffing.runtime_env or None}
        boards = f"{owned_name(KIND)}{monotonic_ns()}-"
        return cls(folder, boards, job, context.max_hook_chunk_size, options, answered, _copy)


def _copy(note: bytes) -> tuple[bool, bool]:
    from manyhands_ray.away import copy  # with the engines, which executors do not need

    return copy(note)
