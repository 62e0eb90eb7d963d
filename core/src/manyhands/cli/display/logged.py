"""What is logged while a run is shown."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from manyhands.cli.streams import show


class _ErrorStream(logging.Handler):
    """Prints to whatever stderr is at the time: a display may have put itself in its place."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message alone."""
        show(lambda: print(record.getMessage(), file=sys.stderr))


@contextmanager
def logged() -> Iterator[None]:
    """What workers print, and warnings, go to stderr, which a display may have diverted into a file."""
    logger, handler = logging.getLogger("manyhands"), _ErrorStream(logging.INFO)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
