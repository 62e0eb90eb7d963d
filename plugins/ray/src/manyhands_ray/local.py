"""A Ray of our own on this machine: it listens at the loopback address alone, and ends with the program."""

from __future__ import annotations

import logging
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import ray

from manyhands.cpus import cpus
from manyhands.errors import WorkerInitError
from manyhands.processes.owner import owned_name, owner_of

if TYPE_CHECKING:
    from manyhands_ray.cluster import Needs

QUIET: Final[dict[str, Any]] = {"log_to_driver": False, "logging_level": logging.ERROR}
"""How `ray.init` is called: what workers print comes another way."""

_PREFIX: Final = "mhray"
_RANDOM_BYTES: Final = 8
_SOCKET_BYTES: Final = 40
"""So long may the folder of a session be: a path of sockets inside must not be longer than 107 bytes."""

_REAPER: Final = 'read -r end && exit; kill -KILL "$@" 2>/dev/null'
_EXIT_SECONDS: Final = 10.0


class LocalRay:
    """It, started.

    Args:
        workers: for how many it has room; None: one for each CPU.
        needs: what each of them needs.

    Raises:
        WorkerInitError: it cannot be started.
    """

    def __init__(self, workers: int | None, needs: Needs) -> None:
        with ExitStack() as opened:
            folder = _folder()
            opened.callback(shutil.rmtree, folder, ignore_errors=True)
            opened.callback(ray.shutdown, wait_for_processes=True)
            self.context: Any = _init(folder, workers or cpus(), needs)
            opened.enter_context(_reaped(_descendants(os.getpid())))
            self._open = opened.pop_all()

    def close(self) -> None:
        """End it."""
        self._open.close()


def _init(folder: Path, workers: int, needs: Needs) -> Any:
    has = {name: number * workers for name, number in needs.custom.items()}
    try:
        with _on_this_machine_only():
            return ray.init(
                address="local",
                num_cpus=math.ceil(workers * needs.options["num_cpus"]),
                resources=has or None,
                include_dashboard=_has_dashboard(),
                _temp_dir=str(folder),
                **QUIET,
            )
    except (RuntimeError, OSError, ValueError) as error:
        raise WorkerInitError(f"Ray cannot be started on this machine: {error}") from error


@contextmanager
def _on_this_machine_only() -> Iterator[None]:
    """Let what Ray starts listen at the loopback address: by itself it does so only on systems without clusters."""
    constants, name = ray._private.ray_constants, "ENABLE_RAY_CLUSTER"  # noqa: SLF001  # read once, at import
    variables = (constants.ENABLE_RAY_CLUSTERS_ENV_VAR, "RAY_AUTH_MODE")  # the second is what Ray itself sets
    enabled, before = getattr(constants, name), {variable: os.environ.get(variable) for variable in variables}
    setattr(constants, name, False)
    os.environ[variables[0]] = "0"
    try:
        yield
    finally:
        setattr(constants, name, enabled)
        for variable, value in before.items():
            os.environ.pop(variable, None)
            if value is not None:
                os.environ[variable] = value


@contextmanager
def _reaped(pids: set[int]) -> Iterator[None]:
    """Processes that are killed when this one is: Ray's own agents live on then, for ever."""
    reaper = subprocess.Popen(  # noqa: S603  # it is a constant, and numbers
        ["/bin/sh", "-c", _REAPER, "reaper", *map(str, sorted(pids))],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # ^C in a terminal is not for it
    )
    try:
        yield
    finally:
        reaper.communicate(b"end\n", _EXIT_SECONDS)


def _descendants(pid: int) -> set[int]:
    """Processes that it has started, and those that they have."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError, IndexError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found, size = {pid}, 0
    while len(found) > size:
        size = len(found)
        found |= {child for child, parent in parents.items() if parent in found}
    return found - {pid}


def _has_dashboard() -> bool:
    with suppress(Exception):  # it moves from version to version
        return bool(ray._private.utils.check_dashboard_dependencies_installed())  # noqa: SLF001  # as above
    return False


def _folder() -> Path:
    """A new one for a session, with a path short enough for sockets; those of programs that were killed are removed."""
    usual = Path(tempfile.gettempdir())
    parent = usual if len(str(usual / _PREFIX)) + _RANDOM_BYTES <= _SOCKET_BYTES else Path("/tmp")  # noqa: S108
    for old in parent.glob(f"{_PREFIX}*"):
        if _is_orphan(old):
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    (folder / owned_name("ray")).touch()
    return folder


def _is_orphan(folder: Path) -> bool:
    with suppress(OSError):  # another user's
        owners = [owner_of(path.name) for path in folder.iterdir()]
        return any(owner is not None and not owner.may_live() for owner in owners)
    return False
