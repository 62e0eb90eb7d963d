"""The schema, compiled once per worker into the three calls that the pipeline makes per record.

pydantic-core's own validator and serializer are called row by row; a list validator is no faster (0.78 against 0.79 µs
a row) and has to start over at the first bad row. Where nothing in the model needs an instance (no validator on the
model, serializer, computed field) the fields are validated into a plain dict: 1.3 to 1.6 times as
fast, the same bytes. The model itself stays the authority: whatever the dict's validator refuses is shown to it, unless
that would call validators of the person's a second time.

`use_batch_validation` validates a whole chunk of Python records by one call and, if that fails, row by row. It changes
how often validators run (twice for the good rows of a chunk with a bad one) and that errors surface after the whole
chunk was seen; it changes no outcome and no output. Texts of JSON and chunks with an unreadable record go row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic_core import (
    ValidationError,
    from_json,
)

from manyhands.errors import DecodeError
from manyhands.worker.rows import BadRow

Validator = Callable[[Any], Any]
Rejected = dict[int, BaseException]


class RecordsCancelled(Exception):  # a signal, not an error
    """The run was aborted: no new record may start."""


PASSING: Final = (KeyboardInterrupt, RecordsCancelled)
"""What is no failure of a record. A validator or a hook may raise anything else, also what is no `Exception`, such as
`SystemExit` or the timeouts of some libraries: that ends one record, not the run."""

_NO_BATCH: Final = frozenset({bytes, BadRow})


@dataclass(frozen=True, slots=True)
class Plan:
    """What a worker calls per record.

    Attributes:
        validate: a value from a Python object; raises `ValidationError`.
        validate_json: the same from the bytes of a JSON text.
        authority, authority_json: the same by the schema itself, where the fast ones are not the schema's own.
        to_dict: the value as the plain dict that hooks and CSV get.
        encode: the value as JSON bytes.
        encode_all: the values of rows that are no instances as one JSON array, where all are flat objects with the
            same first key.
        seam: what stands between two of them there, from the end of one to its first key, and nowhere else: behind a
            quote that ends a string there is no key, and one inside a string is escaped.
        json_modes: how the model's configuration writes dates, timedelta, bytes and nan.
        batch: validates a list by one call and changes no row, if the person asked for that.
        calls_code: the schema calls functions of the person's, which may change the rows that they are given.
    """

    validate: Validator
    validate_json: Validator
    to_dict: Callable[[Any], Any]
    encode: Callable[[Any], bytes]
    authority: Validator | None = None
    authority_json: Validator | None = None
    json_modes: Mapping[str, Any] = field(default_factory=lambda: {"inf_nan_mode": "null"})
    encode_all: Callable[[list[Any]], bytes] | None = None
    seam: bytes = b""
    batch: Callable[[list[Any]], list[Any]] | None = None
    calls_code: bool = False

    def validate_rows(self, rows: list[Any], rejected: Rejected, tracked: Iterable[Any] | None = None) -> list[Any]:
        """The values of the good rows, in order.

        Args:
            rows: dicts or `BadRow`s, or bytes of JSON.
            rejected: takes, by index, the exception of each row that is refused.
            tracked: the same rows through an iterator that tells where it is.
        """
        validate = self._validator_of(rows)
        values: list[Any] = []
        rest = iter(rows if tracked is None else tracked)
        while True:
            error: BaseException = StopIteration("raised by a validator")  # it ends extend() as if the rows had ended
            try:
                # extend() keeps what came before the exception and map() goes on behind it: no bytecode per row.
                values.extend(map(validate, rest))
            except PASSING:
                raise
            except BaseException as caught:  # noqa: BLE001  # validators may raise anything
                error = caught
            index = len(values) + len(rejected)
            if index == len(rows):
                return values
            self._settle(rows[index], index, error, values, rejected)

    def validate_batch(self, rows: list[Any], rejected: Rejected, tracked: Iterable[Any] | None = None) -> list[Any]:
        """As `validate_rows`, by one call where the plan has one and it succeeds."""
        if self.batch is not None and _NO_BATCH.isdisjoint(map(type, rows)):
            try:
                return self.batch(rows)
            except PASSING:
                raise
            except BaseException:  # noqa: BLE001, S110  # as above
                pass  # the rows one by one say which it was
        return self.validate_rows(rows, rejected, tracked)

    def validate_one(self, row: Any) -> Any:
        """The value of one row.

        Raises:
            ValidationError: the schema refuses it; whatever else a validator raises goes through.
        """
        rejected: Rejected = {}
        values = self.validate_rows([row], rejected)
        if rejected:
            raise rejected[0]
        return values[0]

    def _validator_of(self, rows: list[Any]) -> Validator:
        kinds = set(map(type, rows))
        if kinds.isdisjoint(_NO_BATCH):
            return self.validate
        return self.validate_json if kinds == {bytes} else self._validate_any

    def _validate_any(self, row: Any) -> Any:
        if isinstance(row, BadRow):  # the schema must not see it: there are schemas that take anything
            raise DecodeError(row.error["message"], type=row.error["type"])
        return self.validate_json(row) if type(row) is bytes else self.validate(row)

    def _settle(self, row: Any, index: int, error: BaseException, values: list[Any], rejected: Rejected) -> None:
        authority = self.authority_json if type(row) is bytes else self.authority
        # Functions of the person's may remember a row; then only what they did not see yet is shown to the authority.
        if authority is not None and (not self.calls_code or _is_of_whole_row(error)):
            try:
                values.append(authority(row))
            except PASSING:
                raise
            except BaseException as better:  # noqa: BLE001  # as above
                error = better
            else:
                return
        # Without its traceback, which would keep this chunk's rows and values in a reference cycle.
        rejected[index] = error.with_traceback(None)


def same(value: Any) -> Any:
    """A value that already is the dict that hooks get."""
    return value


def load_json(text: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        DecodeError: it is none.
    """
    try:
        return from_json(text)
    except ValueError as error:
        raise DecodeError(f"Invalid JSON: {error}", type="json_invalid") from error


def _is_of_whole_row(error: BaseException) -> bool:
    """The error of a row that is no dict."""
    if not isinstance(error, ValidationError) or error.error_count() != 1:
        return False
    return not error.errors(include_url=False, include_context=False, include_input=False)[0]["loc"]
