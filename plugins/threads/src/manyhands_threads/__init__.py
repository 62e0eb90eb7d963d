"""The threads backend of manyhands: chunks run in threads of this process."""

from manyhands_threads.executor import ThreadExecutor

__all__ = ["ThreadExecutor"]
