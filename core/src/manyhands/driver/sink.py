"""Writes what is complete, in order, to the output and the error output."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cached_property
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final

from manyhands.errors import EncodeError, RecordError, RunAborted
from manyhands.records import Entry, EntryStatus, ErrorRecord, Outcome, new_entry
from manyhands.worker.compile import compile_plan
from manyhands.worker.failures import describe
from manyhands.worker.plan import PASSING

if TYPE_CHECKING:
    from manyhands.adapters.base import Writer
    from manyhands.chunks import ChunkResult
    from manyhands.report import RunControl
    from manyhands.worker.context import WorkerContext
    from manyhands.worker.encode import Encoder
    from manyhands.worker.plan import Plan


class Sink:
    """The outputs of a run.

    Args:
        output: where ok records go; None drops them.
        errors: where error records go; None drops them, they are counted all the same.
        context: the job.
    """

    def __init__(self, output: Writer | None, errors: Writer | None, context: WorkerContext) -> None:
        self._output = output
        self._errors = errors
        self._context = context

    @property
    def encoder(self) -> Encoder | None:
        """What workers encode ok records with; None: they return entries."""
        return self._output.encoder if self._output else None

    @property
    def error_encoder(self) -> Encoder | None:
        """What workers encode error records with; None: they return them as they are, to be joined by later ones."""
        return self._errors.encoder if self._errors and self.encoder else None

    def write(self, parts: list[ChunkResult]) -> None:
        """Write the results of a chunk.

        Args:
            parts: by record. Entries that turn out to have no encoded form are counted as rejected.

        Raises:
            SinkError: an output failed.
        """
        for part in parts:
            if self.encoder is None:
                self._write_entries(part)
            else:
                _put(self._output, part.output)
                self._write_failed(part.errors)

    def _write_entries(self, part: ChunkResult) -> tuple[list[Entry], list[ErrorRecord]]:
        """The entries that were written, and all error records."""
        entries: Any = part.output or []
        failed: Any = part.errors or []
        encoder = self._output.encoder or self._output.late_encoder(entries) if self._output else None
        unwritten: list[ErrorRecord] = []
        if self._output is None or encoder is None:
            _put(self._output, entries)
        else:
            entries, unwritten = self._write_encoded(self._output, encoder, entries)
        part.ok, part.rejected = part.ok - len(unwritten), part.rejected + len(unwritten)
        failed = sorted([*failed, *unwritten], key=_position)
        self._write_failed(failed)
        return entries, failed

    def _write_encoded(
        self, output: Writer, encoder: Encoder, entries: list[Entry]
    ) -> tuple[list[Entry], list[ErrorRecord]]:
        encode = encoder.for_records(self._plan, [entry["validated_data"] for entry in entries])
        written, parts, unwritten = [], [], []
        for entry in entries:
            try:
                parts.append(encode(entry["validated_data"]))
            except PASSING:
                raise
            except BaseException as error:  # noqa: BLE001  # serializers may raise anything
                unwritten.append(_unwritten(entry, error))
            else:
                written.append(entry)
        _put(output, encoder.join(parts))
        return written, unwritten

    def _write_failed(self, records: bytes | list[ErrorRecord]) -> None:
        encoder = self._errors.encoder if self._errors else None
        if encoder is not None and not isinstance(records, bytes):
            records = encoder.join([encoder.encode(record) for record in records])
        _put(self._errors, records)

    @cached_property
    def _plan(self) -> Plan:
        return compile_plan(self._context.schema_model)

    def publish(self) -> None:
        """Finish every output, then rename all of them: none appears when one cannot be finished.

        Raises:
            SinkError: an output could not be finished.
        """
        writers = self._writers()
        for writer in writers:
            writer.finish()
        for writer in writers:
            writer.publish()

    def discard(self) -> None:
        """Keep what is written aside; nothing appears."""
        for writer in self._writers():
            writer.discard()

    def _writers(self) -> list[Writer]:
        return [writer for writer in (self._output, self._errors) if writer is not None]


class StreamSink(Sink):
    """Also hands each entry to whoever iterates; holds the run up until it is taken.

    Args:
        output, errors: as for `Sink`; encoded here, since the workers return entries.
        context: the job.
        control: an abort, or the end of a stopped run, ends a wait for the reader.
    """

    def __init__(
        self, output: Writer | None, errors: Writer | None, context: WorkerContext, control: RunControl
    ) -> None:
        super().__init__(output, errors, context)
        self._make_id = context.id_generator
        self._control = control
        self._entries: SimpleQueue[Entry | None] = SimpleQueue()
        self._room = threading.Semaphore(_STREAM_AHEAD)

    @property
    def encoder(self) -> Encoder | None:
        """None: entries are wanted."""
        return None

    @property
    def error_encoder(self) -> Encoder | None:
        """None: error records are wanted."""
        return None

    def write(self, parts: list[ChunkResult]) -> None:
        """Write the results of a chunk, and wait until the reader has taken nearly all of them."""
        for part in parts:
            ok, failed = self._write_entries(part)
            for entry in sorted([*ok, *map(self._failed_entry, failed)], key=_position):
                self._offer(entry)

    def close(self) -> None:
        """No more will come."""
        self._entries.put(None)

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._entries.get()) is not None:
            self._room.release()
            yield entry

    def _failed_entry(self, record: ErrorRecord) -> Entry:
        position = record["position"]
        entry = new_entry(position, record["raw_data"], self._id(position))
        return {
            **entry,
            "status": EntryStatus.FAILED,
            "errors": record["errors"],
            "metadata": record["metadata"],
        }

    def _id(self, position: int) -> Any:
        try:
            return self._make_id(position) if self._make_id else position
        except PASSING:
            raise
        except BaseException:  # noqa: BLE001  # that is why the record failed
            return position

    def _offer(self, entry: Entry) -> None:
        # Whoever waits for the end of a stopped run may be the reader; what is left to hand out is bounded.
        while not self._control.closing.is_set() and not self._room.acquire(timeout=_POLL_SECONDS):
            if self._control.cancelled.is_set():
                raise RunAborted("the run was aborted")
        self._entries.put(entry)


def _position(item: Any) -> int:
    position: int = item["position"]
    return position


def _unwritten(entry: Entry, error: BaseException) -> ErrorRecord:
    known = error if isinstance(error, RecordError) else EncodeError(f"no JSON form: {error}")
    return {
        "position": entry["position"],
        "outcome": Outcome.REJECTED,
        "raw_data": entry["raw_data"],
        "errors": describe(known),
        "metadata": entry["metadata"],
    }


def _put(writer: Writer | None, records: Any) -> None:
    if writer is not None and records:
        writer.write(records)


_STREAM_AHEAD: Final = 100
_POLL_SECONDS: Final = 0.05
