"""The same job without manyhands: one loop over csv, pydantic and json. It writes the same bytes.

python plain.py [flights.csv [flights.jsonl [errors.jsonl]]]
"""

import csv
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

from flight_model import Flight
from pydantic import ValidationError
from pydantic_core import to_json

HERE = Path(__file__).parent
ON_TIME_BELOW, LATE_BELOW = 15, 120


def rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row with the 1-based line it starts on."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        header = next(reader)
        line = reader.line_num + 1
        for values in reader:
            yield line, dict(zip(header, values, strict=True))
            line = reader.line_num + 1


def blank_na(row: dict[str, str]) -> dict[str, str | None]:
    """The row with None for `NA`."""
    return {column: None if value == "NA" else value for column, value in row.items()}


def add_delay(flight: dict[str, Any]) -> None:
    """Add the punctuality, the due and the real departure in UTC, and the mean speed."""
    delay, out, airborne = flight["arr_delay"], flight["dep_delay"], flight["air_time"]
    due = flight["time_hour"] + timedelta(minutes=flight["minute"])
    if delay is None:
        flight["punctuality"] = "cancelled"
    else:
        flight["punctuality"] = "on time" if delay < ON_TIME_BELOW else "late" if delay < LATE_BELOW else "very late"
    flight["due_utc"] = due
    flight["left_utc"] = None if out is None else due + timedelta(minutes=out)
    flight["mph"] = None if airborne is None else round(flight["distance"] * 60 / airborne, 1)


def rejection(position: int, line: int, row: dict[str, str], failure: ValidationError) -> dict[str, Any]:
    """What the error file says of a row: where it stands, what it was and what is wrong with it."""
    errors = [{"type": error["type"], "message": error["msg"], "loc": error["loc"]} for error in failure.errors()]
    return {
        "position": position,
        "line": line,
        "outcome": "rejected",
        "raw_data": row,
        "errors": errors,
        "metadata": {},
    }


def write(file: BinaryIO, record: dict[str, Any]) -> None:
    """One JSON object on a line."""
    file.write(to_json(record, inf_nan_mode="null") + b"\n")


def main(source: Path, output: Path, errors: Path) -> None:
    """Read, validate, enrich, write; what does not fit the model goes to the error file."""
    with output.open("wb") as good, errors.open("wb") as bad:
        for position, (line, row) in enumerate(rows(source)):
            try:
                flight = Flight.model_validate(blank_na(row)).model_dump()
            except ValidationError as failure:
                write(bad, rejection(position, line, row, failure))
            else:
                add_delay(flight)
                write(good, flight)


if __name__ == "__main__":
    defaults = [HERE / "flights.csv", HERE / "out" / "flights.jsonl", HERE / "out" / "errors.jsonl"]
    given = [Path(argument) for argument in sys.argv[1:]]
    main(*(given + defaults[len(given) :])[:3])
