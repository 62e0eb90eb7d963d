"""The model and the hook's work that every measured process shares. It is also copied beside the job files."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel


class Row(BaseModel):
    """One generated row."""

    id: int
    name: str
    email: str
    amount: float
    created: datetime
    active: bool


def add_domain(record: dict[str, Any]) -> None:
    """What the Python post hook does to each validated record: one column more."""
    record["domain"] = record["email"].partition("@")[2]
