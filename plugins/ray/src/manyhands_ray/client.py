"""Whether a cluster would let this program in: asked before Ray is, which waits for long and then says little."""

from __future__ import annotations

import os
import socket
from typing import Final
from urllib.parse import SplitResult

from manyhands.errors import WorkerInitError
from manyhands_ray.places import host_and_port

_SECONDS: Final = 5.0
_PING: Final = "/ray.rpc.RayletDriver/ClusterInfo"
_PING_REQUEST: Final = b"\x08\x06"  # type: PING
_ID: Final = "/ray.rpc.NodeInfoGcsService/GetClusterId"
_REFUSALS: Final = ("AuthenticationError", "UNAUTHENTICATED", "PERMISSION_DENIED")

_WHERE: Final = (
    "let the cluster's token be in RAY_AUTH_TOKEN, in the file that RAY_AUTH_TOKEN_PATH names, or in ~/.ray/auth_token"
)
_REMEDY: Final = f"set RAY_AUTH_MODE=token for this program, and {_WHERE}"


def check_port(named: str, place: SplitResult) -> None:
    """See whether anything listens there.

    Args:
        named: the address as the person wrote it.
        place: the address, as a URL.

    Raises:
        WorkerInitError: nothing does, or it is no address.
    """
    try:
        socket.create_connection(host_and_port(place), timeout=_SECONDS).close()
    except (OSError, ValueError) as error:  # ValueError: no name of a host, or no number
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise WorkerInitError(
            f"no Ray cluster answers at {named}: {why}; is its head running, and is the port right?"
        ) from error


def check_client(address: str, place: SplitResult) -> None:
    """See whether a server for Ray clients accepts this program.

    Args:
        address: for messages.
        place: the same, as a URL.

    Raises:
        WorkerInitError: it does not, or it is no such server.
    """
    from ray._private.grpc_utils import init_grpc_channel

    try:
        with init_grpc_channel(_target(place)) as channel:
            ping = channel.unary_unary(_PING)
            ping(_PING_REQUEST, timeout=_SECONDS, wait_for_ready=True)
    except Exception as error:
        raise WorkerInitError(_refusal(address, error)) from error


def check_head(address: str, place: SplitResult) -> None:
    """See whether the head of a cluster refuses this program. Whatever else may be wrong, Ray finds out.

    Args:
        address: for messages.
        place: the same, as a URL.

    Raises:
        WorkerInitError: it does.
    """
    from ray._private.grpc_utils import init_grpc_channel

    try:
        with init_grpc_channel(_target(place)) as channel:
            channel.unary_unary(_ID)(b"", timeout=_SECONDS)
    except Exception as error:  # of gRPC, and of Ray where it looks for its token
        if _name(error) in _REFUSALS:
            raise WorkerInitError(_refusal(address, error)) from error


def _target(place: SplitResult) -> str:
    host, port = host_and_port(place)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _name(error: Exception) -> str:
    code = getattr(error, "code", None)
    return str(code().name) if callable(code) else type(error).__name__


def _refusal(address: str, error: Exception) -> str:
    """What an error of gRPC, or of Ray where it looks for its token, means."""
    name = _name(error)
    if name == "AuthenticationError":
        return f"the Ray cluster at {address} cannot be used: there is no token here; {_REMEDY}"
    if name in _REFUSALS and os.environ.get("RAY_AUTH_MODE") == "token":
        return f"the Ray cluster at {address} refuses the token of this program, which is not its own: {_WHERE}"
    if name in _REFUSALS:
        return f"the Ray cluster at {address} refuses this program, as it asks for its token: {_REMEDY}"
    what = "is that the port of its clients (--ray-client-server-port, 10001), and is the head up?"
    return f"the Ray cluster at {address} does not answer as one ({name.lower()}): {what}"
