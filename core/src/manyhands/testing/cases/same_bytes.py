"""The same job gives the same bytes as on the backend in which nothing is concurrent."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from manyhands.adapters.csv import CSVInputAdapter
from manyhands.adapters.json import JSONInputAdapter
from manyhands.hooks import BaseHook
from manyhands.testing.hooks import Marks, MarksAsync, Reverses, ReversesAsync, Spoils, SpoilsAsync, Stamps
from manyhands.testing.models import Careful, Everything, Order, Row, Tree
from manyhands.testing.records import everything

if TYPE_CHECKING:
    from manyhands.testing.bench import Bench

_ROWS: Final = [
    *[b"1,plain,1.5,2024-01-31\n", b'2,"with, comma",2,\n', b'3,"say ""hi""",nan,2024-02-29\n'],
    *[b'4,"two\nlines",-0.0,2024-03-01\r\n', b"5,short\n", b"6,long,1,2024-01-01,more\n", b"x,bad,1,\n"],
    *[b'7,a"b"c,2,\n', b"8,\xc3\xa9\xe2\x82\xac,1e400,\n", b"9,\xff\xfe,1,2024-01-01\n", b"\n", b'10,"",3,\n'],
]
TABLE: Final = b"".join([b"\xef\xbb\xbfid,name,amount,due\r\n", *_ROWS * 4, b'13,"never closed,1,2024-01-01\n'])
"""Rows that fit, ragged ones, and such that are no text."""

LINES: Final = 5 * b"".join(
    [
        *[b'{"id":1,"part":{"code":"A","weights":[1,2.5,NaN]}}\n', b'{"id":"2","part":{"code":"lower"}}\n', b"\n"],
        *[b' {"id":3,"part":{"code":"B"},"next":{"id":4,"part":{"code":"C"}},"more":1} \r\n', b"{\n", b"[1,2]\n"],
        *[b"null\n", b'{"id":5,"part":{"code":"\xff"}}\n', b'{"id":6,"id":7,"part":{"code":"\xc3\xa9"}}\n'],
    ]
)
"""Objects, some of which fit, and lines that are none."""

NUMBERS: Final = b"k,do\n" + b"".join(b"%d,%s\n" % (k, b"" if k % 5 else b"x") for k in range(40))


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is the same on every backend.

    Attributes:
        source: makes the input, in a folder.
        schema: of the records.
        pre, post: the hooks.
        options: of the executor.
        batch: `max_hook_chunk_size`.
    """

    source: Callable[[Path], Any]
    schema: Any = None
    pre: Sequence[BaseHook] = ()
    post: Sequence[BaseHook] = ()
    options: tuple[tuple[str, Any], ...] = ()
    batch: int | None = None


def _csv(data: bytes, **options: Any) -> Callable[[Path], Any]:
    return lambda folder: CSVInputAdapter(_written(folder / "in.csv", data), **options)


def _json(data: bytes, name: str = "in.jsonl") -> Callable[[Path], Any]:
    return lambda folder: JSONInputAdapter(_written(folder / name, data))


def _python(make: Callable[[int], Any], count: int) -> Callable[[Path], Any]:
    return lambda folder: [make(k) for k in range(count)]  # noqa: ARG005  # others need one


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _number(k: int) -> dict[str, Any]:
    return {"k": k if k % 8 else "bad", "do": f"text {k}"}


def _careful(k: int) -> dict[str, Any]:
    return {"k": k, "text": f"text {k}"}


_ARRAY: Final = json.dumps([_number(k) for k in range(30)]).encode()

JOBS: Final[dict[str, Job]] = {
    "csv": Job(source=_csv(TABLE), schema=Order),
    "csv, a part": Job(source=_csv(TABLE, skip_rows=5, limit=20), schema=Order, pre=[Marks()]),
    "csv, hooks": Job(source=_csv(NUMBERS), schema=Row, pre=[Marks(), Spoils(7), Reverses(9)], post=[Stamps()]),
    "json lines": Job(source=_json(LINES), schema=Tree),
    "json array": Job(source=_json(_ARRAY, "in.json"), schema=Row, pre=[SpoilsAsync(6)]),
    "python, all kinds": Job(source=_python(everything, 40), schema=Everything),
    "python, all kinds through hooks": Job(source=_python(everything, 40), pre=[Marks()], post=[Stamps()]),
    "python, validators": Job(source=_python(_careful, 40), schema=Careful),
    "async hooks": Job(
        source=_python(_number, 40), schema=Row, pre=[MarksAsync(), SpoilsAsync(7)], post=[ReversesAsync(5)]
    ),
    "hooks that must not run twice": Job(
        source=_python(_number, 40), schema=Row, pre=[Marks(), Spoils(13, replay=False)], options=(("chunksize", 5),)
    ),
    "small batches": Job(
        source=_csv(NUMBERS), schema=Row, post=[Spoils(11, replay=False)], options=(("chunksize", 8),), batch=3
    ),
    "batch validation": Job(
        source=_python(_careful, 40), schema=Careful, options=(("use_batch_validation", True), ("chunksize", 9))
    ),
}


class SameBytesCases:
    """Output and error output, byte for byte."""

    @pytest.mark.parametrize("title", JOBS)
    def test_the_same_job_gives_the_same_bytes(self, bench: Bench, title: str) -> None:
        """Whatever runs it."""
        job = JOBS[title]
        how: dict[str, Any] = {"schema": job.schema, "pre": job.pre, "post": job.post, "max_hook_chunk_size": job.batch}
        found = bench.run(job.source(bench.folder), **how, **dict(job.options))
        wanted = bench.reference(job.source(bench.folder), **how, **dict(job.options))
        assert wanted.output, f"job {title!r} of the kit writes nothing: it proves nothing"
        _check_lines(bench, title, "output", found.output.splitlines(), wanted.output.splitlines())
        _check_lines(
            bench, title, "error output", list(map(json.dumps, found.errors)), list(map(json.dumps, wanted.errors))
        )
        assert found.report.counts == wanted.report.counts, bench.broken(
            "same bytes", f"{title}: it counts {found.report.counts}, the reference {wanted.report.counts}"
        )


def _check_lines(bench: Bench, title: str, what: str, found: Sequence[Any], wanted: Sequence[Any]) -> None:
    """See that the lines are equal; the message has the first that is not."""
    for number, (one, other) in enumerate(zip(found, wanted, strict=False), 1):
        assert one == other, bench.broken(
            "same bytes", f"{title}: line {number} of the {what} is {one!r}, not {other!r}"
        )
    assert len(found) == len(wanted), bench.broken(
        "same bytes", f"{title}: the {what} has {len(found)} lines, not {len(wanted)}"
    )
