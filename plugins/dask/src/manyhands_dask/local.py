"""A Dask cluster of our own on this machine, in a process of its own that ends when this one does.

It is not in this process, for Dask starts its workers from there, which would run the program's own file again; and so
that its scheduler shares no interpreter lock with the run.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from manyhands.cpus import cpus
from manyhands.errors import WorkerInitError
from manyhands.processes.launch import Child, make_launcher
from manyhands.processes.owner import owned_name, owner_of

_START_SECONDS: Final = 60.0
_END_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.02

MAIN: Final = f"{__name__}:main"


@asynccontextmanager
async def started(max_workers: int | None, resources: Mapping[str, float]) -> AsyncIterator[str]:
    """A cluster.

    Args:
        max_workers: processes; None: one for each CPU that this process may use.
        resources: that each of them has.

    Returns:
        A context manager that gives its address.

    Raises:
        WorkerInitError: it cannot be started.
    """
    with _folder() as folder:
        order = json.dumps([max_workers or cpus(), str(folder), dict(resources)])
        async with _running(f"{order}\n".encode()) as address:
            yield address


@contextmanager
def _folder() -> Iterator[Path]:
    """For the files of the cluster; its name says whose it is, should it be left behind."""
    parent = Path(tempfile.gettempdir())
    for left in parent.glob("manyhands-*-dask*"):
        owner = owner_of(left.name)
        if owner is not None and not owner.may_live():
            shutil.rmtree(left, ignore_errors=True)  # of a run that was killed
    path = parent / f"{owned_name('dask')}{time.monotonic_ns()}"
    path.mkdir(0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@asynccontextmanager
async def _running(order: bytes) -> AsyncIterator[str]:
    (inbox, theirs_out), (theirs_in, outbox) = os.pipe(), os.pipe()
    try:
        child = make_launcher("spawn").start(MAIN, [theirs_in, theirs_out])
    except OSError as error:
        os.close(inbox)
        os.close(outbox)
        raise WorkerInitError(f"a Dask cluster cannot be started here: {error}") from error
    finally:
        os.close(theirs_in)
        os.close(theirs_out)
    os.set_blocking(inbox, False)
    output = _Output(child)
    try:
        os.write(outbox, order)
        yield await _address(inbox, output)
    finally:
        os.close(outbox)  # that tells it to end
        await _ended(child)
        output.close()
        os.close(inbox)
        child.close()


async def _address(inbox: int, output: _Output) -> str:
    data = b""
    for _ in range(int(_START_SECONDS / _LOOK_SECONDS)):
        with suppress(BlockingIOError):
            part = os.read(inbox, 4096)
            data += part
            if data.endswith(b"\n"):
                return data.decode().strip()
            if not part:
                break
        await asyncio.sleep(_LOOK_SECONDS)
    raise WorkerInitError(f"a Dask cluster cannot be started here: {output.text() or 'it does not answer in time'}")


async def _ended(child: Child) -> None:
    """Give it time to end by itself; its workers end with it in any case."""
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(child.fileno(), gone.set)
    try:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(gone.wait(), _END_SECONDS)
    finally:
        loop.remove_reader(child.fileno())


class _Output:
    """Passes on what the cluster writes.

    Args:
        child: its process.
    """

    def __init__(self, child: Child) -> None:
        self._child = child
        self._last = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(child.output, self._read)

    def text(self) -> str:
        """The last of it."""
        self._read()
        return self._last.decode(errors="replace").strip()

    def close(self) -> None:
        """Read no more."""
        self._read()
        self._loop.remove_reader(self._child.output)

    def _read(self) -> None:
        with suppress(BlockingIOError):
            while data := os.read(self._child.output, 65536):
                self._last = (self._last + data)[-2000:]
                sys.stderr.write(data.decode(errors="replace"))
            self._loop.remove_reader(self._child.output)


def main(descriptors: Sequence[int]) -> None:
    """Be a cluster until the program says that it is enough, or is gone.

    Args:
        descriptors: a pipe to read from and a pipe to write to.
    """
    # ^C in a terminal is for the program alone: Dask's workers would end in the middle of a chunk. Not a group of the
    # same session, all of which would be stopped when one of them asks the terminal something.
    os.setsid()
    inbox, outbox = descriptors
    with open(inbox, encoding="utf-8", closefd=False) as orders:
        workers, folder, resources = json.loads(orders.readline())
    asyncio.run(_serve(workers, folder, resources, inbox, outbox))


async def _serve(workers: int, folder: str, resources: dict[str, float], inbox: int, outbox: int) -> None:
    import dask
    from distributed import LocalCluster

    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.set_exception_handler(without_timeouts)
    loop.add_reader(inbox, ended.set)
    place = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    has = {"resources": resources} if resources else {}  # an empty one would hide what the person's Dask is set to
    make = partial(LocalCluster, n_workers=workers, threads_per_worker=1, processes=True, asynchronous=True)
    with dask.config.set({"temporary-directory": folder}):
        async with make(**place, **has, silence_logs=50, memory_limit=None) as cluster:
            os.write(outbox, f"{cluster.scheduler_address}\n".encode())
            await ended.wait()
            loop.remove_reader(inbox)


def without_timeouts(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say nothing of what Dask was still waiting for when its event loop ended; for `set_exception_handler`.

    Args:
        loop: the event loop.
        context: what there is to tell.
    """
    if not isinstance(context.get("exception"), TimeoutError):
        loop.default_exception_handler(context)
