"""How a run looks while it goes on, and how it is summed up."""

from __future__ import annotations

import sys
from typing import Final

from manyhands.cli.display.base import Display, NoDisplay
from manyhands.cli.display.machine import JSONDisplay
from manyhands.errors import UsageError

__all__ = ["STYLES", "Display", "make_display"]

STYLES: Final = ("auto", "rich", "plain", "json", "none")


def make_display(style: str, name: str = "run") -> Display:
    """The display of a style; `rich` is `plain` where there is no terminal.

    Args:
        style: one of `STYLES`.
        name: of the job.

    Raises:
        UsageError: there is no such style.
    """
    if style not in STYLES:
        raise UsageError(f"--progress {style}: allowed are {', '.join(STYLES)}")
    if style == "json":
        return JSONDisplay()
    if style == "none":
        return NoDisplay()
    # Imported here: rich takes 20 ms, and a job of no display needs none.
    if style == "plain" or not sys.stderr.isatty():
        from manyhands.cli.display.plain import PlainDisplay

        return PlainDisplay()
    from manyhands.cli.display.terminal import RichDisplay

    return RichDisplay(name)
