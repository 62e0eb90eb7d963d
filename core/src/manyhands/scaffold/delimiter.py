"""What separates the columns of a table."""

from __future__ import annotations

from dataclasses import dataclass
from io import StringIO
from typing import Final

from manyhands.worker.rows import CSVDecoder

DELIMITERS: Final = (",", ";", "\t", "|")
"""Those that are tried; of equals the first is taken."""

_MOST: Final = 0.5


@dataclass(frozen=True, slots=True)
class Begun:
    """The beginning of a table.

    Attributes:
        text: of it.
        cut: the last record may go on behind it.
    """

    text: str
    cut: bool

    def header(self, delimiter: str) -> list[str]:
        """The names of its columns."""
        return next(iter(self._rows(delimiter)), [])

    def fit(self, delimiter: str) -> tuple[int, float]:
        """How many columns the header has, and the fraction of the records that have as many."""
        header, *rows = self._rows(delimiter) or [[]]
        if self.cut:
            rows = rows[:-1]
        return len(header), sum(len(row) == len(header) for row in rows) / len(rows) if rows else 1.0

    def _rows(self, delimiter: str) -> list[list[str]]:
        return list(filter(None, CSVDecoder((), delimiter).reader(StringIO(self.text, newline=""))))


def delimiter_of(begun: Begun, *, tabs: bool) -> str:
    """The delimiter that all records agree with and that gives the most columns.

    Where they agree with none, it is the one that most of them agree with, so that the others can be told; else the
    table has one column.

    Args:
        begun: the table.
        tabs: its name says that it is the tab.
    """
    fits = {delimiter: begun.fit(delimiter) for delimiter in DELIMITERS}
    if tabs and fits["\t"][0] > 1:
        return "\t"
    several = [delimiter for delimiter in DELIMITERS if fits[delimiter][0] > 1]
    if agreed := [delimiter for delimiter in several if fits[delimiter][1] == 1]:
        return max(agreed, key=lambda delimiter: fits[delimiter][0])
    if likely := [delimiter for delimiter in several if fits[delimiter][1] >= _MOST]:
        return max(likely, key=lambda delimiter: fits[delimiter][1])
    return next((delimiter for delimiter in DELIMITERS if fits[delimiter] == (1, 1)), ",")
