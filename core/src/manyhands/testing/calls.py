"""Functions of the maps that cases run. Workers import them by their names here."""

from __future__ import annotations

import time
from collections.abc import Callable

from manyhands.testing.faults import commit


class Refused(Exception):
    """What a call raises: not one of Python's own types."""


def refuse_some(number: int) -> int:
    """The number; some are refused, one exits."""
    if number % 3 == 1:
        raise Refused(number, "no")
    if number == 5:  # one of them
        raise SystemExit(number)
    return number


def slow_at_first(number: int) -> int:
    """The number; the first ones take longest."""
    time.sleep(0.05 if number < 2 else 0.001)  # two of them
    return number


def add(one: int, other: int) -> int:
    """Their sum."""
    return one + other


async def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


def die_at(position: int) -> Callable[[int], int]:
    """A function that kills its process at this number."""

    def fatal(number: int) -> int:
        commit("SIGKILL" if number == position else None)
        return number

    return fatal
