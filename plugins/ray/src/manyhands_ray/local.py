"""A Ray of our own on this machine: it listens at the loopback address alone, and ends with the program."""

from __future__ import annotations

import logging
import math
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, wait
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import ray

from manyhands.cpus import cpus
from manyhands.errors import WorkerInitError
from manyhands.processes.owner import owned_name, owner_of

if TYPE_CHECKING:
    from manyhands_ray.needs import Needs

QUIET: Final[dict[str, Any]] = {"log_to_driver": False, "logging_level": logging.ERROR}
"""How `ray.init` is called: what workers print comes another way."""

_PREFIX: Final = "mhray"
_RANDOM_BYTES: Final = 8
_SOCKET_BYTES: Final = 40
"""So long may the folder of a session be: a path of sockets inside must not be longer than 107 bytes."""

_REAPER: Final = """
read -r end && exit
folder=$1
shift
for process; do
    read -r stat < "/proc/${process%:*}/stat" || continue
    set -- ${stat##*)}
    [ "${20}" = "${process#*:}" ] && kill -KILL "${process%:*}"
done
rm -rf -- "$folder"
"""
"""Kills what is named by id and start time, as long as it is that: an id is given out again. Then removes a folder."""

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
        with ExitStack() as opened, ExitStack() as begun:
            folder = _folder()
            opened.callback(shutil.rmtree, folder, ignore_errors=True)
            call = opened.enter_context(_lasting_thread())
            begun.callback(ray.shutdown, wait_for_processes=True)
            others = _descendants(os.getpid())
            self.context: Any = call(lambda: _init(folder, workers or cpus(), needs))
            opened.enter_context(_reaped(folder, _descendants(os.getpid(), others)))
            opened.enter_context(begun.pop_all())  # it ends before the reaper does
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
    except Exception as error:  # a node that is slow to start is a bare one
        raise WorkerInitError(f"Ray cannot be started on this machine: {error}") from error


@contextmanager
def _lasting_thread() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Calls functions in a thread that lasts as long: Linux ends what Ray starts with the thread that has started it.

    Whoever opens a pool, or begins the first of two runs, may be gone long before the last who uses this Ray.
    """
    orders: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()

    def call(function: Callable[[], Any]) -> Any:
        result: Future[Any] = Future()
        orders.put((result, function))
        try:
            return result.result()
        finally:
            while not result.done():  # also after ^C, and another: what is about to start cannot be ended
                with suppress(KeyboardInterrupt):
                    wait([result])

    # A daemon: it is needed to the very end of a program that leaves its pool open.
    thread = threading.Thread(target=_obey, args=(orders,), name="manyhands-ray", daemon=True)
    thread.start()
    try:
        yield call
    finally:
        orders.put(None)
        thread.join()


def _obey(orders: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]) -> None:
    while (order := orders.get()) is not None:
        result, function = order
        try:
            result.set_result(function())
        except BaseException as error:  # noqa: BLE001  # it is raised where it was called
            result.set_exception(error)


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
def _reaped(folder: Path, processes: Collection[str]) -> Iterator[None]:
    """Let go with this process, if that is killed, what would stay: Ray's own agents live on then, for ever.

    Args:
        folder: of theirs.
        processes: as `PID:START`.
    """
    reaper = subprocess.Popen(  # noqa: S603  # it is a constant, and numbers
        ["/bin/sh", "-c", _REAPER, "reaper", folder, *sorted(processes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # ^C in a terminal is not for it
    )
    try:
        yield
    finally:
        reaper.communicate(b"end\n", _EXIT_SECONDS)


def _descendants(pid: int, others: Collection[str] = ()) -> set[str]:
    """Processes that it has started, and those that they have, as `PID:START`.

    Args:
        pid: of it.
        others: those of them that do not count, nor does what they have started.
    """
    table = _processes()
    found, size = {pid}, 0
    while len(found) > size:
        size = len(found)
        found |= {child for child, (parent, name) in table.items() if parent in found and name not in others}
    return {table[child][1] for child in found - {pid}}


def _processes() -> dict[int, tuple[int, str]]:
    """The parent of each, and its name as `PID:START`."""
    table: dict[int, tuple[int, str]] = {}
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError, IndexError):
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            table[int(folder.name)] = int(fields[1]), f"{folder.name}:{fields[19]}"
    return table


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
