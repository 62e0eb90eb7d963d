"""Records arrive as they were sent, whatever they cross, in chunks of the size that was asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from manyhands.adapters.base import BaseInputAdapter
from manyhands.adapters.csv import CSVInputAdapter
from manyhands.adapters.json import JSONInputAdapter
from manyhands.adapters.memory import MemoryOutputAdapter
from manyhands.adapters.python import IterableInputAdapter
from manyhands.testing.hooks import TellsBatch, TellsSize, TellsValue
from manyhands.testing.records import VALUES, described, rows, sized

if TYPE_CHECKING:
    from manyhands.testing.bench import Bench

LARGE: Final = 3 << 20
"""Characters of a large record: more than any pipe, socket or buffer holds."""


class CodecCases:
    """What travels: values, texts, blocks, entries."""

    def test_values_reach_the_worker_with_their_types(self, bench: Bench) -> None:
        """All that may stand in a record of Python."""
        records = [{"value": value} for value in VALUES.values()]
        for how in _ways(bench):
            ran = bench.run(records, pre=[TellsValue()], chunksize=10, **how)
            _check_values(bench, [row["value"] for row in ran.rows], f"reach hooks{_with(how)}")

    def test_values_come_back_with_their_types(self, bench: Bench) -> None:
        """To an output that keeps entries."""
        for how in _ways(bench):
            pipe = bench.pipe([{"value": value} for value in VALUES.values()], chunksize=10, **how)
            pipe.output_adapter = output = MemoryOutputAdapter()
            bench.finish(pipe)
            found = [described(entry["validated_data"]["value"]) for entry in output.results]
            _check_values(bench, found, f"come back from workers{_with(how)}")

    @pytest.mark.parametrize(("source", "count"), [("python", 0), ("csv", 0), ("jsonl", 1)])
    def test_no_record_and_one_record_are_runs_too(self, bench: Bench, source: str, count: int) -> None:
        """An empty input ends well, and a single record arrives."""
        ran = bench.run(_source(bench.folder, source, _texts(count)))
        counts = ran.report.counts
        assert len(ran.rows) == counts["in"] == counts["ok"] == count, bench.broken(
            "accounting", f"of {count} records of {source}, {len(ran.rows)} are written, and the report counts {counts}"
        )

    @pytest.mark.parametrize("source", ["python", "csv", "jsonl"])
    def test_texts_of_any_script_arrive(self, bench: Bench, source: str) -> None:
        """Also such as look like the end of a field or a line."""
        records = _texts(8)
        ran = bench.run(_source(bench.folder, source, records), chunksize=3)
        found, wanted = ([record["text"] for record in each] for each in (ran.rows, records))
        assert found == wanted, bench.broken("codec", f"texts of {source} arrive as {found!r}, not {wanted!r}")

    @pytest.mark.parametrize("source", ["python", "csv"])
    def test_a_large_record_travels(self, bench: Bench, source: str) -> None:
        """There and back, among small ones."""
        text = "".join(map(str, range(1000))) * (LARGE // 2890) + "é end"
        records = [{"k": k, "text": text if k == 2 else "small"} for k in range(5)]
        wanted = [sized(text if k == 2 else "small") for k in range(5)]
        for how in _ways(bench):
            ran = bench.run(_source(bench.folder, source, records), pre=[TellsSize()], chunksize=2, **how)
            found = [row["size"] for row in ran.rows]
            assert found == wanted, bench.broken(
                "codec", f"a record of {len(text)} characters arrives{_with(how)} as {found}, not {wanted}"
            )
            assert ran.rows[2]["text"] == text, bench.broken("codec", f"a large text comes back changed{_with(how)}")

    @pytest.mark.parametrize(("source", "chunksize"), [("python", 1), ("csv", 7), ("jsonl", 7)])
    def test_chunksize_is_honoured_to_the_letter(self, bench: Bench, source: str, chunksize: int) -> None:
        """A hook gets batches of that size, only the last one is smaller."""
        ran = bench.run(_source(bench.folder, source, rows(24)), pre=[TellsBatch()], chunksize=chunksize)
        found = [row["of"] for row in ran.rows if row["place"] == 0]
        wanted = [chunksize] * (24 // chunksize) + [24 % chunksize] * (24 % chunksize > 0)
        assert found == wanted, bench.broken(
            "chunks", f"with chunksize={chunksize} hooks get batches of {found} records of {source}, not {wanted}"
        )


def _ways(bench: Bench) -> list[dict[str, Any]]:
    """How chunks may travel, as options of the backend."""
    return [{}, *([{"compression": "lz4"}] if bench.offered({"compression": "lz4"}) else [])]


def _with(how: dict[str, Any]) -> str:
    return f" with {how}" if how else ""


def _check_values(bench: Bench, found: list[str], how: str) -> None:
    """See that the values of `VALUES`, as they were described, are all there and as they were."""
    changed = {
        what: f"{there} instead of {wanted}"
        for (what, wanted), there in zip(
            ((what, described(value)) for what, value in VALUES.items()), found, strict=False
        )
        if there != wanted
    }
    assert not changed, bench.broken("codec", f"values {how} changed: {changed}")
    assert len(found) == len(VALUES), bench.broken("codec", f"only {len(found)} of {len(VALUES)} values {how}")


def _texts(count: int) -> list[dict[str, Any]]:
    texts = ["plain", "é€🙂", 'say ""hi"", he said', "two\nlines", "cr\r\nlf", " ", "a,b;c|d\te", "\u2028\x00"]
    return [{"k": k, "text": texts[k % len(texts)]} for k in range(count)]


def _source(folder: Path, kind: str, records: list[dict[str, Any]]) -> BaseInputAdapter:
    """The records as an input of this kind: Python's travel packed or as they are, lines of files as raw blocks."""
    if kind == "python":
        return IterableInputAdapter(records)
    path = folder / f"in.{kind}"
    if kind == "jsonl":
        lines = [json.dumps(record, ensure_ascii=False) for record in records]
        path.write_bytes("".join(f"{line}\n" for line in lines).encode())
        return JSONInputAdapter(path)
    lines = [",".join(map(_quoted, record.values())) for record in records]
    path.write_bytes("".join(f"{line}\n" for line in [",".join(records[0] if records else "k"), *lines]).encode())
    return CSVInputAdapter(path)


def _quoted(value: object) -> str:
    return '"{}"'.format(str(value).replace('"', '""'))
