"""What every test here is held to: it leaves nothing behind.

No thread, child process, file descriptor, temporary file or shared memory. The check costs less than a
millisecond a test; only what looks like a leak is looked at twice.
"""

from __future__ import annotations

import gc
import os
import shlex
import shutil
import signal
import tempfile
import threading
import time
from contextlib import suppress
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytest_plugins = ["pytester"]

SHM = Path("/dev/shm")  # noqa: S108  # where Linux shows shared memory: no temporary file of ours
TASKS = Path("/proc/self/task")
CHILDREN = TASKS / str(os.getpid()) / "children"  # not on every kernel
DESCRIPTORS = Path("/proc/self/fd")


# Started in the background, a shell's child ignores ^C, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Scratch:
    """Gives each test a TMPDIR of its own. Processes inherit it, so it also tells which test started one."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._tests: dict[str, str] = {}  # TMPDIR of a test, its node id

    def enter(self, test: str) -> Path:
        """A new, empty TMPDIR. Its name is short because sockets are put there."""
        folder = self._root / str(len(self._tests))
        folder.mkdir()
        self._tests[str(folder)] = test
        _set_tmpdir(str(folder), str(folder))
        return folder

    def orphans(self) -> set[object]:
        """Processes that a test started, or an ancestor that a test started."""
        found: set[object] = set()
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # gone, or another user's
                if test := self._tests.get(process.environ().get("TMPDIR", "")):
                    found.add(f"{shlex.join(process.cmdline())} of {test}")
        return found


@pytest.fixture(scope="session")
def leak_grace() -> float:
    """Seconds that something already told to end may take to be gone."""
    return 2.0


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory, leak_grace: float) -> Iterator[Scratch]:
    """The tests' temporary folders. At the end, no process that a test started may be alive, however deep."""
    if os.name == "posix":
        resource_tracker.ensure_running()  # a process and a pipe that Python keeps once anything needed them
    scratch = Scratch(tmp_path_factory.mktemp("t"))
    yield scratch
    if orphans := _settle(scratch.orphans, leak_grace):
        pytest.fail("processes outlived their tests: " + ", ".join(orphans), pytrace=False)


@pytest.fixture(autouse=True)
def leaves_nothing(request: pytest.FixtureRequest, scratch: Scratch, leak_grace: float) -> Iterator[None]:
    """Fail a test that leaves anything behind."""
    tmpdir, tempdir = os.environ.get("TMPDIR"), tempfile.tempdir
    folder = scratch.enter(request.node.nodeid)
    before = _look(folder)
    yield
    _set_tmpdir(tmpdir, tempdir)
    left = _settle(lambda: {thing for thing in _look(folder) - before if not _is_foreign(thing)}, leak_grace)
    shutil.rmtree(folder, ignore_errors=True)
    if left:
        pytest.fail("left behind: " + ", ".join(left), pytrace=False)


def _set_tmpdir(variable: str | None, cached: str | None) -> None:
    os.environ.pop("TMPDIR", None)
    if variable is not None:
        os.environ["TMPDIR"] = variable
    tempfile.tempdir = cached


def _settle(look: Callable[[], set[object]], grace: float) -> list[str]:
    """What is there and does not go away."""
    end = time.monotonic() + grace
    while left := look():
        if time.monotonic() > end:
            return sorted(map(str, left))
        gc.collect()  # an open file may hang in a reference cycle
        time.sleep(0.01)
    return []


def _look(folder: Path) -> set[object]:
    """Everything now there of what a test could leave behind."""
    return {*threading.enumerate(), *_children(), *_descriptors(), *_files(SHM), *_files(folder)}


def _files(folder: Path) -> list[str]:
    return list(map(str, folder.iterdir())) if folder.is_dir() else []


def _children() -> list[str]:
    """Direct children. By psutil only where it must: that reads every process of the machine, in milliseconds."""
    if not CHILDREN.exists():
        return [f"child process {child.pid}" for child in psutil.Process().children()]
    pids: list[str] = []
    for task in TASKS.iterdir():
        with suppress(FileNotFoundError):  # the thread has just ended
            pids += (task / "children").read_text().split()
    return [f"child process {pid}" for pid in pids]


def _descriptors() -> list[str]:
    """Open files by number and target."""
    found = []
    for link in DESCRIPTORS.iterdir() if DESCRIPTORS.is_dir() else ():
        with suppress(FileNotFoundError):  # the one that listed the folder
            found.append(f"descriptor {link.name} of {link.readlink()}")
    return found


def _is_foreign(thing: object) -> bool:
    """Whether a segment of shared memory belongs to somebody else on this machine: a process of theirs maps it."""
    if not str(thing).startswith(f"{SHM}/"):
        return False
    ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    return any(str(thing) in _maps(process.pid) for process in psutil.process_iter() if process.pid not in ours)


def _maps(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except OSError:  # gone, or another user's
        return ""
