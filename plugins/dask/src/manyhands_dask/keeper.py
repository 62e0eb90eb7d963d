"""Functions called in the event loop of a worker or of its nanny, and the nanny as the program sees it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from distributed.comm import connect
from distributed.protocol.pickle import dumps

from manyhands.errors import WorkerInitError
from manyhands_dask import nanny

if TYPE_CHECKING:
    from distributed import Client
    from distributed.comm import Comm

_log: Final = logging.getLogger("manyhands")

_CALL_SECONDS: Final = 10.0
_LAST_SECONDS: Final = 4.0
_FAILURES: Final = (OSError, TimeoutError, WorkerInitError)


async def call(
    client: Client,
    address: str,
    function: Callable[..., Any],
    *args: Any,
    seconds: float = _CALL_SECONDS,
    **keywords: Any,
) -> Any:
    """Call a function there.

    Args:
        client: of the cluster.
        address: of the worker or the nanny.
        function: what to call; one with a parameter `dask_worker` is given that.
        args: for it.
        seconds: to wait at most.
        keywords: for it.

    Raises:
        WorkerInitError: it raises something, or cannot be imported there.
        TimeoutError: it takes longer.
        OSError: nothing answers.
    """
    asked = {"function": dumps(function), "args": dumps(args), "kwargs": dumps(keywords)}
    async with client.rpc(address) as remote:
        async with asyncio.timeout(seconds):  # wait_for may swallow that its task is cancelled
            answer = await remote.run(**asked)
    if answer["status"] == "OK":
        return answer["result"]
    error = answer.get("exception")
    error = getattr(error, "data", error)
    if isinstance(error, ImportError | AttributeError):
        raise WorkerInitError(
            f"the process at {address} cannot import {function.__module__}: install manyhands-dask there"
        )
    raise WorkerInitError(f"the process at {address} fails: {error!r}")


async def connected(client: Client, address: str) -> Comm:
    """A connection of our own with a worker.

    Args:
        client: of the cluster.
        address: of the worker.

    Raises:
        WorkerInitError: it cannot be reached from here.
    """
    try:
        return await connect(address, timeout=_CALL_SECONDS, **client.connection_args)
    except OSError as error:
        raise WorkerInitError(
            f"the worker at {address} cannot be reached from here: {error}; chunks go straight to the workers"
        ) from error


class Keeper:
    """The nanny of a worker: it outlives that, and can kill it.

    Args:
        client: of the cluster.
        address: of the nanny.
        run: name of the run.
        pid: of the worker.
    """

    def __init__(self, client: Client, address: str, run: str, pid: int) -> None:
        self._client = client
        self._address = address
        self._run = run
        self._pid = pid

    async def can_watch(self, path: str) -> bool:
        """Let it keep an eye on the worker, and say whether it does.

        Args:
            path: of the file in which the worker says where it is.

        Raises:
            OSError: it is gone.
        """
        try:
            await call(self._client, self._address, nanny.watch, self._run, self._pid, path)
        except (TimeoutError, WorkerInitError) as error:
            _log.warning("the nanny at %s cannot be used: %s", self._address, error)
            return False
        return True

    async def kill(self) -> None:
        """Let it kill the worker, if it can still be reached."""
        with suppress(*_FAILURES):
            await call(self._client, self._address, nanny.kill, self._pid)

    async def words(self) -> list[int]:
        """Where the seats of the worker are, if that can be told."""
        with suppress(*_FAILURES):
            found = await call(self._client, self._address, nanny.look, self._run, self._pid, seconds=_LAST_SECONDS)
            return [*found]
        return []

    async def report(self) -> tuple[list[int], int | None]:
        """Where the seats of a worker were that has ended, and its exit status, negative for a signal; if known."""
        with suppress(*_FAILURES):
            last = await call(self._client, self._address, nanny.report, self._run, self._pid, seconds=_LAST_SECONDS)
            return last["words"], last["code"]
        return [], None

    async def forget(self) -> None:
        """Let it know that the run has ended."""
        with suppress(*_FAILURES):
            await call(self._client, self._address, nanny.forget, self._run, self._pid)
