"""The multiprocessing backend of manyhands: chunks run in supervised worker processes."""

from manyhands_multiprocessing.engine import MultiProcessEngine
from manyhands_multiprocessing.executor import MultiProcessingExecutor

__all__ = ["MultiProcessEngine", "MultiProcessingExecutor"]
