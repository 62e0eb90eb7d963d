"""The thread of a run."""

from __future__ import annotations

from manyhands import WorkerContext
from manyhands.errors import RunAborted
from manyhands_dask.cluster import Cluster
from manyhands_dask.supervisor import Supervisor

from . import clusters


def test_a_run_that_is_ended_before_it_has_begun_ends(shared: clusters.Cluster) -> None:
    supervisor = Supervisor(WorkerContext(), Cluster(shared.address), None, {})
    supervisor.shutdown(cancel=True)
    supervisor.start()
    try:
        assert supervisor.ended.wait(30)
        assert isinstance(supervisor.error, RunAborted)
    finally:
        supervisor.shutdown(cancel=True)
        supervisor.close()
