"""The thread that sets the worker up and tears it down."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future, wait
from contextvars import copy_context
from typing import TYPE_CHECKING, Final

from manyhands.crew import GRACE_SECONDS, LOOK_SECONDS
from manyhands.errors import RunAborted, WorkerInitError

if TYPE_CHECKING:
    from manyhands.worker.context import WorkerContext

_log: Final = logging.getLogger("manyhands_asyncio")


class Keeper:
    """One thread for `setup` and `teardown`: hooks that hang there must not keep the driver from ending the run.

    Args:
        context: of the worker, with its awaiter.
    """

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._ready: Future[None] = Future()
        self._end = threading.Event()
        self._failure: BaseException | None = None
        inherited = copy_context()
        self._thread = threading.Thread(target=inherited.run, args=(self._keep,), name="asyncio-setup", daemon=True)

    def setup(self) -> None:
        """Run the hooks' `setup`.

        Raises:
            WorkerInitError: one failed.
            RunAborted: the run was aborted first.
        """
        try:
            self._thread.start()
        except RuntimeError as error:  # the system gives no more threads
            raise WorkerInitError(f"a thread could not start: {error}") from error
        while not wait([self._ready], LOOK_SECONDS).done:
            if self._context.stopped:
                raise RunAborted("the run was aborted")
        self._ready.result()

    def teardown(self) -> None:
        """Run the hooks' `teardown`. A `setup` that has not ended is cancelled or left behind.

        Raises:
            TeardownError: one failed.
        """
        self._end.set()
        if self._thread.ident is None:
            return
        if not self._ready.done() and self._context.awaiter is not None:
            self._context.awaiter.interrupt(self._thread.ident)
            self._thread.join(GRACE_SECONDS)
        if not self._ready.done():
            _log.warning("the setup of a hook does not end and is left behind")
            return
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _keep(self) -> None:
        try:
            self._context.setup()
        except BaseException as error:  # noqa: BLE001  # raised by `setup`
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        self._end.wait()
        try:
            self._context.teardown()
        except BaseException as error:  # noqa: BLE001  # raised by `teardown`
            self._failure = error
