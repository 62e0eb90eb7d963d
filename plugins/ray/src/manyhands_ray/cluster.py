"""The connection to a Ray cluster: a process has one at a time, which its executors share."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import ray

from manyhands.errors import UsageError, WorkerInitError
from manyhands_ray.client import check_client, check_head, check_port
from manyhands_ray.local import QUIET, LocalRay
from manyhands_ray.needs import Needs
from manyhands_ray.places import as_url, same_place
from manyhands_ray.signals import signals_kept

_log: Final = logging.getLogger("manyhands")

_RECONNECT_SECONDS: Final = "10"
"""For so long calls of a Ray client block when the connection is lost."""


class Cluster:
    """A connection, for one executor.

    Attributes:
        address: of the cluster, for messages.
        ours: nobody but executors uses the connection, so it is closed with the last of them.
    """

    def __init__(self, address: str, *, ours: bool) -> None:
        self.address = address
        self.ours = ours

    def close(self) -> None:
        """Let go of it. What the program or another executor uses is left as it is."""
        with _session.lock:
            if self.ours:
                _session.leave()


class _Session:
    """The connection that executors of this process share, if one of them has made it.

    Attributes:
        lock: held while it is made or ended.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._users = 0
        self._address: str | None = None
        self._local: LocalRay | None = None

    def join(self, address: str | None, workers: int | None, needs: Needs) -> Cluster:
        if self._users and ray.is_initialized():
            if address != self._address:
                raise UsageError(
                    f"this process uses the Ray cluster at {self._address or 'this machine'} already, and Ray knows "
                    f"no second one: {address} can be used when the other run has ended"
                )
        elif ray.is_initialized():
            return Cluster(_known(address), ours=False)
        else:
            self._open(address, workers, needs)
        self._users += 1
        return Cluster(self._address or "this machine", ours=True)

    def leave(self) -> None:
        self._users -= 1
        if self._users == 0:
            self._close()

    def _open(self, address: str | None, workers: int | None, needs: Needs) -> None:
        self._address = address
        with signals_kept():
            context = self._begin(address, workers, needs)
        _hush()
        if url := getattr(context, "dashboard_url", None):
            _log.info("dashboard of Ray: http://%s", url.removeprefix("http://"))

    def _begin(self, address: str | None, workers: int | None, needs: Needs) -> Any:
        try:
            if address is None:
                self._local = LocalRay(workers, needs)
            return self._local.context if self._local is not None else _connect(address or "auto")
        except BaseException:
            self._close()
            raise

    def _close(self) -> None:
        local, self._local = self._local, None
        with _quiet(), signals_kept():
            if local is not None:
                local.close()
            else:
                ray.shutdown()


_session: Final = _Session()


def join(address: str | None, workers: int | None, needs: Needs) -> Cluster:
    """Connect to a cluster, or start one on this machine; what the program is connected to already is used.

    Args:
        address: `auto`, `host:port`, `ray://host:port`; None: that of the program, or one that is started.
        workers: for how many a started one must have room; None: one for each CPU.
        needs: what each of them needs.

    Raises:
        UsageError: the process is connected to another cluster.
        WorkerInitError: nothing answers there, it refuses, or Ray cannot be started.
    """
    with _session.lock:
        return _session.join(address, workers, needs)


def _known(address: str | None) -> str:
    """The address of the cluster that the program itself is connected to.

    Raises:
        UsageError: it is another one than this.
    """
    current = _current()
    if address is None or address == "auto" or same_place(address, current):
        return current
    raise UsageError(
        f"the program is connected to the Ray cluster at {current} already, and Ray knows no second one: leave out the "
        f"address {address}, or let the program call ray.shutdown() before"
    )


def _current() -> str:
    client = ray.util.client.ray
    if client.is_connected():
        # There is no public way to ask for it.
        return f"ray://{client.get_context().client_worker._conn_str}"  # noqa: SLF001
    current: str = ray.get_runtime_context().gcs_address
    return current


def _connect(address: str) -> Any:
    place = _found() if address == "auto" else address
    parts = as_url(place)
    if place != "auto":
        check_port(f"{address} ({place})" if place != address else place, parts)
    if parts.scheme == "ray":
        check_client(place, parts)
    elif place != "auto":
        _check_taken(place)
        check_head(place, parts)
    os.environ.setdefault("RAY_CLIENT_RECONNECT_GRACE_PERIOD", _RECONNECT_SECONDS)
    try:
        return ray.init(address=address, **QUIET)
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        raise WorkerInitError(_reason(address, error)) from error


def _check_taken(place: str) -> None:
    """See that something listens where Ray will look, which may be elsewhere: it would look there without end.

    Raises:
        WorkerInitError: nothing does.
    """
    from ray._private import services

    try:
        taken = str(services.canonicalize_bootstrap_address(place))
    except Exception:  # noqa: BLE001  # it is no public function
        return
    try:
        check_port(taken, as_url(taken))
    except WorkerInitError as error:
        raise WorkerInitError(f"Ray takes {place} for {taken}, but {error}; {_LOOPBACK}") from error


def _found() -> str:
    """What `auto` stands for, as far as Ray tells; it may be what a head that is gone has left behind.

    Raises:
        WorkerInitError: for nothing.
    """
    from ray._private import services

    try:
        return str(services.get_ray_address_from_environment("auto", None))
    except ConnectionError as error:
        hint = "start one by `ray start --head`, or name one by host:port or ray://host:port"
        raise WorkerInitError(f"no Ray cluster runs on this machine: {hint}") from error
    except Exception:  # noqa: BLE001  # it is no public function; without it Ray looks itself, and longer
        return "auto"


def _reason(address: str, error: Exception) -> str:
    text = " ".join(str(error).partition("Traceback")[0].split()).rstrip(":")
    if "Initialization failure" in text:
        return f"the Ray cluster at {address} cannot be used: {text}; {_SERVER}"
    hint = "" if "://" in address else f"; {_HINT}; from a machine that is no node of it use ray://"
    return f"the Ray cluster at {address} cannot be used: {text}{hint}"


_SERVER: Final = "try again, and start the head with GRPC_ENABLE_FORK_SUPPORT=0, without which Ray's server may fail"
_LOOPBACK: Final = (
    "a head that listens at the loopback address alone is used with RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 in the "
    "environment of this program, too"
)
_HINT: Final = "if it asks for a token, set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"


@contextmanager
def _quiet() -> Iterator[None]:
    """What Ray logs while it ends is of no use to anybody."""
    logger = logging.getLogger("ray")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _hush() -> None:
    """Keep Ray from printing to the program's output that a worker died; the driver tells that."""
    worker = ray._private.worker  # noqa: SLF001  # there is no public switch
    if hasattr(worker, "_worker_logs_enabled"):
        worker._worker_logs_enabled = False  # noqa: SLF001  # as above
