"""What Ray says of the death of a worker, in words that fit into a message."""

from __future__ import annotations

from typing import Final

from ray.exceptions import NodeDiedError, OutOfMemoryError, RuntimeEnvSetupError

_MOST_CHARACTERS: Final = 400


def death_of(error: BaseException) -> str | None:
    """What it died of, if that is known; None where all is unknown."""
    if isinstance(error, OutOfMemoryError):
        return "ended by Ray because memory ran out"
    if isinstance(error, NodeDiedError):
        return "its node was lost"
    return None


def reason_of(error: BaseException) -> str:
    """Why it could not start."""
    if isinstance(error, RuntimeEnvSetupError):
        return f"its runtime environment cannot be set up: {_short(error)}"
    return _short(error)


def _short(error: BaseException) -> str:
    """The last line says what was raised; those before it are a traceback of Ray's."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if "Error: " in line]
    text = (named or lines or [type(error).__name__])[-1]
    return text[:_MOST_CHARACTERS]
