"""Where clusters are: what an address names, and whether two of them name the same."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Final
from urllib.parse import SplitResult, urlsplit

_PORTS: Final = {"ray": 10001}


def as_url(address: str) -> SplitResult:
    """An address in parts; one that has no scheme is that of a head."""
    return urlsplit(address if "://" in address else f"//{address}")


def host_and_port(place: SplitResult) -> tuple[str, int]:
    """What to connect to.

    Args:
        place: an address, as a URL.

    Raises:
        ValueError: it has no host, or no number for a port.
    """
    if not place.hostname:
        raise ValueError("there is no host in it")
    return place.hostname, place.port or _PORTS.get(place.scheme, 6379)


def same_place(one: str, other: str) -> bool:
    """Both name one port of one machine, which may have many names; False where a name is unknown here."""
    with suppress(OSError, ValueError):
        place, that = as_url(one), as_url(other)
        (host, port), (other_host, other_port) = host_and_port(place), host_and_port(that)
        return (place.scheme, port) == (that.scheme, other_port) and _same_host(host, other_host)
    return False


def _same_host(one: str, other: str) -> bool:
    if one == other:
        return True
    addresses, others = _addresses(one), _addresses(other)
    return bool(addresses & others) or (any(map(_is_here, addresses)) and any(map(_is_here, others)))


def _addresses(host: str) -> set[str]:
    return {str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}


def _is_here(address: str) -> bool:
    """It is one of this machine's: nobody else can listen there."""
    with suppress(OSError), socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as own:
        own.bind((address, 0))
        return True
    return False
