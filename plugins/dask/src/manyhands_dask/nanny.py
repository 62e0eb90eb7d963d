"""What runs in the nanny of a Dask worker: it outlives the worker and knows what that was at, and how it ended."""

from __future__ import annotations

import asyncio
import mmap
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from distributed.nanny import Nanny

_EXIT_SECONDS: Final = 2.0
_KEPT_SECONDS: Final = 60.0

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
        path: the file in which it says where it is; it is removed.
        dask_worker: this nanny.
    """
    file = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        words = memoryview(mmap.mmap(file, 0)).cast("Q")
    finally:
        os.close(file)
    Path(path).unlink(missing_ok=True)
    process = getattr(dask_worker.process, "process", None)
    # The only place where the status of a worker is kept that has been replaced.
    ended = getattr(process, "_exit_future", None) if getattr(process, "pid", None) == pid else None
    _watched[run, pid] = _Watched(words, ended)
    _check_on(run, pid, had_ended=False)


def look(run: str, pid: int) -> list[int]:
    """Where the seats of a worker are that cannot say so itself.

    Args:
        run: as for `watch`.
        pid: likewise.
    """
    watched = _watched.get((run, pid))
    return watched.words.tolist() if watched is not None else []


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


def _check_on(run: str, pid: int, *, had_ended: bool) -> None:
    """Forget a worker that has ended if nobody asks: the program may be gone, too."""
    watched = _watched.get((run, pid))
    if watched is None:
        return
    if had_ended:
        del _watched[run, pid]
        return
    check = partial(_check_on, run, pid, had_ended=_has_ended(watched, pid))
    asyncio.get_running_loop().call_later(_KEPT_SECONDS, check)


def _has_ended(watched: _Watched, pid: int) -> bool:
    if watched.exit is not None:
        return watched.exit.done()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


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
