"""One pipe in shards: what it writes is what it writes alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from gzip import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from manyhands.adapters.base import BaseInputAdapter
from manyhands.adapters.csv import CSVInputAdapter
from manyhands.adapters.json import JSONInputAdapter
from manyhands.hooks import BaseHook
from manyhands.manager import PipeManager
from manyhands.report import RunStatus
from manyhands.testing.engine_bench import files
from manyhands.testing.engine_hooks import Places, PlacesAsync, Sieve

if TYPE_CHECKING:
    from manyhands.pipe import Pipe
    from manyhands.testing.engine_bench import EngineBench

_ROWS: Final = [
    *[b"1,plain\n", b'2,"with, comma"\n', b'3,"say ""hi"""\n', b'4,"two\nlines"\r\n', b"5\n", b"6,long,more\n"],
    *[b"x,bad\n", b'7,a"b"c\n', b"8,\xc3\xa9\xe2\x82\xac\n", b"9,\xff\xfe\n", b"\n", b'10,"\n\n,"\n'],
]
TABLE: Final = b"".join([b"\xef\xbb\xbfa,b\r\n", *_ROWS * 6, b'13,"never closed,1\n'])
"""Rows that fit, ragged ones, such that are no text, and line ends in quotes."""

LINES: Final = 12 * b"".join(
    [b'{"a":1}\n', b'{"a":"2","b":"two\\nlines"}\n', b"\n", b'{"a":"x"}\r\n', b"{\n", b'{"a":3,"b":"\xc3\xa9"}\n']
)
"""Objects, some of which fit, and lines that are none."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is run in shards.

    Attributes:
        source: makes the input, of a folder.
        output: name of the output.
        pre: hooks.
        batch: `max_hook_chunk_size`.
        shards: how many there are, each number in a run of its own.
        workers: `n_workers` of the engine; None: one for each shard.
    """

    source: Callable[[Path], BaseInputAdapter]
    output: str = "out.jsonl"
    pre: Sequence[BaseHook] = ()
    batch: int | None = None
    shards: Sequence[int] = (2, 5)
    workers: int | None = 2


def _csv(data: bytes, **options: Any) -> Callable[[Path], BaseInputAdapter]:
    return lambda folder: CSVInputAdapter(_written(folder / "in.csv", data), **options)


def _lines(data: bytes, name: str = "in.jsonl") -> Callable[[Path], BaseInputAdapter]:
    return lambda folder: JSONInputAdapter(_written(folder / name, data))


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


JOBS: Final[dict[str, Job]] = {
    "csv to csv": Job(source=_csv(TABLE), output="out.csv", shards=(1, 2, 5), workers=None),
    "csv to compressed lines, with hooks": Job(
        source=_csv(TABLE), output="out.jsonl.gz", pre=[Places(), Sieve(5, 11)], batch=3
    ),
    "a part of a csv to an array": Job(
        source=_csv(TABLE, skip_rows=7, limit=40), output="out.json", pre=[PlacesAsync()], shards=(5,)
    ),
    "compressed json lines to an array": Job(
        source=_lines(compress(LINES), "in.jsonl.gz"), output="out.json", shards=(2,)
    ),
    "json lines, with hooks": Job(source=_lines(LINES[:-4]), pre=[PlacesAsync()], shards=(5,)),
    "nothing to an array": Job(source=_lines(b""), output="out.json", shards=(2,)),
    "a header to csv": Job(source=_csv(b"a,b\n"), output="out.csv", shards=(5,)),
}


class ShardingCases:
    """By `PipeManager.parallelize_pipe`."""

    @pytest.mark.parametrize("title", JOBS)
    def test_a_pipe_in_shards_writes_what_it_writes_alone(self, bench: EngineBench, title: str) -> None:
        source = JOBS[title].source(bench.new_folder())
        alone = _pipe(bench, title, source)
        wanted = alone.run().counts
        engine = bench.make(n_workers=JOBS[title].workers)
        for shards in JOBS[title].shards:
            pipe = _pipe(bench, title, source)
            with PipeManager.parallelize_pipe(pipe, shards, engine) as manager:
                manager.start()
                report = bench.finish(manager)
            said = f"{title}, in {shards} shards: it is {report.status} ({report.exception}) and counts"
            assert report.status is RunStatus.COMPLETED, bench.broken("shards", f"{said} {report.counts}")
            assert report.counts == wanted, bench.broken("accounting", f"{said} {report.counts}, alone {wanted}")
            _check_files(bench, f"{title}, in {shards} shards", files(pipe), files(alone))


def _pipe(bench: EngineBench, title: str, source: BaseInputAdapter) -> Pipe:
    job = JOBS[title]
    return bench.pipe(source, job.output, pre=job.pre, batch=job.batch)


def _check_files(bench: EngineBench, what: str, found: dict[str, bytes], wanted: dict[str, bytes]) -> None:
    """See that the files are equal; the message has what is not."""
    assert found.keys() == wanted.keys(), bench.broken(
        "shards", f"{what}: there are {', '.join(found)}, not {', '.join(wanted)}"
    )
    for name, content in wanted.items():
        if found[name] != content:
            ours, theirs = found[name].splitlines(), content.splitlines()
            pairs = enumerate(zip(ours, theirs, strict=False), 1)
            place = next((n for n, (one, other) in pairs if one != other), min(len(ours), len(theirs)) + 1)
            told = f"{what}: line {place} of {name} is {ours[place - 1 : place]}, not {theirs[place - 1 : place]}"
            raise AssertionError(bench.broken("shards", told))
