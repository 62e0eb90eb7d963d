"""The thread of a run."""

from __future__ import annotations

from manyhands import BaseHook, WorkerContext
from manyhands.errors import RunAborted
from manyhands_dask import DaskExecutor
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


class Rests(BaseHook):
    """So that a worker whose end is not heard of would have missed a teardown."""


def test_a_worker_that_is_set_up_as_the_run_ends_is_not_taken_for_lost(shared: clusters.Cluster) -> None:
    for _ in range(50):
        executor = DaskExecutor(address=shared.address)
        executor.start(WorkerContext(pre_hooks=[Rests()]))
        executor.shutdown()
