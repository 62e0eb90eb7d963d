"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: the group that looked: `environment`, `plugins`, `clusters`, `processes`, `leftovers` or `job`.
        level: `ok`: nothing to do. `warning`: some runs will fail, or nobody needs what is there. `error`: what the
            person has installed or asked for does not work.
        subject: what was looked at: a backend, a distribution, a folder, an address.
        message: what was found.
        remedy: one line for a shell that puts it right. None only where the level is `ok`.
    """

    check: str
    level: Level
    subject: str
    message: str
    remedy: str | None = None
