"""The cluster of a run: one of our own, or somebody else's to connect to."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from distributed import Client
from distributed.security import Security

from manyhands.errors import OptionsError, WorkerInitError
from manyhands_dask.local import started, without_timeouts

_log: Final = logging.getLogger("manyhands")
_CONNECT_SECONDS: Final = 15.0
_CLOSE_SECONDS: Final = 5.0
_TLS: Final = "tls:// needs security: tls_ca_file, tls_client_cert and tls_client_key"
_SCHEMES: Final = ("tcp://", "tls://")


@dataclass(frozen=True, slots=True)
class Cluster:
    """Which cluster.

    Attributes:
        address: of a scheduler; None: one of our own.
        max_workers: processes of our own; None: one for each CPU.
        security: keywords of `distributed.security.Security`.

    Raises:
        OptionsError: one of these cannot be used.
    """

    address: str | None = None
    max_workers: int | None = None
    security: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.address is not None and not str(self.address).startswith(_SCHEMES):
            raise OptionsError(f"address must be tcp://host:port or tls://host:port, not {self.address!r}")
        if self.address is not None and not _has_port(self.address):
            raise OptionsError(f"address needs a port, as in tcp://host:8786, not {self.address!r}")
        if self.address is None and self.security:
            raise OptionsError("security is for a cluster with an address: one of our own listens on this machine only")
        security = _security(self.security)  # so that who only checks a job is told, too
        if str(self.address).startswith("tls://"):
            _check_tls(security)

    @property
    def is_own(self) -> bool:
        """It is ours alone."""
        return self.address is None

    @asynccontextmanager
    async def connected(self, resources: Mapping[str, float]) -> AsyncIterator[Client]:
        """A client of it; our own cluster is there as long.

        Args:
            resources: that each worker of our own has.

        Raises:
            WorkerInitError: nothing answers at the address, or our own cannot be started.
            OptionsError: the files of `security` can no longer be used.
        """
        if self.address is not None:
            async with _client(self.address, _security(self.security)) as client:
                yield client
            return
        async with started(self.max_workers, resources) as address, _client(address, None) as client:
            yield client


@asynccontextmanager
async def _client(address: str, security: Security | None) -> AsyncIterator[Client]:
    await _resolve(address)
    asyncio.get_running_loop().set_exception_handler(without_timeouts)
    client = Client(
        address, asynchronous=True, security=security, timeout=_CONNECT_SECONDS, set_as_default=False, name="manyhands"
    )
    try:
        try:
            await client
        except Exception as error:
            raise WorkerInitError(f"no Dask scheduler can be used at {address}: {_reason(error)}") from error
        if (link := client.dashboard_link) and find_spec("bokeh"):  # without it, it is a page that asks for it
            _log.info("the dashboard of the Dask cluster is at %s", link)
        yield client
    finally:
        await _closed(client)


async def _resolve(address: str) -> None:
    """Look the name up, which Dask would go on trying to and then say that time is over."""
    host = urlsplit(address).hostname or ""
    try:
        await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError as error:
        raise WorkerInitError(f"no Dask scheduler can be used at {address}: no host {host}: {error}") from error


async def _closed(client: Client) -> None:
    try:
        await asyncio.wait_for(client.close(), _CLOSE_SECONDS)
    except Exception as error:  # noqa: BLE001  # of a cluster that is gone
        _log.debug("closing the client: %r", error)


def _has_port(address: str) -> bool:
    try:
        return urlsplit(address).port is not None
    except ValueError:  # it is no number
        return False


def _security(options: Mapping[str, Any] | None) -> Security | None:
    if not options:
        return None
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if name.startswith("tls_") and not Path(str(value)).is_file():
            raise OptionsError(f"security: there is no file {value}, which {name} names")
    try:
        security = Security(**given)
        talks_tls = _talks_tls(security)
    except (OSError, TypeError, ValueError) as error:  # OSError is SSLError, too
        raise OptionsError(f"security cannot be used: {error}; it has {', '.join(given)}") from error
    if not talks_tls and any(name.startswith("tls_") for name in given):
        raise OptionsError("security needs tls_ca_file, tls_client_cert and tls_client_key, or none of them")
    return security


def _check_tls(security: Security | None) -> None:
    try:
        talks_tls = _talks_tls(security or Security())
    except (OSError, TypeError, ValueError) as error:
        raise OptionsError(f"the TLS files of Dask's own configuration cannot be used: {error}") from error
    if not talks_tls:
        raise OptionsError(_TLS)


def _talks_tls(security: Security) -> bool:
    return security.get_connection_args("client").get("ssl_context") is not None


def _reason(error: BaseException) -> str:
    """The innermost cause says most."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER":
            return "nothing talks TLS there; without it an address begins with tcp://"
        if isinstance(cause, ssl.SSLError):
            return f"its certificate is refused, or ours is: {cause}; see tls_ca_file of security"
    if isinstance(error, TimeoutError | OSError):
        return f"{str(error) or 'no answer'}; is one running there, and is the port right?"
    first = str(causes[0]) or type(causes[0]).__name__
    last = str(causes[-1]) or type(causes[-1]).__name__
    return first if first == last else f"{first} ({last})"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
