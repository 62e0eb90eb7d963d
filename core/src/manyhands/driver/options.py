"""What a person may ask of the driver."""

from __future__ import annotations

from dataclasses import dataclass

from manyhands.errors import UsageError


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What the driver does, the same on every backend.

    Attributes:
        ordered: output in input order; else as chunks are complete.
        crash_retries: how often the same records are tried again after their worker died, before the range is
            narrowed down or the record given up.
        error_retries: the same for other failures of the executor.
        record_timeout: seconds that one call of a hook, the validation of one record, or the serializers of its schema
            may take; None: for ever. A record that takes longer is dead; what ran it is killed where the backend can.
        chunk_timeout: seconds that a chunk may take once it has begun; where the executor neither reports progress
            nor lets futures be running, once it was submitted. One that takes longer is run again in smaller parts,
            down to single records, which are dead.
        timeout_retries: how often a record that took too long is tried again.
    """

    ordered: bool = True
    crash_retries: int = 1
    error_retries: int = 0
    record_timeout: float | None = None
    chunk_timeout: float | None = None
    timeout_retries: int = 0

    def __post_init__(self) -> None:
        for name in ("crash_retries", "error_retries", "timeout_retries"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise UsageError(f"{name} must be a number from 0, not {value!r}")
        for name in ("record_timeout", "chunk_timeout"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int | float) or not value > 0):
                raise UsageError(f"{name} must be None or a number of seconds above 0, not {value!r}")

    @property
    def timed(self) -> bool:
        """Something has a time limit."""
        return self.record_timeout is not None or self.chunk_timeout is not None
