"""What a test could leave behind: threads, processes, open files, temporary files and shared memory.

A look costs less than a millisecond; only what looks like a leak is looked at twice.
"""

from __future__ import annotations

import gc
import os
import shlex
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Final

import psutil

from manyhands.testing import segments

_TASKS: Final = Path("/proc/self/task")
_CHILDREN: Final = _TASKS / str(os.getpid()) / "children"  # not on every kernel
_DESCRIPTORS: Final = Path("/proc/self/fd")
_PAUSE_SECONDS: Final = 0.01


def prepare() -> None:
    """Start what Python keeps once anything needed it, so that no test seems to leave it behind."""
    if os.name == "posix":
        resource_tracker.ensure_running()


def look(folder: Path) -> set[object]:
    """Everything now there of what a test could leave behind.

    Args:
        folder: of temporary files.
    """
    return {*threading.enumerate(), *_children(), *_descriptors(), *_files(segments.SHM), *_files(folder)}


def left(folder: Path, before: Collection[object], grace: float) -> list[str]:
    """What was not there before, and does not go away.

    Args:
        folder: of temporary files.
        before: what `look` saw.
        grace: seconds that something already told to end may take to be gone.
    """
    now = look(folder)

    def seen() -> set[object]:
        new = look(folder).difference(before)
        shared = _shared(new)
        # What comes only now is another program's, too.
        return new - (shared - now) - segments.of_others(shared & now, folder)

    return settle(seen, grace)


def settle(seen: Callable[[], set[object]], grace: float) -> list[str]:
    """What is there and does not go away within some seconds."""
    end, is_over = time.monotonic() + grace, False
    while found := seen():
        if is_over:
            return sorted(map(str, found))
        is_over = time.monotonic() > end  # one look more: what was ending during this one has gone
        gc.collect()  # an open file may hang in a reference cycle
        time.sleep(_PAUSE_SECONDS)
    return []


def started_in(owners: Mapping[str, str], before: Collection[int] = ()) -> set[object]:
    """Processes, however deep, that were started with a TMPDIR that is known.

    Args:
        owners: TMPDIRs, and what to call who uses them.
        before: ids of processes that are none of those.
    """
    found: set[object] = set()
    for process in psutil.process_iter():
        if process.pid in before:
            continue
        with suppress(psutil.Error):  # gone, or another user's
            if owner := owners.get(process.environ().get("TMPDIR", "")):
                found.add(f"{shlex.join(process.cmdline())} of {owner}")
    return found


@contextmanager
def watched(root: Path) -> Iterator[Callable[[float], list[str]]]:
    """Gives a function that says what is there that was not there at first, and does not go away.

    Args:
        root: an empty folder, in which temporary files go into one of their own.
    """
    prepare()
    folder = root / "t"
    folder.mkdir()
    with tmpdir(folder):
        before, processes = look(folder), {*psutil.pids()}

        def find(grace: float) -> list[str]:
            owner = {str(folder): "this test"}
            return left(folder, before, grace) or settle(lambda: started_in(owner, processes), grace)

        yield find


@contextmanager
def tmpdir(folder: Path) -> Iterator[None]:
    """Puts temporary files of this process, and of those that it starts, into a folder."""
    variable, cached = os.environ.get("TMPDIR"), tempfile.tempdir
    _set_tmpdir(str(folder), str(folder))
    try:
        yield
    finally:
        _set_tmpdir(variable, cached)


def _set_tmpdir(variable: str | None, cached: str | None) -> None:
    os.environ.pop("TMPDIR", None)
    if variable is not None:
        os.environ["TMPDIR"] = variable
    tempfile.tempdir = cached


def _files(folder: Path) -> list[str]:
    return list(map(str, folder.iterdir())) if folder.is_dir() else []


def _children() -> list[str]:
    """Direct children. By psutil only where it must: that reads every process of the machine, in milliseconds."""
    if not _CHILDREN.exists():
        return [f"child process {child.pid}" for child in psutil.Process().children()]
    pids: list[str] = []
    for task in _TASKS.iterdir():
        with suppress(FileNotFoundError):  # the thread has just ended
            pids += (task / "children").read_text().split()
    return [f"child process {pid}" for pid in pids]


def _descriptors() -> list[str]:
    """Open files by number and target."""
    found = []
    for link in _DESCRIPTORS.iterdir() if _DESCRIPTORS.is_dir() else ():
        with suppress(FileNotFoundError):  # the one that listed the folder
            found.append(f"descriptor {link.name} of {link.readlink()}")
    return found


def _shared(things: set[object]) -> set[str]:
    return {thing for thing in things if isinstance(thing, str) and thing.startswith(f"{segments.SHM}/")}
