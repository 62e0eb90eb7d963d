"""What the tests of files have in common."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from manyhands.adapters import aside
from manyhands.adapters.input_file import InputFile

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
needs_locks = pytest.mark.skipif(not aside.HAS_LOCKS, reason="this system has no flock")
NOBODY = 65534


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def partial_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


@contextmanager
def no_privileges(prepare: Callable[[Path], None]) -> Iterator[Path]:
    """Act as a user whom file permissions bind; gives a prepared folder that this user can reach."""
    shm = Path("/dev/shm")
    if IS_ROOT and not shm.is_dir():
        pytest.skip("root is not bound by permissions, and there is no folder open to everyone")
    with tempfile.TemporaryDirectory(dir=shm if IS_ROOT else None) as name:
        folder = Path(name)
        folder.chmod(0o755)
        prepare(folder)
        if IS_ROOT:
            os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            if IS_ROOT:
                os.seteuid(0)


@contextmanager
def tmpfs(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def content_of(path: Path) -> bytes:
    file = InputFile(path)
    try:
        return b"".join(iter(lambda: file.read(1000), b""))
    finally:
        file.close()
