"""The sync backend of manyhands: chunks run one after another in the driver's thread."""

from manyhands_sync.engine import SequentialEngine
from manyhands_sync.executor import SyncFifoExecutor

__all__ = ["SequentialEngine", "SyncFifoExecutor"]
