"""The page that says what each backend can do, from what came of the kit's cases.

pytest plugins -k conformance --manyhands-results results.json
python -m manyhands.testing.matrix results.json -o docs/capabilities.md
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from manyhands.errors import UsageError
from manyhands.executor import Capabilities

_HEAD: Final = """\
# What each backend can do

Made from the results of the [conformance kit](reference/testing.md), which runs the same cases on every backend. To
make it anew, in the root of the repository:

```sh
pytest plugins -k conformance --manyhands-results results.json
python -m manyhands.testing.matrix results.json -o docs/capabilities.md
```
"""
_CAPABILITIES: Final = """
## Capabilities

What a backend declares of itself. The kit fails one that declares what cannot be seen, and one that does not declare
what can be.
"""
_TOPICS: Final = """
## Cases

What every backend keeps to. *yes*: it passes all cases of the topic; *where it applies*: all but those that presuppose
what it does not declare; *n/a*: each does.
"""
_EXCEPT: Final = """
## Known faults

Each has a case that is expected to fail, and has to.
"""
_MEANING: Final = re.compile(r"^ +(\w+): (.+?)\.$", re.MULTILINE)


@dataclass
class Column:
    """What came of a backend's cases.

    Attributes:
        declared: its capabilities.
        observed: those that were seen.
        topics: the outcomes of each topic's cases; those not run are among them.
        faults: cases that are expected to fail, with the reason.
    """

    declared: dict[str, bool] = field(default_factory=dict)
    observed: dict[str, bool] = field(default_factory=dict)
    topics: dict[str, set[str]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)


def render(classes: Mapping[str, Mapping[str, Any]]) -> str:
    """The page.

    Args:
        classes: results as `--manyhands-results` writes them.
    """
    columns = _columns(classes)
    meanings = dict(_MEANING.findall(Capabilities.__doc__ or ""))
    capabilities = [
        [f"`{name}`: {meanings.get(name, '')}", *(_shown(column, name) for column in columns.values())]
        for name in Capabilities.__dataclass_fields__
    ]
    names = sorted({topic for column in columns.values() for topic in column.topics})
    topics = [[topic, *(_kept(column.topics.get(topic, set())) for column in columns.values())] for topic in names]
    parts = [_HEAD, _CAPABILITIES, "\n", *_table(columns, capabilities), _TOPICS, "\n", *_table(columns, topics)]
    faults = [f"- {name}, `{case}`: {why}\n" for name, found in columns.items() for case, why in found.faults.items()]
    return "".join([*parts, *([_EXCEPT, "\n", *faults] if faults else [])])


def _columns(classes: Mapping[str, Mapping[str, Any]]) -> dict[str, Column]:
    columns = {name: Column() for name in sorted({found["backend"] for found in classes.values()})}
    for found in classes.values():
        column = columns[found["backend"]]
        column.declared.update(found["declared"])
        column.observed.update(found["observed"])
        for name, case in sorted(found["cases"].items()):
            column.topics.setdefault(case["topic"], set()).add(case["outcome"])
            if case["outcome"] == "xfailed":
                column.faults[name] = case["reason"]
    return columns


def _shown(column: Column, name: str) -> str:
    declared, seen = column.declared.get(name), column.observed.get(name)
    if seen is None:
        return "not tried"
    if declared != seen:
        return "**declared, not seen**" if declared else "**seen, not declared**"
    return "yes" if declared else ""


def _kept(outcomes: set[str]) -> str:
    if outcomes <= {"not run"}:
        return "not tried"
    if "failed" in outcomes:
        return "**no**"
    if "not run" in outcomes:
        return "not all tried"
    if "xfailed" in outcomes:
        return "but for known faults"
    if "skipped" in outcomes:
        return "where it applies" if "passed" in outcomes else "n/a"
    return "yes"


def _table(heads: Sequence[str] | Mapping[str, Any], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| | {' | '.join(heads)} |\n"
    yield f"|{'---|' * (len(heads) + 1)}\n"
    for row in rows:
        yield f"| {' | '.join(row)} |\n"


def load(paths: Sequence[Path]) -> dict[str, Any]:
    """The results in these files, together.

    Raises:
        UsageError: one cannot be read, or has none.
    """
    classes: dict[str, Any] = {}
    for path in paths:
        try:
            classes.update(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} is no file of results: {error}") from error
    if not classes:
        raise UsageError(f"no case was run: {', '.join(map(str, paths))} is empty")
    return classes


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page.

    Args:
        arguments: of the command line; None: those of this process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m manyhands.testing.matrix", description="Write the page of all backends."
    )
    parser.add_argument("results", nargs="+", type=Path, help="what `pytest --manyhands-results FILE` wrote")
    parser.add_argument("-o", "--output", required=True, type=Path, help="the page")
    given = parser.parse_args(arguments)
    try:
        given.output.write_text(render(load(given.results)))
    except (UsageError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
