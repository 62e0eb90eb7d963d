"""The asyncio backend of manyhands: async hooks of different records overlap on one event loop."""

from manyhands_asyncio.executor import AsyncIOExecutor

__all__ = ["AsyncIOExecutor"]
