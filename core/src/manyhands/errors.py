"""Every exception that manyhands raises on purpose.

ManyhandsError
├── UsageError                  the job, the call or the installation is wrong: nothing has run yet (exit code 2)
│   ├── JobFileError            a job file that cannot be read or does not fit its model
│   ├── OptionsError            options that a backend or an adapter refuses
│   ├── InputError              an input that is missing or unreadable from its first byte
│   ├── OutputError             an output that cannot be created
│   ├── UnpicklableError        code of the job that cannot travel to a worker
│   └── BackendError            a backend that cannot be had
│       ├── UnknownBackend      no such name
│       ├── BackendNotInstalled a known name whose distribution is missing
│       ├── BrokenPlugin        its import or registration failed
│       ├── IncompatiblePlugin  written for another plugin interface
│       └── DuplicateBackend    two distributions claim the name
├── RunError                    the run failed (exit code 1)
│   ├── SourceError             the input failed after the run began
│   ├── SinkError               an output failed: disk full, closed pipe
│   ├── WorkerInitError         a worker's start or a hook's setup failed
│   ├── TeardownError           a hook's teardown failed: its work may be incomplete
│   ├── ExecutorBroken          the executor can run nothing more
│   ├── ProtocolError           a backend or an adapter broke its contract
│   └── RunAborted              the run was aborted on request
├── WorkerLost                  a worker died while it ran a chunk: what a chunk's future fails with
├── RecordTimeout               records took longer than they may: likewise
├── CallError                   a call of a function map has an argument, a result or an exception that cannot travel
└── RecordError                 one record cannot go on: it is rejected, the run continues
    ├── HookError               a hook raised, or returned what it must not
    │   └── HookStoreLocked     it wrote into the store while it executed
    ├── DecodeError             the record's text cannot be read
    └── EncodeError             the record's values cannot be written, or cannot travel
"""

from __future__ import annotations

import signal as signals
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from manyhands.executor import Progress


class ManyhandsError(Exception):
    """Root of all of them; `str()` of it is one message for the person, with the remedy."""


class UsageError(ManyhandsError):
    """The job, the call or the installation is wrong; nothing has run."""


class JobFileError(UsageError):
    """A job file that cannot be read, or whose tables do not fit."""


class OptionsError(UsageError):
    """Options that a backend or an adapter refuses."""


class InputError(UsageError):
    """An input that is missing, or unusable from its first byte."""


class OutputError(UsageError):
    """An output that cannot be created."""


class UnpicklableError(UsageError):
    """Code of the job that cannot travel to a worker; names the object."""


class BackendError(UsageError):
    """A backend that cannot be had."""


class UnknownBackend(BackendError):
    """No installed or known backend has this name."""


class BackendNotInstalled(BackendError):
    """The name is known, its distribution is not installed."""


class BrokenPlugin(BackendError):
    """The plugin's import or registration failed."""


class IncompatiblePlugin(BackendError):
    """The plugin was written for another version of the plugin interface."""


class DuplicateBackend(BackendError):
    """Two installed distributions claim the same name."""


class RunError(ManyhandsError):
    """The run failed."""


class SourceError(RunError):
    """The input failed after the run had begun."""


class SinkError(RunError):
    """An output failed: disk full, quota, closed pipe."""


class WorkerInitError(RunError):
    """A worker could not start: its process, its imports or a hook's `setup`."""


class TeardownError(RunError):
    """A hook's `teardown` failed, so what it should have finished may be incomplete."""


class ExecutorBroken(RunError):
    """The executor can run nothing more."""


class ProtocolError(RunError):
    """A backend or an adapter broke its contract; the message says which clause."""


class RunAborted(RunError):
    """The run was aborted on request."""


class WorkerLost(ManyhandsError):
    """A worker died while it ran a chunk.

    Attributes:
        exitcode: the exit status, if it exited by itself.
        signal: the number of the signal that killed it, if one did.
        progress: how far it had come; None when the backend cannot tell.
        reason: why the backend itself ended it, if it did.
        worker: which one, for events; no part of any output.
    """

    def __init__(
        self,
        exitcode: int | None = None,
        signal: int | None = None,
        progress: Progress | None = None,
        reason: str | None = None,
        worker: str = "",
    ) -> None:
        super().__init__(exitcode, signal, progress, reason, worker)
        self.exitcode = exitcode
        self.signal = signal
        self.progress = progress
        self.reason = reason
        self.worker = worker

    @property
    def cause(self) -> str:
        """`SIGKILL`, `exit code 3`, or `unknown cause`: the same words on every backend."""
        if self.reason is not None:
            return self.reason
        if self.signal is not None:
            return _signal_name(self.signal)
        return "unknown cause" if self.exitcode is None else f"exit code {self.exitcode}"

    @property
    def stage(self) -> str | None:
        """Where in the pipeline it was; None when that is not known."""
        return self.progress.stage if self.progress else None

    def __str__(self) -> str:
        where = f" in stage {self.stage}" if self.stage else ""
        return f"the worker died ({self.cause}){where}"


class RecordTimeout(ManyhandsError):
    """Records of a chunk took longer than they may; what else the chunk holds is not to blame.

    Attributes:
        records: which ones, as half-open ranges of indexes into the chunk's payload.
        stage: where in the pipeline they were.
        limit: the option that says how long they may take.
        worker: which one was killed for it, if one was; for events.
    """

    cause: str = "timeout"
    worker: str = ""

    def __init__(self, records: Sequence[tuple[int, int]], stage: str, limit: str = "record_timeout") -> None:
        super().__init__(records, stage, limit)
        self.records = records
        self.stage = stage
        self.limit = limit

    def __str__(self) -> str:
        return f"took longer than {self.limit} allows in stage {self.stage}"


class CallError(ManyhandsError):
    """The arguments, the result or the exception of a call cannot be pickled or unpickled; names type and text."""


class RecordError(ManyhandsError):
    """One record cannot go on; it is rejected and the run continues.

    Attributes:
        type: stable machine-readable code, the `type` of the entry's error.
        loc: path to the value at fault, empty when it is the whole record.
    """

    type: str = "record"

    def __init__(self, message: str, *, type: str | None = None, loc: tuple[str | int, ...] = ()) -> None:  # noqa: A002  # the key of an entry's error
        super().__init__(message)
        self.type = type or self.type
        self.loc = loc


class HookError(RecordError):
    """A hook raised, or returned what it must not."""

    type: str = "HookError"


class HookStoreLocked(HookError):
    """A hook wrote into its store while it executed; fill it in `setup`."""


class DecodeError(RecordError):
    """The record's text cannot be read."""

    type: str = "DecodeError"


class EncodeError(RecordError):
    """The record's values cannot be written to the output, or cannot travel to a worker."""

    type: str = "EncodeError"


def _signal_name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"
