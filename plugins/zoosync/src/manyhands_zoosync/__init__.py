"""Shared memory for manyhands: an executor, an engine, a task queue, status cells and locks that survive a crash."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from manyhands_zoosync.engine import ZoosyncPoolEngine
    from manyhands_zoosync.errors import LockTimeout, PayloadTooLarge, QueueFull, UnknownFunction
    from manyhands_zoosync.executor import ZoosyncExecutor
    from manyhands_zoosync.localqueue import LocalTaskQueue
    from manyhands_zoosync.results import TaskResult
    from manyhands_zoosync.slots import TaskSlot128
    from manyhands_zoosync.statistics import Statistics
    from manyhands_zoosync.status import WorkerState, WorkerStatus
    from manyhands_zoosync.supervisor import Supervisor
    from manyhands_zoosync.taskqueue import SharedTaskQueue

__all__ = [
    "LocalTaskQueue",
    "LockTimeout",
    "PayloadTooLarge",
    "QueueFull",
    "SharedTaskQueue",
    "Statistics",
    "Supervisor",
    "TaskResult",
    "TaskSlot128",
    "UnknownFunction",
    "WorkerState",
    "WorkerStatus",
    "ZoosyncExecutor",
    "ZoosyncPoolEngine",
]

_MODULES: Final = {
    "LocalTaskQueue": "localqueue",
    "SharedTaskQueue": "taskqueue",
    "Statistics": "statistics",
    "Supervisor": "supervisor",
    "TaskResult": "results",
    "TaskSlot128": "slots",
    "WorkerState": "status",
    "WorkerStatus": "status",
    "ZoosyncExecutor": "executor",
    "ZoosyncPoolEngine": "engine",
}


def __getattr__(name: str) -> Any:
    """What is public, imported when it is asked for: every worker imports this package, and needs little of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, 'errors')}"), name)
