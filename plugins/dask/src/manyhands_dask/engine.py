"""Whole pipes on the workers of a Dask cluster, which read the files themselves from a file system that all share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from manyhands.doors.futures import FuturesExecutor
from manyhands.engines.base import BaseEngine
from manyhands.engines.board import Board, Status
from manyhands.engines.places import located
from manyhands.pool import Pool
from manyhands_dask.executor import DaskExecutor
from manyhands_dask.remote_pipe import run_there

if TYPE_CHECKING:
    from pathlib import Path


class DaskEngine(BaseEngine):
    """Runs each pipe in a worker of a Dask cluster; one whose worker dies is run once more.

    Files of the pipes must be on a file system that all workers share, under the same names; a relative name is taken
    from the folder in which this program is.

    Args:
        n_workers: pipes that run at a time at most; None: as many as there are. Where there are fewer workers, pipes
            wait.
        address: of a scheduler, `tcp://host:8786` or `tls://host:8786`, whose cluster is left running; None: a cluster
            on this machine that ends with the run.
        resources: what each pipe that runs takes of its worker's resources, such as `{"GPU": 1}`.
        security: TLS files; see `DaskExecutor`.

    Raises:
        OptionsError: a value is not one of these.
    """

    name: str = "dask"

    def __init__(
        self,
        n_workers: int | None = None,
        address: str | None = None,
        *,
        resources: Mapping[str, float] | None = None,
        security: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__("dask", n_workers)
        self._make: Callable[[int], DaskExecutor] = lambda workers: DaskExecutor(
            address=address, max_workers=workers, max_inflight=None, resources=resources, security=security
        )
        self._make(1)  # whatever is wrong with the options is told now

    def _make_workers(self, pipes: int) -> FuturesExecutor:
        return _Workers(self._make(self._workers or pipes))


class _Workers(FuturesExecutor):
    """Runs pipes where a run asks for it, and keeps its board.

    Args:
        executor: has the workers.
    """

    def __init__(self, executor: DaskExecutor) -> None:
        super().__init__(Pool(executor=executor))
        self._relay = executor.relay = Relay()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ARG002  # known
        """Run a pipe.

        Args:
            fn: `run_pipe` of `manyhands.engines.task`.
            args: the pipe, the board's file, and the number of the pipe.
            kwargs: none.
        """
        pipe, board, number = args
        self._relay.open(board)
        return super().submit(run_there, located(pipe), number, **kwargs)


class Relay:
    """Keeps the board of a run: what workers say goes there, what stands there goes to the workers."""

    def __init__(self) -> None:
        self._board: Board | None = None

    def open(self, path: Path) -> None:
        """Take this one. Idempotent.

        Args:
            path: of its file.
        """
        if self._board is None:
            self._board = Board(path)

    def take(self, number: int, status: tuple[int, ...]) -> None:
        """Write down how far a pipe is; its worker has another clock.

        Args:
            number: of the pipe.
            status: its fields.
        """
        if self._board is not None:
            self._board.write(number, Status(*status)._replace(heartbeat=time.monotonic_ns()))

    def flags(self) -> tuple[bool, bool]:
        """Whether everything is to end, and whether somebody looks."""
        board = self._board
        return (board.is_cancelled, board.is_watched) if board is not None else (False, False)

    def close(self) -> None:
        """Let go of it. Idempotent."""
        if self._board is not None:
            self._board.close()
            self._board = None
