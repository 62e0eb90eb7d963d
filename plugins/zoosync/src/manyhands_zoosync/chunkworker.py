"""What runs in a worker process of the executor: a chunk at a time, read where it lies in shared memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from enum import IntEnum
from types import SimpleNamespace
from typing import TYPE_CHECKING, Final

from manyhands.chunks import ChunkKind
from manyhands.errors import TeardownError
from manyhands.processes.messages import Buffer, frame
from manyhands.worker import pickles
from manyhands.worker.cell import ProgressCell
from manyhands.worker.context import WorkerContext
from manyhands.worker.failures import as_init_error
from manyhands.worker.pipeline import process_chunk_on_worker
from manyhands.worker.transport import dump_result, load_chunk
from manyhands.worker.tuning import tune_process
from manyhands_zoosync.baseworker import BaseWorker, end_fork, live
from manyhands_zoosync.job import ChunkJob
from manyhands_zoosync.payload import PLACE
from manyhands_zoosync.segment import Segment
from manyhands_zoosync.slots import SLOT
from manyhands_zoosync.status import WorkerState
from manyhands_zoosync.taskqueue import Claimed

if TYPE_CHECKING:
    from manyhands.chunks import Chunk

MAIN: Final = f"{__name__}:main"

ID_BYTES: Final = 4
"""The header of a message about a chunk begins with its id."""


class Kind(IntEnum):
    """What a message of a worker says."""

    READY = 1
    RESULT = 2
    FAILED = 3
    ENDED = 4


def main(descriptors: Sequence[int]) -> None:
    """Run chunks until the supervisor says stop, or is gone.

    Args:
        descriptors: see `live`.
    """
    live(descriptors, _Worker)


class _Worker(BaseWorker):
    def __init__(self, number: int, job: ChunkJob, segment: Segment, bell: int, rope: int) -> None:
        super().__init__(number, job, segment, bell, rope)
        sys.argv[:] = job.argv
        self._job = job.context
        self._context: WorkerContext

    def work(self) -> None:
        try:
            self._set_up()
        except Exception as error:  # noqa: BLE001  # whatever the job's code raises keeps this worker from starting
            self._send(Kind.ENDED, pickles.dump_failure(as_init_error(error)))
        else:
            self._send(Kind.READY)
            self._publish()
            while self._run_next():
                pass
            self._tear_down()
        self._publish()

    def _set_up(self) -> None:
        context = WorkerContext.loads(self._job)
        self._job = b""
        context.cell = ProgressCell(self._queue.progress(self._number))
        context.cancelled = SimpleNamespace(is_set=self._queue.is_aborted)  # type: ignore[assignment]  # only that is used
        context.setup()
        tune_process()
        self._context = context

    def _run(self, claimed: Claimed) -> None:
        if self._status.state != WorkerState.RUNNING:
            self._be(WorkerState.RUNNING)
        tsk_id, _, _, size, data = SLOT.unpack(claimed.slots)
        name = tsk_id.to_bytes(ID_BYTES, "little")
        self._running[0] = 1
        try:
            chunk = self._load(data[:size])
            result = process_chunk_on_worker(chunk, self._context)
            header, parts = dump_result(result, chunk, self._context)
        except Exception as error:  # noqa: BLE001  # the driver decides what a failed chunk means
            self._send(Kind.FAILED, name + pickles.dump_failure(error))
        else:
            self._send(Kind.RESULT, name + header, *parts)

    def _load(self, data: bytes) -> Chunk:
        start, size = PLACE.unpack_from(data)
        place = self._arena[start : start + size]
        chunk = load_chunk(data[PLACE.size :], place)  # type: ignore[arg-type]  # see below
        # These are unpacked from where they lie; text is looked at in ways in which only bytes can be.
        in_place = chunk.compressed or chunk.kind is ChunkKind.PACKED
        return chunk if in_place else replace(chunk, payload=bytes(place))

    def _tear_down(self) -> None:
        try:
            self._context.teardown()
        except TeardownError as error:
            self._send(Kind.ENDED, pickles.dump_failure(error))
        else:
            self._send(Kind.ENDED)

    def _send(self, kind: Kind, header: Buffer = b"", first: Buffer = b"", second: Buffer = b"") -> None:
        """Write a message, that is published next time."""
        if os.getpid() != self._pid:
            end_fork("hook")
        for buffer in frame(kind, header, first, second):
            self._write(buffer)
