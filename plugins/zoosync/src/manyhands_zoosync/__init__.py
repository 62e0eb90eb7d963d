"""Shared memory for manyhands: a task queue, status cells that cost nothing to read, locks that survive a crash."""

from manyhands_zoosync.errors import LockTimeout, PayloadTooLarge, QueueFull, UnknownFunction
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
]
