"""What a program sets around its code and expects to hold for its hooks wherever they run."""

from __future__ import annotations

import decimal
import locale
import os
import time
from dataclasses import dataclass
from typing import Self

from manyhands.errors import WorkerInitError


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Time zone, locale and decimal context.

    Attributes:
        time_zone: the environment variable TZ; None where it is not set.
        locale: every category, as `locale.setlocale` gives and takes them.
        decimal: precision, rounding and traps of decimal arithmetic.
    """

    time_zone: str | None
    locale: str
    decimal: decimal.Context

    @classmethod
    def here(cls) -> Self:
        """Those of this thread."""
        return cls(os.environ.get("TZ"), locale.setlocale(locale.LC_ALL), decimal.getcontext().copy())

    def enter_thread(self) -> None:
        """Make what belongs to a thread that of this one."""
        decimal.setcontext(self.decimal.copy())

    def enter_process(self) -> None:
        """Make what belongs to a process that of this one, which must be nobody else's.

        Raises:
            WorkerInitError: the locale is not installed here.
        """
        if self.time_zone is None:
            os.environ.pop("TZ", None)
        else:
            os.environ["TZ"] = self.time_zone
        if hasattr(time, "tzset"):
            time.tzset()
        try:
            locale.setlocale(locale.LC_ALL, self.locale)
        except locale.Error as error:
            raise WorkerInitError(f"the worker cannot use the locale {self.locale!r}: {error}") from error
