"""What runs in the nanny of a Dask worker: it outlives the worker and knows what that was at, and how it ended."""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from distributed.nanny import Nanny

_EXIT_SECONDS: Final = 2.0

_watched: Final[dict[tuple[str, int], _Watched]] = {}


@dataclass(frozen=True, slots=True)
class _Watched:
    words: memoryview
    exit: asyncio.Future[int] | None


def watch(run: str, pid: int, path: str, dask_worker: Nanny) -> None:
    """Keep an eye on the worker.

    Args:
        run: for which run.
        pid: of the worker.
        path: the file in which it says where it is; it may be removed then.
        dask_worker: this nanny.
    """
    with Path(path).open("r+b") as file:
        words = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
    process = getattr(dask_worker.process, "process", None)
    # The only place where the status of a worker is kept that has been replaced.
    ended = getattr(process, "_exit_future", None) if getattr(process, "pid", None) == pid else None
    _watched[run, pid] = _Watched(words, ended)


async def report(run: str, pid: int) -> dict[str, Any]:
    """What is known of a worker that has ended, which is forgotten then.

    Args:
        run: as for `watch`.
        pid: likewise.

    Returns:
        `words`: where its seats were; `code`: its exit status, negative for a signal, or None.
    """
    watched = _watched.pop((run, pid), None)
    if watched is None:
        return {"words": [], "code": None}
    code = None
    if watched.exit is not None:
        with suppress(asyncio.TimeoutError, asyncio.CancelledError):
            code = await asyncio.wait_for(asyncio.shield(watched.exit), _EXIT_SECONDS)
    return {"words": watched.words.tolist(), "code": None if code == _UNKNOWN else code}


def forget(run: str, pid: int) -> None:
    """The run has ended.

    Args:
        run: as for `watch`.
        pid: likewise.
    """
    _watched.pop((run, pid), None)


def kill(pid: int) -> None:
    """Kill the worker, whatever it is doing.

    Args:
        pid: of it.
    """
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


_UNKNOWN: Final = 255
"""What Dask says when somebody else has taken the status; and what no process of ours ends with."""
