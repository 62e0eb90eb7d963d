"""Chunks in actors of a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

from manyhands.errors import OptionsError, ProtocolError, RunAborted, WorkerInitError
from manyhands.executor import BaseExecutor, Capabilities, Compression, Progress, checked_count
from manyhands.worker.shipping import with_sources
from manyhands_ray.cluster import Cluster, join
from manyhands_ray.crew import Staffing
from manyhands_ray.environment import checked_environment
from manyhands_ray.needs import Needs
from manyhands_ray.places import as_url
from manyhands_ray.plugin import CAPABILITIES
from manyhands_ray.supervisor import Supervisor

if TYPE_CHECKING:
    from manyhands.chunks import Chunk, ChunkResult
    from manyhands.worker.context import WorkerContext

_LOOK_SECONDS: Final = 0.05


class RayExecutor(BaseExecutor):
    """Runs chunks in actors of a Ray cluster, each of which runs one at a time.

    An actor that dies is replaced by another; the chunk that it had begun is run again, narrowed down to the record
    that kills, and only that one is given up. Ray itself retries nothing.

    Args:
        schema_model: the schema, where it is given to the executor rather than to the pipe.
        address: of the cluster: `auto` for one that runs on this machine, `host:port`, `ray://host:port` from outside;
            it is left running. None: the one that the program is connected to by `ray.init`; otherwise Ray is started
            on this machine, and ended with the run.
        chunksize: records in a chunk; None: raw blocks of about 1 MiB (64 KiB with hooks), or 1000 records.
        compression: `"lz4"` to compress what travels.
        use_batch_validation: validate a chunk by one call, unless the schema calls code of the person's.
        max_inflight: chunks in flight at most; None: as many as the cluster can use, which follows its nodes.
        max_workers: actors at most; None: as many as there is room for.
        resources: what each actor needs: `num_cpus` (by default 1), `num_gpus`, `memory` in bytes, and resources of
            nodes by the names that these have them under.
        runtime_env: the environment of the actors, as Ray describes it.

    Raises:
        OptionsError: a value is not one of these.
    """

    name: str = "ray"
    capabilities: Capabilities = CAPABILITIES
    block_bytes: int | None = 1 << 20
    _supervisor: Supervisor | None = None
    _context: WorkerContext | None = None
    _cluster: Cluster | None = None

    def __init__(
        self,
        schema_model: type[Any] | None = None,
        address: str | None = None,
        chunksize: int | None = None,
        compression: Compression = None,
        *,
        use_batch_validation: bool = False,
        max_inflight: int | None = 20,
        max_workers: int | None = None,
        resources: Mapping[str, float] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            schema_model, chunksize=chunksize, use_batch_validation=use_batch_validation, compression=compression
        )
        self.address: str | None = _checked(address)
        self.max_inflight: int | None = checked_count("max_inflight", max_inflight)
        self.max_workers: int | None = checked_count("max_workers", max_workers)
        self._needs = Needs(resources)
        self._runtime_env: dict[str, Any] = checked_environment(runtime_env)

    def start(self, context: WorkerContext) -> None:
        """Connect, start the workers, and wait until one is ready.

        Raises:
            UnpicklableError: something of the job cannot travel.
            UsageError: the process is connected to another cluster.
            WorkerInitError: nothing answers at the address, it refuses, or no worker could start.
        """
        job = with_sources(context.dumps())  # before anything is started for it
        staffing = Staffing(self._needs, self.max_workers, self.max_inflight, self._runtime_env)
        self._context, self._cluster = context, join(self.address, self.max_workers, self._needs)
        try:
            self._supervisor = Supervisor(context, job, self._cluster.address, staffing)
            self._supervisor.start()
        except (OSError, RuntimeError) as error:
            raise WorkerInitError(f"the workers cannot be started: {error}") from error
        while not self._supervisor.started.wait(_LOOK_SECONDS):
            if context.cancelled.is_set():
                raise RunAborted("the run was aborted")
        if (why := self._supervisor.error) is not None:
            raise why if isinstance(why, WorkerInitError) else WorkerInitError(str(why))

    def submit(self, chunk: Chunk) -> Future[ChunkResult]:
        """Give the chunk to the next free worker."""
        return self._running.submit(chunk)

    def shutdown(self, *, cancel: bool = False) -> None:
        """End the workers: after what they have, or at once. Close the connection, if it is the executor's own."""
        supervisor = self._supervisor
        if supervisor is not None:
            supervisor.shutdown(cancel=cancel)
            while not supervisor.ended.wait(_LOOK_SECONDS):
                if not cancel and self._context is not None and self._context.cancelled.is_set():
                    cancel = True
                    supervisor.shutdown(cancel=True)
        # Not before: who was interrupted while waiting may ask again.
        cluster, self._supervisor, self._cluster = self._cluster, None, None
        with ExitStack() as stack:
            if cluster is not None:
                stack.callback(cluster.close)
            if supervisor is not None:
                supervisor.join()

    def slots(self) -> int:
        """What the workers run, and as much for each to go on with; at most `max_inflight`."""
        return self._running.slots

    def progress(self, future: Future[ChunkResult]) -> Progress | None:
        """Where the chunk's worker is."""
        return self._running.progress(future)

    def evict(self, future: Future[ChunkResult]) -> bool:
        """Kill the chunk's worker; another takes its place."""
        self._running.evict(future)
        return True

    @property
    def _running(self) -> Supervisor:
        if self._supervisor is None:
            raise ProtocolError("this executor is used before start() or after shutdown()")
        return self._supervisor


def _checked(address: str | None) -> str | None:
    if address is None or address == "auto":
        return address
    with suppress(ValueError):  # the port is no number
        parts = as_url(str(address))
        if parts.scheme in ("", "ray") and parts.hostname and parts.port:
            return address
    raise OptionsError(f"address must be auto, host:port or ray://host:port, not {address!r}")
