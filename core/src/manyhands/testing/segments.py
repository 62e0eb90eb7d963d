"""Shared memory as Linux shows it, and whose it is.

All programs of a machine share one folder for it. What is there is another program's if another user owns it, if a
process of theirs has it mapped or open, or if it is named after one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

SHM: Final = Path("/dev/shm")  # noqa: S108  # no temporary file of ours

_MAKER: Final = re.compile(r"\D*[-_](\d{2,})[-_]")
"""How joblib, loky and torch name theirs: the first number, of a kind that is not counted from 0, is a process id."""

FileId = tuple[int, int]
"""Device and inode: a semaphore is mapped under a name that it no longer has."""


def of_others(paths: Collection[str], folder: Path) -> set[str]:
    """Those of the files and folders that belong to other programs.

    Args:
        paths: files and folders in `SHM`.
        folder: the TMPDIR of processes that are ours although this one is no longer their ancestor.
    """
    if not paths:
        return set()
    files = {path: _files(Path(path)) for path in paths}
    ids = {path: {*map(_id, found)} for path, found in files.items()}
    others = {path for path, found in files.items() if any(status.st_uid != os.geteuid() for status in found)}
    family = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    for process in psutil.process_iter():
        if process.pid not in family:
            held = {*_mapped(process.pid), *_opened(process.pid)}
            theirs = {path for path in paths if ids[path] & held or _maker(path) == process.pid}
            others |= theirs if theirs and _is_another(process, folder) else set()
    return others


def _maker(path: str) -> int | None:
    match = _MAKER.match(Path(path).name)
    return int(match[1]) if match else None


def _is_another(process: psutil.Process, folder: Path) -> bool:
    """It is no thread of the kernel, and no test that uses the folder has started it."""
    try:
        return bool(process.cmdline()) and process.environ().get("TMPDIR") != str(folder)
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return False


def _files(path: Path) -> list[os.stat_result]:
    """The file, or the folder with all that is in it."""
    found = []
    for each in (path, *path.rglob("*")):
        with suppress(OSError):  # gone
            found.append(each.lstat())
    return found


def _id(status: os.stat_result) -> FileId:
    return status.st_dev, status.st_ino


def _mapped(pid: int) -> Iterator[FileId]:
    with suppress(OSError):  # gone, or another user's
        for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
            if f" {SHM}/" in line:
                _, _, _, device, inode, *_ = line.split()
                major, minor = device.split(":")
                yield os.makedev(int(major, 16), int(minor, 16)), int(inode)


def _opened(pid: int) -> Iterator[FileId]:
    with suppress(OSError):  # as above
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed in the meantime
                if link.readlink().is_relative_to(SHM):
                    yield _id(link.stat())
