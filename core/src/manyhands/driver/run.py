"""One run of a pipe: what is opened for it, and the thread that drives it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextvars import copy_context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from manyhands.adapters.base import Source
from manyhands.driver.claims import claim
from manyhands.driver.feeder import Feeder
from manyhands.driver.interrupts import Interrupts
from manyhands.driver.loop import Driver
from manyhands.driver.sink import Sink, StreamSink
from manyhands.driver.watch import check_limits
from manyhands.errors import RunError
from manyhands.events import Observers
from manyhands.records import Entry
from manyhands.report import FlowReport, RunControl, RunStatus
from manyhands.worker.context import WorkerContext
from manyhands.worker.schema import field_names

if TYPE_CHECKING:
    from manyhands.pipe import Pipe

ENTRY_BLOCK_BYTES: Final = 64 * 1024
"""Blocks of jobs whose records become entries: the entries of a larger one leave the processor's cache."""

ERROR_COLUMNS: Final = ("position", "line", "outcome", "raw_data", "errors", "metadata")


class Run:
    """One run of a pipe: everything that was opened for it.

    Args:
        pipe: what to run.
        stream: entries are also handed to whoever iterates over `entries`.

    Raises:
        UsageError: the input or an output cannot be opened, or the executor runs another pipe; nothing stays open.
    """

    def __init__(self, pipe: Pipe, *, stream: bool) -> None:
        executor: Any = pipe.executor
        self.control: RunControl = RunControl(threading.Event())
        self.report: FlowReport = FlowReport(executor_name(executor), self.control)
        self._started = False
        check_limits(executor, pipe.options)
        claim(executor, self.report)
        try:
            self._open(pipe, executor, stream=stream)
        except BaseException as error:
            self.report.end(RunStatus.FAILED, error)  # lets go of the executor
            raise

    def _open(self, pipe: Pipe, executor: Any, *, stream: bool) -> None:
        inbox: SimpleQueue[Any] = SimpleQueue()
        self.control.wake = lambda: inbox.put(None)
        self._source = pipe.input_adapter.open()
        self.context: WorkerContext = context_of(pipe, self._source, self.control.cancelled)
        self.sink: Sink = self._open_sink(pipe, stream=stream)
        self.context.encoder, self.context.error_encoder = self.sink.encoder, self.sink.error_encoder
        chunksize, nbytes = cutting(executor, self.context, encoded=self.sink.encoder is not None)
        feeder = Feeder(
            pipe.input_adapter,
            self._source,
            chunksize=chunksize,
            nbytes=nbytes,
            packed=executor.capabilities.crosses_process,
            compression=self.context.compression,
            wake=self.control.wake,
        )
        observers = Observers(pipe.observers)
        self._driver = Driver(
            executor,
            self.context,
            feeder=feeder,
            sink=self.sink,
            report=self.report,
            control=self.control,
            options=pipe.options,
            observers=observers,
            inbox=inbox,
        )

    @property
    def entries(self) -> Iterator[Entry]:
        """What a streaming run yields."""
        return iter(self.sink) if isinstance(self.sink, StreamSink) else iter(())

    def start(self) -> None:
        """Run in a thread of its own.

        Raises:
            RunError: this system has no thread for it; nothing stays open.
        """
        # In a copy of the caller's context, so that what they set there (decimal precision, say) holds for the run.
        inherited = copy_context()
        thread = threading.Thread(target=inherited.run, args=(self._drive,), name="manyhands-driver", daemon=True)
        try:
            with Interrupts():  # so that ^C finds a thread that runs, or none
                thread.start()
                self._started = True
        except RuntimeError as error:
            failure = RunError(f"the run cannot be started: {error}")
            self._discard(RunStatus.FAILED, failure)
            raise failure from error

    def abort(self) -> None:
        """Let it end, also where it has not been started."""
        if self._started:
            self.report.abort()
        else:
            self._discard(RunStatus.ABORTED)

    def close(self) -> None:
        """Publish a stopped run, abort a running one, and wait."""
        if self.report.is_stopped:
            self.control.closing.set()
            self.control.wake()
        elif not self.report.is_finished:
            self.report.abort()
        self.report.wait()

    def _discard(self, status: RunStatus, error: BaseException | None = None) -> None:
        self._source.close()
        self.sink.discard()
        self.report.end(status, error)

    def _drive(self) -> None:
        try:
            self._driver.run()
        except BaseException as error:
            self.report.end(RunStatus.FAILED, error)  # whoever waits must not wait for ever
            raise
        finally:
            if isinstance(self.sink, StreamSink):
                self.sink.close()

    def _open_sink(self, pipe: Pipe, *, stream: bool) -> Sink:
        output = errors = None
        columns = known_columns(pipe)
        try:
            if pipe.output_adapter is not None:
                output = pipe.output_adapter.open(columns)
            if pipe.error_output_adapter is not None:
                errors = pipe.error_output_adapter.open(ERROR_COLUMNS)
            if stream:
                return StreamSink(output, errors, self.context, self.control)
            return Sink(output, errors, self.context)
        except BaseException:
            self._source.close()
            for writer in filter(None, (output, errors)):
                writer.discard()
            raise


def cutting(executor: Any, context: WorkerContext, *, encoded: bool) -> tuple[int | None, int | None]:
    """How large chunks are: how many records, and if that is None how many bytes; None for both: the default.

    Args:
        executor: that will run them.
        context: the job.
        encoded: workers make the bytes of the output.
    """
    chunksize = getattr(executor, "chunksize_for", lambda _: getattr(executor, "chunksize", None))(context)
    has_entries = context.hooked or not encoded  # hooks must find the same batches on every backend
    return chunksize, ENTRY_BLOCK_BYTES if has_entries else getattr(executor, "block_bytes", None)


def known_columns(pipe: Pipe) -> tuple[str, ...] | None:
    """The fields of the output, if they are known before the data."""
    return None if pipe.post_validation_hooks else field_names(pipe.schema_model)


def context_of(pipe: Pipe, source: Source, cancelled: threading.Event) -> WorkerContext:
    """The job that workers get.

    Args:
        pipe: what is to be run.
        source: its opened input.
        cancelled: set on abort.
    """
    executor: Any = pipe.executor
    return WorkerContext(
        schema_model=pipe.schema_model,
        pre_hooks=pipe.pre_validation_hooks,
        post_hooks=pipe.post_validation_hooks,
        decoder=source.decoder,
        json_input=source.json_input,
        compression=getattr(executor, "compression", None),
        max_hook_chunk_size=pipe.max_hook_chunk_size,
        use_batch_validation=getattr(executor, "use_batch_validation", False),
        concurrency=getattr(executor, "concurrency", 1),
        id_generator=pipe.id_generator,
        record_timeout=pipe.options.record_timeout,
        cancelled=cancelled,
    )


def executor_name(executor: Any) -> str:
    """What reports call an executor: its name as a backend, else its class."""
    return str(getattr(executor, "name", type(executor).__name__))
