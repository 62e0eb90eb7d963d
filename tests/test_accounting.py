"""Every record has exactly one outcome, and the right one: whole runs against a reference of a few lines."""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from manyhands import BaseHook, CSVInputAdapter, CSVOutputAdapter, JSONInputAdapter, JSONOutputAdapter, Pipe
from manyhands.adapters import blocks
from manyhands.adapters import csv as csv_adapter
from manyhands.adapters import json as json_adapter
from manyhands.errors import InputError, SourceError
from manyhands.report import RunStatus
from manyhands_sync import SyncFifoExecutor


class Item(BaseModel):
    a: int
    b: str = "-"


@dataclass
class Seen:
    """A record as the reference reads it."""

    raw: Any
    """What the error output must show."""
    line: int | None
    data: Any = None
    """What hooks and schema get."""
    bad: bool = False
    """Its text cannot be read: no hook sees it."""


class Probe(BaseHook):
    """Marks what it sees; drops or fails some. Whether it hits a record depends on its position alone."""

    def __init__(self, kind: str, salt: int, *, replay: bool, post: bool) -> None:
        super().__init__()
        self.kind, self.salt, self.replay, self.post = kind, salt, replay, post

    def hits(self, position: int) -> bool:
        return (position * 7 + self.salt) % 4 == 0

    def mark(self, data: Any) -> None:
        if isinstance(data, dict):
            data["b"] = f"{data.get('b', '')}!"

    def execute(self, entries: list[Any], store: Any) -> list[Any] | None:
        for entry in entries:
            self.mark(entry["validated_data" if self.post else "raw_data"])
            entry["metadata"]["marks"] = entry["metadata"].get("marks", 0) + 1
        hit = [entry for entry in entries if self.hits(entry["position"])]
        if self.kind == "fail" and hit:
            raise ValueError(f"boom at {hit[0]['position']}")
        return [entry for entry in entries if entry not in hit] if self.kind == "drop" else None


class AsyncProbe(Probe):
    async def execute(self, entries: list[Any], store: Any) -> list[Any] | None:  # type: ignore[override]  # as documented
        await asyncio.sleep(0)
        return super().execute(entries, store)


@dataclass
class Job:
    """What a run is made of, beside its input."""

    schema: type[BaseModel] | None
    pre: list[Probe]
    post: list[Probe]
    chunksize: int | None
    max_hook_chunk_size: int | None
    skip_rows: int
    limit: int | None
    block_bytes: int
    batch: bool


@dataclass
class Expected:
    """What must come out."""

    ok: list[Any] = field(default_factory=list)
    rejected: dict[int, str] = field(default_factory=dict)
    """Position and the type of the first error."""
    dropped: int = 0


def reference(records: Sequence[Seen], job: Job, validate: Callable[[Any], Any]) -> Expected:
    """What the records become: one loop over the batches that hooks get."""
    result = Expected()
    ok: dict[int, Any] = {}
    for batch in batches(len(records), job):
        live = {position: json.loads(json.dumps(records[position].data)) for position in batch}
        for position in [position for position in live if records[position].bad]:
            del live[position]
            result.rejected[position] = ""
        live = run_hooks(live, job.pre, job, result)
        for position, data in list(live.items()):
            try:
                live[position] = validate(data)
            except ValidationError as error:
                del live[position]
                result.rejected[position] = error.errors()[0]["type"]
        ok |= run_hooks(live, job.post, job, result)
    result.ok = [ok[position] for position in sorted(ok)]
    return result


def batches(total: int, job: Job) -> Iterator[range]:
    last = total if job.limit is None else min(total, job.skip_rows + job.limit)
    for start in range(0, total, job.chunksize or max(total, 1)):
        lo, hi = max(start, job.skip_rows), min(start + (job.chunksize or total), last)
        size = job.max_hook_chunk_size or max(hi - lo, 1)
        for first in range(lo, hi, size):
            yield range(first, min(first + size, hi))


def run_hooks(live: dict[int, Any], hooks: list[Probe], job: Job, result: Expected) -> dict[int, Any]:
    before = [*job.pre, *job.post]
    for hook in hooks:
        hit = [position for position in live if hook.hits(position)]
        alone = isinstance(hook, AsyncProbe) or all(h.replay for h in before[: before.index(hook) + 1])
        if hook.kind == "fail" and hit:
            failed = hit if alone else list(live)
            result.rejected |= dict.fromkeys(failed, "HookError")
            live = {position: data for position, data in live.items() if position not in failed}
        for data in live.values():
            hook.mark(data)
        if hook.kind == "drop":
            result.dropped += len(hit)
            live = {position: data for position, data in live.items() if position not in hit}
    return live


@contextmanager
def small_blocks(size: int) -> Iterator[None]:
    with (
        patch.object(blocks, "BLOCK_BYTES", size),
        patch.object(csv_adapter, "BLOCK_BYTES", size),
        patch.object(json_adapter, "BLOCK_BYTES", size),
    ):
        yield


def check_run(folder: Path, source: Any, records: Sequence[Seen], job: Job, validate: Callable[[Any], Any]) -> None:
    """Run it, and compare everything that comes out with the reference."""
    output, errors = folder / "out.jsonl", folder / "errors.jsonl"
    pipe = Pipe(
        input_adapter=source,
        output_adapter=JSONOutputAdapter(output),
        error_output_adapter=JSONOutputAdapter(errors),
        schema_model=job.schema,
        executor=SyncFifoExecutor(chunksize=job.chunksize, use_batch_validation=job.batch),
        pre_validation_hooks=job.pre,
        post_validation_hooks=job.post,
        max_hook_chunk_size=job.max_hook_chunk_size,
    )
    with small_blocks(job.block_bytes):
        report = pipe.run()
    expected = reference(records, job, validate)
    counts = report.counts
    assert counts["in"] == sum(counts.values()) - counts["in"] == sum(map(len, batches(len(records), job)))
    assert (counts["ok"], counts["rejected"]) == (len(expected.ok), len(expected.rejected))
    assert (counts["dropped"], counts["dead"], counts["cancelled"]) == (expected.dropped, 0, 0)
    assert [json.loads(line) for line in output.read_text().splitlines()] == expected.ok
    found = [json.loads(line) for line in errors.read_bytes().split(b"\n") if line]
    assert [error["position"] for error in found] == sorted(expected.rejected)
    for error in found:
        check_error(error, records[error["position"]], expected.rejected[error["position"]], job)
    assert not list(folder.glob("*.partial"))


def check_error(error: dict[str, Any], record: Seen, kind: str, job: Job) -> None:
    assert error["outcome"] == "rejected"
    assert error["raw_data"] == record.raw
    assert error.get("line") == record.line
    assert error["errors"][0]["type"] == kind or (not kind and error["errors"])
    # However often a batch ran, each hook touched the record once at most.
    assert error["metadata"].get("marks", 0) <= len(job.pre) + len(job.post)


@st.composite
def jobs(draw: st.DrawFn, *, schema: bool | None = None) -> Job:
    def probes(post: bool) -> list[Probe]:
        kinds = draw(st.lists(st.sampled_from(["mark", "drop", "fail", "fail"]), max_size=2))
        return [
            draw(st.sampled_from([Probe, Probe, AsyncProbe]))(
                kind, draw(st.integers(0, 3)), replay=draw(replays), post=post
            )
            for kind in kinds
        ]

    replays = st.sampled_from([True, True, False])
    pre, post = (probes(False), probes(True)) if draw(st.booleans()) else ([], [])
    chunksize = draw(st.one_of(st.none(), st.integers(1, 7)))
    if not all(hook.replay for hook in (*pre, *post)):
        chunksize = chunksize or 3  # which records share a batch must be known
    with_schema = draw(st.booleans()) if schema is None else schema
    return Job(
        schema=Item if with_schema else None,
        pre=pre,
        post=post,
        chunksize=chunksize,
        max_hook_chunk_size=draw(st.sampled_from([None, None, 1, 2])),
        skip_rows=draw(st.sampled_from([0, 0, 0, 1, 4])),
        limit=draw(st.sampled_from([None, None, None, 0, 2, 6])),
        block_bytes=draw(st.sampled_from([1, 2, 5, 16, 64, 300, 1 << 18])),
        batch=draw(st.booleans()),
    )


PROPERTIES = settings(
    derandomize=True,
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
    return path


def shown(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def read_csv(data: bytes, delimiter: str) -> list[Seen] | None:
    """What one `csv.reader` over the whole file finds; None for a header that is refused."""
    text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    reader, rows, line = csv.reader(StringIO(text, newline=""), delimiter=delimiter), [], 1
    for fields in reader:
        if fields:
            rows.append((fields, line))
        line = reader.line_num + 1
    if not rows:
        return []
    (names, _), *rest = rows
    if len(set(names)) < len(names) or any(shown(name) != name for name in names):
        return None
    records = [csv_record(names, fields, line) for fields, line in rest]
    ended = text if text.endswith(("\n", "\r")) else f"{text}\n"
    *_, last = csv.reader(StringIO(f"{ended}z", newline=""), delimiter=delimiter)
    if last != ["z"] and records:
        records[-1].bad = True
    return records


def csv_record(names: list[str], fields: list[str], line: int) -> Seen:
    texts = list(map(shown, fields))
    fits = len(fields) == len(names)
    raw = dict(zip(names, texts, strict=True)) if fits else texts
    return Seen(raw, line, raw, bad=not fits or texts != fields)


CSV_PIECES = [
    *[b"1,x", b"22,y", b"3,z"] * 4, b'4,"a,b"', b'"5","say ""hi"""', b'6,"two\nlines"',
    b'7,"cr\rlf\r\nlf\n"', b"x,no number",
    b",", b"", b"1", b"1,2,3", b'8,a","b', b"9,\xff\xfe", b"\xc3,x", b"10,nul\x00", b"11,\xc3\xa9",
    b"12," + b"long" * 100, b'13,"' + b"x\n" * 60 + b'"',
    b"\xef\xbb\xbf14,x", b'"', b'15,"open', b" ", b'""', b"1|x", b'16|"a|b\n"',
]  # fmt: skip
HEADERS = [
    *[b"a,b"] * 20, b"b,a", b'"a","b"', b"a", b"a,b,c", b"a|b", b'a,"b\nc"', b"a,a", b"a,,", b"", b"\xff,b", b'"a',
]  # fmt: skip


@PROPERTIES
@given(
    header=st.sampled_from(HEADERS),
    pieces=st.lists(
        st.tuples(st.sampled_from(CSV_PIECES), st.sampled_from([b"\n", b"\n", b"\r\n", b"\r"])), max_size=25
    ),
    bom=st.booleans(),
    ended=st.booleans(),
    delimiter=st.sampled_from([",", ",", "|"]),
    name=st.sampled_from(["in.csv", "in.csv", "in.csv.gz"]),
    job=jobs(),
)
def test_csv_records_have_one_outcome_and_the_right_one(
    tmp_path: Path,
    *,
    header: bytes,
    pieces: list[tuple[bytes, bytes]],
    bom: bool,
    ended: bool,
    delimiter: str,
    name: str,
    job: Job,
) -> None:
    data = b"\xef\xbb\xbf" * bom + header + b"\n" + b"".join(piece + end for piece, end in pieces)
    data = data if ended else data.rstrip(b"\r\n")
    path = write(tmp_path / name, data)
    source = CSVInputAdapter(path, delimiter=delimiter, skip_rows=job.skip_rows, limit=job.limit)
    records = read_csv(data, delimiter)
    if records is None:
        with pytest.raises(InputError):
            source.open()
        return
    check_run(tmp_path, source, records, job, lambda row: Item(**row).model_dump() if job.schema else row)


def read_jsonl(data: bytes) -> list[Seen]:
    found = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if line.strip():
            found.append(json_record(line, number))
    return found


def json_record(line: bytes, number: int | None) -> Seen:
    try:
        value = json.loads(line.decode())
    except ValueError:
        return Seen(line.decode("utf-8", "backslashreplace"), number, bad=True)
    return Seen(value, number, value)


def validate_json(job: Job) -> Callable[[Any], Any]:
    def validate(value: Any) -> Any:
        if job.schema is not None:
            return Item.model_validate_json(json.dumps(value)).model_dump()
        if isinstance(value, dict):
            return value
        raise ValidationError.from_exception_data("x", [{"type": PydanticCustomError("not_an_object", "no object")}])

    return validate


JSON_VALUES = [
    b'{"a":1}', b'{"a":2,"b":"x"}', b'{"a":"3"}', b' {"a":4 } ', b'{"a":5,"b":"\\u00e9\\n"}', b'{"a":"x"}', b"{}",
    b"[1,2]", b"7", b'"text"', b"null", b'{"a":8,"b":"' + b"long" * 100 + b'"}', b'{"a":12345678901234567890123}',
    b'{"b":"\xc3\xa9","a":9}', b'{"a":10,"b":{"c":[1]}}', b'{"a":11,"a":12}',
]  # fmt: skip
JSON_PIECES = [
    *JSON_VALUES, b"", b" \t", b"\r", b"{", b'{"a":1}}', b'{"a":\r1}', b"\xff", b'{"a":1,"b":"\xff"}', b"\x00",
    b'{"a":1} {"a":2}', b"\xef\xbb\xbf{}", b"\x0b", b'{"a":"\x01"}', b"'a'", b"nul",
]  # fmt: skip


@PROPERTIES
@given(
    pieces=st.lists(st.tuples(st.sampled_from(JSON_PIECES), st.sampled_from([b"\n", b"\n", b"\r\n"])), max_size=25),
    bom=st.booleans(),
    ended=st.booleans(),
    name=st.sampled_from(["in.jsonl", "in.jsonl", "in.ndjson.gz"]),
    job=jobs(),
)
def test_json_lines_have_one_outcome_and_the_right_one(
    tmp_path: Path, *, pieces: list[tuple[bytes, bytes]], bom: bool, ended: bool, name: str, job: Job
) -> None:
    data = b"\xef\xbb\xbf" * bom + b"".join(piece + end for piece, end in pieces)
    data = data if ended else data.rstrip(b"\r\n")
    source = JSONInputAdapter(write(tmp_path / name, data), skip_rows=job.skip_rows, limit=job.limit)
    check_run(tmp_path, source, read_jsonl(data), job, validate_json(job))


@PROPERTIES
@given(
    values=st.lists(st.sampled_from([*JSON_VALUES, b'{"a":1,"b":"\xff"}']), max_size=25),
    separator=st.sampled_from([b",", b" ,\n"]),
    name=st.sampled_from(["in.json", "in.json", "in.json.gz"]),
    job=jobs(),
)
def test_elements_of_an_array_have_one_outcome_and_the_right_one(
    tmp_path: Path, values: list[bytes], separator: bytes, name: str, job: Job
) -> None:
    path = write(tmp_path / name, b"[" + separator.join(values) + b"]")
    source = JSONInputAdapter(path, skip_rows=job.skip_rows, limit=job.limit)
    check_run(tmp_path, source, [json_record(value.strip(), None) for value in values], job, validate_json(job))


cells = st.text(st.sampled_from('ab",;\r\n é😀\t\x00'), max_size=6)


@PROPERTIES
@given(
    rows=st.lists(st.tuples(cells, cells), max_size=10),
    chunksize=st.sampled_from([None, 1, 3]),
    block=st.integers(1, 40),
)
def test_csv_through_a_pipe_comes_out_as_it_went_in(
    tmp_path: Path, rows: list[tuple[str, str]], chunksize: int | None, block: int
) -> None:
    text = StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([("x", "y"), *rows])
    (tmp_path / "in.csv").write_bytes(text.getvalue().encode())
    pipe = Pipe(
        CSVInputAdapter(tmp_path / "in.csv"),
        CSVOutputAdapter(tmp_path / "out.csv", delimiter=";"),
        executor=SyncFifoExecutor(chunksize=chunksize),
    )
    with small_blocks(block):
        report = pipe.run()
    assert report.counts["ok"] == len(rows)
    found = list(csv.reader(StringIO((tmp_path / "out.csv").read_bytes().decode(), newline=""), delimiter=";"))
    assert list(map(tuple, found)) == ([("x", "y"), *rows] if rows else [])


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("in.json", b"[" + b'{"a":1},' * 2500 + b'{"a":'),
        ("in.jsonl.gz", gzip.compress(b"".join(b'{"a":%d}\n' % n for n in range(200_000)))[:-1000]),
        ("in.csv", b"a\n" + b"1\n" * 2500 + b'"' + b"x\n" * 100_000),
    ],
)
def test_an_input_that_fails_on_the_way_publishes_nothing_and_accounts_for_what_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: bytes
) -> None:
    monkeypatch.setattr(blocks, "MAX_RECORD_BYTES", 50_000)
    (tmp_path / name).write_bytes(data)
    adapter = CSVInputAdapter if name.endswith("csv") else JSONInputAdapter
    pipe = Pipe(adapter(tmp_path / name), JSONOutputAdapter(tmp_path / "out.jsonl"), schema_model=Item)
    with small_blocks(1000), pytest.raises(SourceError):
        pipe.run()
    counts = pipe.report.counts
    assert pipe.report.status is RunStatus.FAILED
    assert counts["in"] == sum(counts.values()) - counts["in"] >= 2000
    assert not (tmp_path / "out.jsonl").exists()
    left = (tmp_path / "out.jsonl.partial").read_text().splitlines()
    assert len(left) == counts["ok"]
