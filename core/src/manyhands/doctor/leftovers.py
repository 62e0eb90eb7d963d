"""What runs that were killed have left: things in shared memory and in the temporary folder, and partial outputs."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from manyhands.adapters.names import obstacle, partial_name
from manyhands.doctor.finding import Finding
from manyhands.doctor.jobfile import read_job
from manyhands.doctor.remedies import shell
from manyhands.processes.owner import owner_of

try:
    import fcntl
except ImportError:  # without locks nobody can say whether a run still writes a file
    fcntl = None  # type: ignore[assignment]

_SHM: Final = Path("/dev/shm")  # noqa: S108  # where Linux shows shared memory


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that its owner left behind.

    Attributes:
        path: of it.
        message: what it is.
    """

    path: Path
    message: str

    @property
    def remedy(self) -> str:
        """The command that removes it."""
        return shell("rm", *(["-r"] if self.path.is_dir() else []), "--", self.path)

    def remove(self) -> bool:
        """Remove it, unless somebody has begun to use it, or it has gone; whether it was removed.

        Raises:
            OSError: it cannot be removed.
        """
        if self.path.name.endswith(".partial"):
            return _remove_partial(self.path)
        if not _is_abandoned(self.path):
            return False
        if self.path.is_dir():
            shutil.rmtree(self.path)
        else:
            self.path.unlink()
        return True


def check(job: Path | None) -> Iterator[Finding]:
    """What could be removed, and what is in the way of the job but not ours to remove."""
    found = list(leftovers(job))
    for each in found:
        yield Finding("leftovers", "warning", str(each.path), each.message, each.remedy)
    obstacles = list(_obstacles(job))
    yield from obstacles
    if not (found or obstacles):
        yield Finding("leftovers", "ok", "dead runs", "nothing of theirs is here")


def leftovers(job: Path | None) -> Iterator[Leftover]:
    """All that can be removed: it is this user's, and its run is over.

    Args:
        job: whose partial outputs are meant as well.
    """
    for folder in (_SHM, Path(tempfile.gettempdir())):
        for path in _named_as_ours(folder):
            if _is_abandoned(path):
                yield Leftover(path, f"its owner, process {path.name.split('-')[1]}, has gone")
    for partial in _partials(job):
        if _is_plain(partial) and _is_own(partial) and _is_unlocked(partial):
            yield Leftover(partial, f"a run that was killed or failed left it: {partial.stat().st_size} bytes")


def make_way(partial: Path) -> str:
    """The command after which a run can write at a partial name."""
    if _is_plain(partial) and _is_own(partial):
        return shell("chmod", "u+rw", "--", partial)
    return shell("mv", "--", partial, partial.with_name(f"{partial.name}.old"))


def _named_as_ours(folder: Path) -> list[Path]:
    with suppress(OSError):  # it may not be listed
        return sorted(folder.glob("manyhands-*"))
    return []


def remove_all(job: Path | None) -> Iterator[Finding]:
    """Remove them; says what was removed, and what could not be."""
    for each in leftovers(job):
        try:
            if each.remove():
                yield Finding("leftovers", "ok", str(each.path), "removed")
        except OSError as error:
            message = f"it cannot be removed: {error.strerror}"
            yield Finding("leftovers", "warning", str(each.path), message, each.remedy)


def _is_abandoned(path: Path) -> bool:
    """Whether it is this user's, no link, and of a process that has gone."""
    owner = owner_of(path.name)
    return owner is not None and not owner.may_live() and _is_own(path) and not path.is_symlink()


def _partials(job: Path | None) -> Iterator[Path]:
    for path in read_job(job).outputs if job is not None else ():
        yield partial_name(path)


def _is_plain(path: Path) -> bool:
    """Whether it is a regular file under this name alone: only such have a run write into them."""
    with suppress(OSError):
        found = path.lstat()
        return stat.S_ISREG(found.st_mode) and found.st_nlink == 1
    return False


def _is_own(path: Path) -> bool:
    with suppress(OSError):  # it has just gone
        return not hasattr(os, "getuid") or path.lstat().st_uid == os.getuid()
    return False


def _obstacles(job: Path | None) -> Iterator[Finding]:
    """Partial names that are taken by what no run can write into."""
    for path in _partials(job):
        reason = obstacle(path)
        if reason is not None:
            yield Finding("leftovers", "error", str(path), f"no run can write there: {reason}", make_way(path))


def _is_unlocked(path: Path) -> bool:
    descriptor = _lock(path)
    if descriptor is None:
        return False
    os.close(descriptor)
    return True


def _lock(path: Path) -> int | None:
    """A descriptor with the lock that every run holds while it writes; None: a run has it, or nobody can know."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # a run writes it, or the file system has no locks
        os.close(descriptor)
        return None
    return descriptor


def _remove_partial(path: Path) -> bool:
    """With the lock, and only what was locked: it may have been renamed to a complete output in between."""
    descriptor = _lock(path)
    if descriptor is None:
        return False
    try:
        if not os.path.samestat(os.fstat(descriptor), path.lstat()):
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)
