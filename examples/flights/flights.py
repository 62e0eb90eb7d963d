"""The flights job: the model of a row, a hook before validation and a hook after it. `job.toml` names all three."""

from datetime import timedelta
from typing import Any

from flight_model import Flight

from manyhands import BaseHook, Entry, HookStore

__all__ = ["BlankNA", "Delay", "Flight"]

ON_TIME_BELOW = 15
LATE_BELOW = 120
"""Minutes of delay on arrival, as airlines are ranked by them."""


class BlankNA(BaseHook):
    """Before validation: `NA` is how the table writes that there is no value."""

    def execute(self, entries: list[Entry], store: HookStore) -> list[Entry]:
        """Turn each `NA` into None."""
        for entry in entries:
            row = entry["raw_data"]
            entry["raw_data"] = {column: None if value == "NA" else value for column, value in row.items()}
        return entries


class Delay(BaseHook):
    """After validation: how late a flight was, when it was due to leave and left in UTC, and how fast it flew."""

    def execute(self, entries: list[Entry], store: HookStore) -> list[Entry]:
        """Add four columns to each flight."""
        for entry in entries:
            flight = entry["validated_data"]
            flight["punctuality"] = punctuality(flight["arr_delay"])
            flight["due_utc"] = flight["time_hour"] + timedelta(minutes=flight["minute"])
            flight["left_utc"] = left_utc(flight)
            flight["mph"] = mph(flight)
        return entries


def punctuality(arr_delay: int | None) -> str:
    """Name the delay on arrival; less than a quarter of an hour counts as on time."""
    if arr_delay is None:
        return "cancelled"
    if arr_delay < ON_TIME_BELOW:
        return "on time"
    return "late" if arr_delay < LATE_BELOW else "very late"


def left_utc(flight: dict[str, Any]) -> Any:
    """When the flight really left, if it did."""
    delay = flight["dep_delay"]
    return None if delay is None else flight["due_utc"] + timedelta(minutes=delay)


def mph(flight: dict[str, Any]) -> float | None:
    """The mean speed over the ground, if it flew."""
    minutes = flight["air_time"]
    return None if minutes is None else round(flight["distance"] * 60 / minutes, 1)
