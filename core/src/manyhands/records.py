"""A record and the envelope it travels in."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, TypedDict


class EntryStatus(StrEnum):
    """What is known of an entry so far."""

    PENDING = "pending"
    VALIDATED = "validated"
    FAILED = "failed"


class Outcome(StrEnum):
    """How a record ended. Every record has exactly one."""

    OK = "ok"
    """It reached the output."""
    REJECTED = "rejected"
    """It failed to decode, to validate or in a hook, and is in the error output."""
    DEAD = "dead"
    """It killed or outlasted its worker, and is in the error output."""
    DROPPED = "dropped"
    """A hook removed it on purpose."""
    CANCELLED = "cancelled"
    """It was read, but the run ended before its result was written."""


class ErrorDetail(TypedDict, total=False):
    """One reason why a record failed."""

    type: str
    message: str
    loc: list[str | int]


class Entry(TypedDict):
    """A record in its envelope: what hooks get and what `Pipe.stream` yields. A plain dict."""

    id: Any
    """The position, or what the pipe's `id_generator` made of it."""
    position: int
    """0-based index of the record in the input."""
    status: EntryStatus
    raw_data: Any
    """The record as read; pre-validation hooks may change it."""
    validated_data: Any
    """A plain dict of Python values once validated, before that None."""
    errors: list[ErrorDetail]
    metadata: dict[str, Any]
    """Free for hooks; goes to the error output with a failed entry."""


class ErrorRecord(TypedDict, total=False):
    """One object of the error output."""

    position: int
    line: int
    """1-based line where the record starts; absent for inputs without lines."""
    outcome: Outcome
    raw_data: Any
    """The untouched input."""
    errors: list[ErrorDetail]
    metadata: dict[str, Any]


def new_entry(position: int, raw_data: Any, entry_id: Any) -> Entry:
    """A pending entry.

    Args:
        position: 0-based index of the record in the input.
        raw_data: the record as read.
        entry_id: what `entry["id"]` shall be.
    """
    return {
        "id": entry_id,
        "position": position,
        "status": EntryStatus.PENDING,
        "raw_data": raw_data,
        "validated_data": None,
        "errors": [],
        "metadata": {},
    }
