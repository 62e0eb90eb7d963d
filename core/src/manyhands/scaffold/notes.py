"""What somebody should know of a new job that its model does not show by itself."""

from __future__ import annotations

from collections.abc import Iterator

from manyhands.scaffold.delimiter import DELIMITERS
from manyhands.scaffold.models import TOP, Models
from manyhands.scaffold.sample import Sample
from manyhands.scaffold.source import listed
from manyhands.scaffold.texts import IN_CSV


def notes_of(sample: Sample, models: Models) -> Iterator[str]:
    """What may have been meant otherwise, and what to do then; each in one line.

    Args:
        sample: that has been read.
        models: made of it.
    """
    if values := [name for name in sample.columns if any(reading.fit(name) for reading in IN_CSV)]:
        yield (
            f"{listed(values)} in the header may be values; if the first line is a record, put a line with the names "
            "of the columns before it, and make the job again"
        )
    if len(sample.columns) == 1 and (seen := [each for each in DELIMITERS if each in sample.columns[0]]):
        yield f"{listed(seen)} in the header separates no columns, because the records do not agree: it is read as one"
    if kept := {attribute.key: attribute.kept for attribute in models.classes[TOP] if attribute.kept}:
        signs = sorted(set().union(*kept.values()))
        yield (
            f"{listed(signs)} in {listed(list(kept))} is kept as text; where it means that there is no value, "
            "its models.py says what to write"
        )
    if sample.is_one_object:
        yield (
            "it is one object, which is read as one record; if its records are in a list inside, make the job from a "
            "file that holds that list alone"
        )
