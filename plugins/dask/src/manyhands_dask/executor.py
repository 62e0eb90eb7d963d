"""Chunks on the workers of a Dask cluster."""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from manyhands.errors import OptionsError, ProtocolError, RunAborted, TeardownError, WorkerInitError
from manyhands.executor import BaseExecutor, Capabilities, Compression, Progress, checked_count
from manyhands_dask.cluster import Cluster
from manyhands_dask.plugin import CAPABILITIES, MAX_INFLIGHT, SecurityOptions
from manyhands_dask.supervisor import Supervisor

if TYPE_CHECKING:
    from manyhands.chunks import Chunk, ChunkResult
    from manyhands.worker.context import WorkerContext
    from manyhands_dask.engine import Relay

_LOOK_SECONDS: Final = 0.05


class DaskExecutor(BaseExecutor):
    """Runs chunks on the workers of a Dask cluster: each thread of a worker runs one at a time.

    The job goes to each worker once, and chunks go straight to the workers. A worker that dies is replaced by its
    nanny; the chunk that it had begun is run again, narrowed down to the record that kills, and only that one is given
    up. Workers that join the cluster are used, and what is on one that leaves runs on another.

    Args:
        schema_model: the schema, where it is given to the executor rather than to the pipe.
        address: of a scheduler, `tcp://host:8786` or `tls://host:8786`, whose cluster is left running; None: a cluster
            on this machine that ends with the run.
        chunksize: records in a chunk; None: raw blocks of about 512 KiB (64 KiB with hooks), or 1000 records.
        compression: `"lz4"` to compress what travels.
        use_batch_validation: validate a chunk by one call, unless the schema calls code of the person's.
        max_inflight: chunks in flight at most; None: as many as the workers that are there are worth.
        max_workers: processes of the cluster on this machine, None: one for each CPU that this process may use; of
            another cluster, chunks that run at a time at most, None: all that it has threads for.
        resources: what each chunk that runs takes of its worker's resources, such as `{"GPU": 1}`.
        security: TLS files: `tls_ca_file`, `tls_client_cert`, `tls_client_key`, and `require_encryption`.

    Raises:
        OptionsError: a value is not one of these.
    """

    name: str = "dask"
    capabilities: Capabilities = CAPABILITIES
    block_bytes: int | None = 512 << 10
    _supervisor: Supervisor | None = None
    _context: WorkerContext | None = None
    relay: Relay | None = None
    """Of an engine, whose pipes this runs."""

    def __init__(
        self,
        schema_model: type[Any] | None = None,
        address: str | None = None,
        chunksize: int | None = None,
        compression: Compression = None,
        *,
        use_batch_validation: bool = False,
        max_inflight: int | None = MAX_INFLIGHT,
        max_workers: int | None = None,
        resources: Mapping[str, float] | None = None,
        security: Mapping[str, Any] | SecurityOptions | None = None,
    ) -> None:
        super().__init__(
            schema_model, chunksize=chunksize, use_batch_validation=use_batch_validation, compression=compression
        )
        self.max_inflight: int | None = checked_count("max_inflight", max_inflight)
        self.max_workers: int | None = checked_count("max_workers", max_workers)
        self.resources: Mapping[str, float] = _amounts(resources)
        options = security if security is None or isinstance(security, Mapping) else security.model_dump()
        self.cluster: Cluster = Cluster(address, max_workers, options)

    def start(self, context: WorkerContext) -> None:
        """Connect, set up the workers that are there, and wait until one is ready.

        Raises:
            UnpicklableError: something of the job cannot travel.
            WorkerInitError: no worker could start, or nothing answers at the address.
        """
        supervisor = Supervisor(context, self.cluster, self.max_workers, self.resources, self.relay)
        self._context, self._supervisor = context, supervisor
        supervisor.start()
        while not supervisor.started.wait(_LOOK_SECONDS):
            if context.cancelled.is_set():
                raise RunAborted("the run was aborted")
        if (error := supervisor.error) is not None:
            raise error if isinstance(error, WorkerInitError | OptionsError) else WorkerInitError(str(error))

    def submit(self, chunk: Chunk) -> Future[ChunkResult]:
        """Give the chunk to the worker that has least to do."""
        return self._running.submit(chunk)

    def shutdown(self, *, cancel: bool = False) -> None:
        """End the run on the workers, after what they have or at once, and the cluster if it is ours."""
        supervisor = self._supervisor
        if supervisor is not None:
            supervisor.shutdown(cancel=cancel)
            supervisor.close()
        if self.relay is not None:
            self.relay.close()
        if supervisor is None:
            return
        # Not before: who was interrupted while waiting may ask again.
        self._supervisor = None
        if isinstance(supervisor.error, TeardownError):
            raise supervisor.error

    def slots(self) -> int:
        """What the workers run and hold, and one more for each to go on with; `max_inflight` at most."""
        slots = self._running.slots()
        return slots if self.max_inflight is None else min(slots, self.max_inflight)

    def progress(self, future: Future[ChunkResult]) -> Progress | None:
        """Where the chunk's worker is, as of a moment ago."""
        return self._running.progress(future)

    def evict(self, future: Future[ChunkResult]) -> bool:
        """Kill the chunk's worker; its nanny starts another."""
        self._running.evict(future)
        return True

    @property
    def _running(self) -> Supervisor:
        if self._supervisor is None:
            raise ProtocolError("this executor is used before start() or after shutdown()")
        return self._supervisor


def _amounts(resources: Mapping[str, Any] | None) -> dict[str, float]:
    """Plain numbers: they travel as JSON, too."""
    given = {} if resources is None else resources
    try:
        amounts = {name: float(amount) for name, amount in given.items() if isinstance(name, str)}
    except (AttributeError, TypeError, ValueError):
        amounts = {}
    if len(amounts) < len(given) or not all(0 < amount < math.inf for amount in amounts.values()):
        raise OptionsError(f"resources must be names and numbers above 0, not {resources!r}")
    return amounts
