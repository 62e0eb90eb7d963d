"""What one row of the flights table has to look like: plain pydantic, nothing here knows of manyhands."""

import re
from datetime import date, datetime, time
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

FASTEST_MPH = 600
"""Faster than this no airliner covers the ground, not even with a jet stream behind it."""


class Carrier(StrEnum):
    """The airlines that flew from New York, by their two-letter code."""

    ENDEAVOR = "9E"
    AMERICAN = "AA"
    ALASKA = "AS"
    JETBLUE = "B6"
    DELTA = "DL"
    EXPRESSJET = "EV"
    FRONTIER = "F9"
    AIRTRAN = "FL"
    HAWAIIAN = "HA"
    ENVOY = "MQ"
    SKYWEST = "OO"
    UNITED = "UA"
    US_AIRWAYS = "US"
    VIRGIN_AMERICA = "VX"
    SOUTHWEST = "WN"
    MESA = "YV"


def read_clock(value: object) -> object:
    """Read a time of day as the table writes it: `517` is 05:17."""
    if not (isinstance(value, str) and re.fullmatch("[0-9]{1,4}", value)):
        return value
    try:
        return time(*divmod(int(value), 100))
    except ValueError:
        raise PydanticCustomError("no_such_time", "{value} is no time of day", {"value": value}) from None


Clock = Annotated[time, BeforeValidator(read_clock)]
DelayMinutes = Annotated[int, Field(ge=-120, le=1440)]


class Flight(BaseModel):
    """One scheduled departure. What did not happen (a cancelled flight's departure) is None."""

    model_config = ConfigDict(extra="forbid")

    year: Annotated[int, Field(ge=1987, le=2100)]
    month: Annotated[int, Field(ge=1, le=12)]
    day: Annotated[int, Field(ge=1, le=31)]
    dep_time: Clock | None
    sched_dep_time: Clock
    dep_delay: DelayMinutes | None
    arr_time: Clock | None
    sched_arr_time: Clock
    arr_delay: DelayMinutes | None
    carrier: Carrier
    flight: Annotated[int, Field(ge=1, le=9999)]
    tailnum: Annotated[str, Field(pattern=r"^N[0-9A-Z]{1,5}$")] | None
    origin: Literal["EWR", "JFK", "LGA"]
    dest: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    air_time: Annotated[int, Field(gt=0, le=1200)] | None
    distance: Annotated[int, Field(gt=0, le=6000)]
    hour: Annotated[int, Field(ge=0, le=23)]
    minute: Annotated[int, Field(ge=0, le=59)]
    time_hour: datetime

    @model_validator(mode="after")
    def has_one_schedule(self) -> Self:
        """The date exists, and the columns that repeat the scheduled departure agree."""
        date(self.year, self.month, self.day)
        if self.sched_dep_time != time(self.hour, self.minute):
            raise PydanticCustomError("two_schedules", "sched_dep_time differs from hour and minute")
        return self

    @model_validator(mode="after")
    def arrived_if_departed(self) -> Self:
        """A flight that took off was also timed in the air, unless it ended somewhere else."""
        if self.dep_time is not None and self.air_time is None:
            raise PydanticCustomError(
                "diverted", "left {origin} but did not arrive in {dest}", {"origin": self.origin, "dest": self.dest}
            )
        return self

    @model_validator(mode="after")
    def flew_at_a_possible_speed(self) -> Self:
        """Distance and time in the air fit each other."""
        mph = 0 if self.air_time is None else round(self.distance * 60 / self.air_time)
        if mph > FASTEST_MPH:
            raise PydanticCustomError(
                "too_fast",
                "{distance} miles in {air_time} minutes is {mph} mph",
                {"distance": self.distance, "air_time": self.air_time, "mph": mph},
            )
        return self
