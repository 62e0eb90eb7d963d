"""Files of records as people have them, and worse."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

from manyhands import CSVInputAdapter, JSONInputAdapter
from manyhands.adapters.base import BaseInputAdapter

CELLS = ["", "a", "12", "NA", '"q"', '"a,b"', '"two\nlines"', '"crlf\r\nin"', '"say ""no"""', 'a"b', '"","', "é", " x "]
ENDS = ["\n", "\r\n", "\r", "\n\n", "\r\n\r\n"]
JSONS = ["{}", '{"a": 1}', '{"a": "\\n"}', "not json", "", "  ", '{"é": [1, 2]}', "[1]", "null"]


def csv_text(rng: random.Random) -> str:
    """A file as people have them, and worse: quotes, ragged records, blank lines, an end inside quotes."""
    width, end = rng.randint(1, 4), rng.choice(ENDS)
    rows = [",".join(f"c{n}" for n in range(width))] if rng.random() < 0.9 else []
    for _ in range(rng.choice((0, 1, 2, 5, 30, 100))):
        cells = rng.randint(1, 5) if rng.random() < 0.05 else width
        rows.append(",".join(rng.choice(CELLS) for _ in range(cells)))
    text = "".join(row + (rng.choice(ENDS) if rng.random() < 0.05 else end) for row in rows)
    return text.removesuffix(end) if rng.random() < 0.3 else text + ('"open' if rng.random() < 0.05 else "")


def json_text(rng: random.Random) -> str:
    end = rng.choice(("\n", "\r\n"))
    text = "".join(rng.choice(JSONS) + end for _ in range(rng.choice((0, 1, 2, 5, 30, 100))))
    return text.removesuffix(end) if rng.random() < 0.3 else text


def random_input(rng: random.Random, folder: Path) -> BaseInputAdapter:
    """A file in the folder, and how to read it."""
    is_csv, bom = rng.random() < 0.6, b"\xef\xbb\xbf" if rng.random() < 0.1 else b""
    data = bom + (csv_text(rng) if is_csv else json_text(rng)).encode()
    file = folder / ("input.csv" if is_csv else "input.jsonl")
    if rng.random() < 0.1:
        file, data = file.with_name(f"{file.name}.gz"), gzip.compress(data)
    file.write_bytes(data)
    options: dict[str, Any] = {"skip_rows": rng.choice((0, 0, 0, 3)), "limit": rng.choice((None, None, None, 7))}
    if not is_csv:
        return JSONInputAdapter(file, format="lines", **options)
    names = tuple("abcd") if rng.random() < 0.1 else None
    return CSVInputAdapter(file, fieldnames=names, escapechar="\\" if rng.random() < 0.1 else None, **options)
