"""What every test here is held to: it leaves nothing behind.

No thread, child process, file descriptor, temporary file or shared memory; see `manyhands.testing.leaks`.
"""

from __future__ import annotations

import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from manyhands.testing import leaks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest_plugins = ["pytester"]


# Started in the background, a shell's child ignores ^C, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Scratch:
    """Gives each test a TMPDIR of its own. Processes inherit it, so it also tells which test started one."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._tests: dict[str, str] = {}  # TMPDIR of a test, its node id

    def folder(self, test: str) -> Path:
        """A new, empty one. Its name is short because sockets are put there."""
        folder = self._root / str(len(self._tests))
        folder.mkdir()
        self._tests[str(folder)] = test
        return folder

    def orphans(self) -> set[object]:
        """Processes that a test started, or an ancestor that a test started."""
        return leaks.started_in(self._tests)


@pytest.fixture(scope="session")
def leak_grace() -> float:
    """Seconds that something already told to end may take to be gone."""
    return 2.0


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory, leak_grace: float) -> Iterator[Scratch]:
    """The tests' temporary folders. At the end, no process that a test started may be alive, however deep."""
    leaks.prepare()
    scratch = Scratch(tmp_path_factory.mktemp("t"))
    yield scratch
    if orphans := leaks.settle(scratch.orphans, leak_grace):
        pytest.fail("processes outlived their tests: " + ", ".join(orphans), pytrace=False)


@pytest.fixture(autouse=True)
def leaves_nothing(request: pytest.FixtureRequest, scratch: Scratch, leak_grace: float) -> Iterator[None]:
    """Fail a test that leaves anything behind."""
    folder = scratch.folder(request.node.nodeid)
    with leaks.tmpdir(folder):
        before = leaks.look(folder)
        yield
    left = leaks.left(folder, before, leak_grace)
    shutil.rmtree(folder, ignore_errors=True)
    if left:
        pytest.fail("left behind: " + ", ".join(left), pytrace=False)
