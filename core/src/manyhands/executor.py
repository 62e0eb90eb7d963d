"""The contract of an executor, and the base class with its defaults."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from manyhands.chunks import MAX_RECORDS
from manyhands.errors import OptionsError

if TYPE_CHECKING:
    from manyhands.chunks import Chunk, ChunkResult
    from manyhands.worker.context import WorkerContext

Compression = Literal["lz4"] | None
"""How payloads that cross processes are compressed."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do: data that tests prove, never prose.

    Attributes:
        inline: `submit` runs the chunk in the calling thread and returns a finished future.
        concurrent: more than one chunk runs at a time.
        crosses_process: chunks leave this process, so records travel packed and code is pickled.
        distributed: workers may be on other machines.
        can_kill: `evict` ends what runs a chunk and replaces the worker.
        reports_progress: `progress` tells where in a chunk a worker is.
        async_native: async hooks of different records overlap.
    """

    inline: bool = False
    concurrent: bool = False
    crosses_process: bool = False
    distributed: bool = False
    can_kill: bool = False
    reports_progress: bool = False
    async_native: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a worker is in its chunk.

    Attributes:
        stage: `unpack`, `pre`, `validate`, `post` or `pack`; `call` in function maps.
        lo, hi: the records under way, as indexes into the chunk's payload; half open.
        call: counts the calls that they took part in, so that two of them in one stage are told apart; it may wrap.
        overlap: each of the records has a call of its own, which has begun, waits for its turn or has ended.
        worker: which one, named as in its results; empty: the executor does not tell. For displays.
    """

    stage: str
    lo: int
    hi: int
    call: int = field(default=0, compare=False)
    overlap: bool = False
    worker: str = field(default="", compare=False)


@runtime_checkable
class Executor(Protocol):
    """A place where chunks run, for one pipe at a time. Knows nothing of files, order or retries.

    The driver calls it from one thread. `start` and `shutdown` may take as long as the job's `setup` and `teardown`;
    the others return at once.

    The driver also reads, where an executor has them, the attributes `schema_model`, `chunksize`, `block_bytes`,
    `compression` and `use_batch_validation` and the method `chunksize_for` that `BaseExecutor` documents, `concurrency`
    (how many calls of async hooks may overlap on one worker, by default 1), `loop` (an event loop that must be free
    while the pipe runs) and `name` (what reports call it, by default its class).
    """

    capabilities: Capabilities

    def start(self, context: WorkerContext) -> None:
        """Start the workers; return when one has passed its hooks' `setup`.

        While it waits it should look at `context.cancelled`, and return or raise `RunAborted` once that is set, or a
        `setup` that hangs could not be aborted. `shutdown` is called in any case, and then it can be started again.

        Raises:
            UnpicklableError: something of the job cannot travel, as `WorkerContext.dumps` says.
            WorkerInitError: no worker could start.
        """

    def submit(self, chunk: Chunk) -> Future[ChunkResult]:
        """Hand a chunk over.

        The future fails with `WorkerLost` only if the chunk had begun. A chunk that was lost before may be given to
        another worker; one that had begun may not, because it is the driver that counts the attempts. A backend that
        cannot run it elsewhere cancels the future: the driver submits it again and blames nobody. When no worker is
        left and none can be started, each future fails with `ExecutorBroken`.

        A future should be `running` from when its chunk begins (see `Future.set_running_or_notify_cancel`), where that
        is known: without progress it is all that tells a chunk that waits from one that hangs. From then on it cannot
        be cancelled. A chunk whose future somebody has cancelled before is not run.

        Raises:
            ProtocolError: it is called before `start` or after `shutdown`. The future may fail with it instead.
        """

    def shutdown(self, *, cancel: bool = False) -> None:
        """Run the hooks' `teardown` and end all workers. Idempotent; leaves no process, thread, file or segment.

        Without `cancel` every chunk is run before that. It should look at `context.cancelled` while it waits, and go
        on as with `cancel` once that is set.

        Args:
            cancel: cancel the futures of chunks that have not begun, and wait for nothing that may never end: what has
                begun gets a moment (a second or so), and a worker that is still stuck then is killed, or where that
                cannot be, left to itself. So are a `setup` and a `teardown` that do not end. What is killed has no
                `teardown`.

        Raises:
            TeardownError: a hook's teardown failed, or its worker died in it; everything has been ended all the same.
        """

    def slots(self) -> int:
        """Chunks worth having in flight now; may change while the executor runs.

        Those that run, those that wait so that no worker is ever idle, and those on workers that are stuck and cannot
        be killed.
        """

    def progress(self, future: Future[ChunkResult]) -> Progress | None:
        """Stage and records under way; None: not begun, or not known."""

    def evict(self, future: Future[ChunkResult]) -> bool:
        """Take the worker off this chunk and put another in its place.

        Of a chunk that has not begun there is nothing to kill: its future is cancelled, at least where nothing tells
        the driver that it waits. For one that is done there is nothing to do.

        Returns:
            True: what ran it is killed, and its future fails with `WorkerLost` unless it was done before. False: it
            cannot be killed; its result, if it ever comes, is ignored, and until then it may still take up a slot.
        """


def checked_count(name: str, value: int | None) -> int | None:
    """An option that says how many.

    Args:
        name: of the option.
        value: of it; None where it was left out.

    Raises:
        OptionsError: it is neither None nor a number from 1.
    """
    if value is not None and (type(value) is not int or value < 1):  # True is no count
        raise OptionsError(f"{name} must be None or a number from 1, not {value!r}")
    return value


class BaseExecutor(ABC):
    """Defaults for whoever writes an executor: implement `start`, `submit` and `shutdown`.

    Args:
        schema_model: the schema, where it is given to the executor rather than to the pipe.
        chunksize: records in a chunk, honoured to the letter; None: raw blocks of about 256 KiB, or 1000 records.
        use_batch_validation: validate a chunk by one call; see `manyhands.worker.plan`.
        compression: `"lz4"` for backends whose chunks cross processes. There is nothing to be done for it: the driver
            compresses payloads, `manyhands.worker.transport` results.

    Attributes:
        block_bytes: about how long raw blocks are where `chunksize` is None and the job has no hooks, for a backend on
            which each chunk costs much by itself; None: 256 KiB. Those of jobs with hooks are alike on all backends.

    Raises:
        OptionsError: a value is not one of these.
    """

    capabilities: Capabilities = Capabilities()
    block_bytes: int | None = None

    def __init__(
        self,
        schema_model: type[Any] | None = None,
        *,
        chunksize: int | None = None,
        use_batch_validation: bool = False,
        compression: Compression = None,
    ) -> None:
        if chunksize is not None and (not isinstance(chunksize, int) or not 1 <= chunksize <= MAX_RECORDS):
            raise OptionsError(f"chunksize must be None or a number from 1 to {MAX_RECORDS}, not {chunksize!r}")
        if compression not in (None, "lz4"):
            raise OptionsError(f"compression must be None or 'lz4', not {compression!r}")
        self.schema_model = schema_model
        self.chunksize = chunksize
        self.use_batch_validation = use_batch_validation
        self.compression: Compression = compression

    def chunksize_for(self, context: WorkerContext) -> int | None:  # noqa: ARG002  # a default for all
        """The `chunksize` to use where it depends on the job; by default it does not.

        Args:
            context: the job.
        """
        return self.chunksize

    @staticmethod
    def process_chunk_on_worker(chunk: Chunk, context: WorkerContext) -> ChunkResult:
        """The one pipeline of every backend; see `manyhands.worker.pipeline`."""
        from manyhands.worker.pipeline import process_chunk_on_worker

        return process_chunk_on_worker(chunk, context)

    @abstractmethod
    def start(self, context: WorkerContext) -> None:
        """See `Executor.start`."""

    @abstractmethod
    def submit(self, chunk: Chunk) -> Future[ChunkResult]:
        """See `Executor.submit`."""

    @abstractmethod
    def shutdown(self, *, cancel: bool = False) -> None:
        """See `Executor.shutdown`."""

    def slots(self) -> int:
        """One chunk at a time."""
        return 1

    def progress(self, future: Future[ChunkResult]) -> Progress | None:  # noqa: ARG002  # a default for all
        """Not known."""
        return None

    def evict(self, future: Future[ChunkResult]) -> bool:  # noqa: ARG002  # a default for all
        """Cannot."""
        return False
