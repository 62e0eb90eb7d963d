"""A job made from a sample: the types it finds, that every record of the sample fits, and what it refuses."""

import csv
import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyhands.errors import InputError, UsageError
from manyhands.scaffold import sample as reading
from manyhands.scaffold.job import new_job
from manyhands.scaffold.models import infer
from manyhands.scaffold.names import field_names
from manyhands.scaffold.sample import open_sample
from manyhands.scaffold.source import source_of
from manyhands.worker.compile import compile_plan

from .jobs import command, files, manyhands

EXAMPLE = Path(__file__).parents[2] / "examples/flights/flights.csv"


def module_of(path: Path) -> str:
    return source_of(infer(open_sample(path)), "Models of a test.")


def fields_of(path: Path) -> list[str]:
    """The lines of the fields of the last class."""
    head, _, body = module_of(path).rpartition("class Record(BaseModel):\n")
    assert head
    return [line.strip() for line in body.splitlines()[2:]]


@contextmanager
def model_of(source: str) -> Iterator[Any]:
    """The model that a module defines, as long as the module is there."""
    module = ModuleType("models_of_a_test")
    sys.modules[module.__name__] = module
    exec(compile(source, module.__name__, "exec"), vars(module))
    yield module.Record
    del sys.modules[module.__name__]


def accepted(path: Path, rows: list[Any]) -> list[Any]:
    """What the model makes of the rows it was made of; it must refuse none, and each must have a JSON form."""
    with model_of(source := module_of(path)) as model:
        plan = compile_plan(model)
        rejected: dict[int, BaseException] = {}
        values = plan.validate_rows(rows, rejected)
        assert rejected == {}, source
        return [json.loads(plan.encode(value)) for value in values]


def write_csv(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(rows[0])
        writer.writerows(row.values() for row in rows)
    return path


def column(tmp_path: Path, *cells: str) -> str:
    """The type of a column with these cells."""
    rows = [{"n": str(number), "c": cell} for number, cell in enumerate(cells)]
    return fields_of(write_csv(tmp_path / "sample.csv", rows))[1].removeprefix("c: ")


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "-20", "0"], "int"),
        (["9" * 30, "1"], "int"),
        (["9" * 5000], "Decimal"),  # pydantic reads no integer of so many digits
        (["007", "1"], "str"),
        (["+49301234", "1"], "str"),
        (["1_000"], "str"),
        ([" 1"], "str"),
        (["٣"], "str"),
        (["1", "2.5", ".5", "1e-3"], "float"),
        (["1e400"], "Decimal"),
        (["1e-400", "1"], "Decimal"),
        (["1e99999999999999999999"], "str"),
        (["1e-99999999999999999999"], "str"),
        (["inf", "1.5"], "str"),
        (["12345678901234567890", "1.5"], "Decimal"),  # no float holds it
        (["9007199254740993", "1.5"], "Decimal"),
        (["12345678901234.5678"], "Decimal"),
        (["12345678901234567.89", "NA"], "Annotated[Decimal | None, NoneIfMissing]"),
        (["3.14159265358979323846264", "1"], "Decimal"),
        (["3.14159265358979323846264", "x"], "str"),
        (["0.30000000000000004", "12.50", "-0", "1E5", "5."], "float"),
        (["0.10000000000000001", "1.000000000000000056e-01"], "float"),  # a float with more digits than it needs
        (["true", "False", "TRUE"], "bool"),
        (["no", "yes"], "str"),
        (["1", "true"], "str"),
        (["2024-02-29"], "dt.date"),
        (["2023-02-29"], "str"),
        (["2024-02-29T10:00:00Z", "2024-02-29 10:00"], "dt.datetime"),
        (["2024-02-29T10:00:00.123456789"], "str"),  # pydantic would cut it
        (["2024-02-29", "2024-02-29T10:00"], "str"),
        (["10:00", "23:59:59"], "dt.time"),
        (["24:00"], "str"),
        (["a", "1"], "str"),
        (["", "1"], "Annotated[int | None, NoneIfMissing]"),
        (["NA", "1.5", "null"], "Annotated[float | None, NoneIfMissing]"),
        (["", "a"], "Annotated[str | None, NoneIfEmpty]"),
        (["", ""], "Annotated[str | None, NoneIfEmpty]"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value)[:20],
)
def test_the_type_of_a_column(tmp_path: Path, cells: list[str], kind: str) -> None:
    assert column(tmp_path, *cells) == kind


COUNTRIES = [{"country": "NA", "people": "3"}, {"country": "DE", "people": "NA"}, {"country": "", "people": "1"}]


def test_a_word_is_kept_whatever_it_means_between_numbers(tmp_path: Path) -> None:
    """NA is Namibia."""
    path = write_csv(tmp_path / "sample.csv", COUNTRIES)
    countries = [record["country"] for record in accepted(path, COUNTRIES)]
    assert countries == ["NA", "DE", None]
    assert [record["people"] for record in accepted(path, COUNTRIES)] == [3, None, 1]


@pytest.mark.parametrize("rows", [COUNTRIES, [{"country": "NA", "people": "3"}, {"country": "DE", "people": "84"}]])
def test_the_model_says_how_to_make_a_word_mean_nothing(tmp_path: Path, rows: list[dict[str, str]]) -> None:
    source = module_of(write_csv(tmp_path / "sample.csv", rows))
    said = '    # "NA" is kept. None instead: Annotated[str | None, NoneIfMissing]\n'
    head, found, tail = source.partition(said)
    assert found
    rest = "".join(tail.splitlines(keepends=True)[1:])
    instead = found.partition("instead: ")[2]
    with model_of(f"{head}    country: {instead}{rest}") as model:
        assert model(country="NA", people="3").country is None
        assert model(country="DE", people="3").country == "DE"
    made = new_job(tmp_path / "sample.csv", None, tmp_path)
    assert [note for note in made.notes if '"NA" in "country" is kept as text' in note] == list(made.notes)
    assert len(made.notes) == 1


def test_values_that_are_missing_become_none(tmp_path: Path) -> None:
    rows = [{"n": "1", "s": ""}, {"n": "-", "s": "-"}]
    path = write_csv(tmp_path / "sample.csv", rows)
    assert accepted(path, rows) == [{"n": 1, "s": None}, {"n": None, "s": "-"}]


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("a.tsv", "last, first\tage\nLovelace, Ada\t36\n", ["last, first", "age"]),
        ("a.tsv", "last, first\tage\nAda\t36\n", ["last, first", "age"]),
        ("a.tsv", "a,b\n1,2\n", ["a", "b"]),
        ("a.csv", "name;amount, EUR;c\nx;2,5;x\n", ["name", "amount, EUR", "c"]),
        ("a.csv", "a,b|c\n1,2|3\n", ["a", "b|c"]),
        ("a.csv", "a\tb\n1,5\t2\n", ["a", "b"]),
        ("a.csv", '"x;y",b\n1;2,"3\n4"\n', ["x;y", "b"]),
        ("a.csv", "note; free text\nhello\nx; y; z\nplain\n", ["note; free text"]),
        ("a.csv", "note\nhello, world\nhello\n", ["note"]),
        ("a.csv", "\ufeffa;b\n1;2\n", ["a", "b"]),
        ("a.csv", "a;b\n" + "1;2\n" * 70_000, ["a", "b"]),  # more than is looked at, and cut in a record
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_the_delimiter_is_the_one_that_the_records_agree_with(
    tmp_path: Path, name: str, text: str, columns: list[str]
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    sample = open_sample(tmp_path / name)
    assert list(sample.columns) == columns
    rows = [row for rows in sample.pieces() for row in rows]
    assert len(rows) == text.replace('"3\n4"', "").count("\n") - 1


@pytest.mark.parametrize(
    ("name", "text", "note"),
    [
        ("a.csv", "1,2024-01-01,x\n2,2024-01-02,y\n", '^"1", "2024-01-01" in the header may be values; if the first '),
        ("a.csv", "1.5,-3,10:00,2.5,a\n1,2,3,4,5\n", '^"1.5", "-3", "10:00" and others in the header may be values'),
        ("a.csv", "note; text\na; b; c\nd\n", '^";" in the header separates no columns'),
        ("a.json", '{"data": [{"a": 1}, {"a": 2}]}', "^it is one object, which is read as one record"),
    ],
)
def test_what_may_be_meant_otherwise_is_said(tmp_path: Path, name: str, text: str, note: str) -> None:
    (tmp_path / name).write_text(text)
    made = new_job(tmp_path / name, None, tmp_path)
    assert len(made.notes) == 1
    assert re.search(note, made.notes[0])


def test_the_command_says_it_on_stderr(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", [{"1": "a", "b": "2"}])
    done = manyhands("new", "job", "rows.csv", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.startswith('manyhands: rows.csv: "1" in the header may be values')
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout.startswith("rows is written")


@pytest.mark.skipif(sys.platform == "win32", reason="there the current folder cannot be removed")
@pytest.mark.parametrize("into", [(), ("--into", "sub")])
def test_a_current_folder_that_is_gone_is_told(tmp_path: Path, into: tuple[str, ...]) -> None:
    path = write_csv(tmp_path / "rows.csv", [{"a": "1", "b": "2"}])
    (tmp_path / "gone").mkdir()
    line = ["sh", "-c", 'rmdir "$PWD"; exec "$@"', "sh", command(), "new", "job", str(path), *into]
    done = subprocess.run(line, check=False, cwd=tmp_path / "gone", capture_output=True, text=True)
    where = into[1] if into else "."
    message = f"cannot write into {where}: the current folder is no longer there; go to another one"
    assert (done.returncode, done.stderr) == (2, f"manyhands: {message}\n")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2], "int"),
        ([2**80], "int"),
        ([1, 2.5], "float"),
        ([2**80, 2.5], "int | float"),
        ([True, None], "bool | None"),
        ([1, "a"], "int | str"),
        (["1"], "str"),
        (["", "NA"], "str"),
        (["2024-02-29"], "dt.date"),
        (["2024-02-29", "soon"], "str"),
        (["2024-02-29", 7], "int | dt.date"),
        ([[1], []], "list[int]"),
        ([[[1.5]], None], "list[list[float]] | None"),
        ([[]], "list[Any]"),
        ([None], "Any"),
        ([{}], "dict[str, Any]"),
        ([{"a": 1}], "V"),
        ([[{"a": 1}, {"b": 2}], "x"], "str | list[V]"),
        ([{f"key{number}": 1} for number in range(50)], "dict[str, Any]"),
        ([[[[[[[1]]]]]]], "list[list[list[list[list[Any]]]]]"),
    ],
    ids=str,
)
def test_the_type_of_json_values(tmp_path: Path, values: list[Any], kind: str) -> None:
    path = tmp_path / "sample.jsonl"
    path.write_text("".join(json.dumps({"v": value}) + "\n" for value in values))
    assert fields_of(path) == [f"v: {kind}"]


def test_keys_that_are_not_everywhere_may_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "sample.json"
    path.write_text('[{"a": 1, "b": {"c": "2024-01-01", "d": 1}}, {"a": 2, "b": {"c": "2024-01-02"}}, {"a": 3}]')
    assert fields_of(path) == ["a: int", "b: B | None = None"]
    assert "    c: dt.date\n    d: int | None = None\n" in module_of(path)


def test_lines_of_json_in_a_json_file(tmp_path: Path) -> None:
    path = tmp_path / "sample.json"
    path.write_text('\n{"a": 1}\n{"a": 2}\n')
    assert (open_sample(path).adapter, fields_of(path)) == ("jsonl", ["a: int"])


def test_the_names_of_fields() -> None:
    keys = ["ok", "Größe", "class", "json", "_x", "Flight No.", "flight no", "2024", "", "model_year", "model_dump_a"]
    names = ["ok", "Größe", "class_", "json_", "x", "flight_no", "flight_no_2", "field_2024", "field", "model_year"]
    assert list(field_names(keys).values()) == [*names, "field_model_dump_a"]
    assert field_names(["ﬁ", "fi"]) == {"ﬁ": "fi_2", "fi": "fi"}  # Python takes both for the second


def test_keys_that_are_no_names_are_aliases(tmp_path: Path) -> None:
    rows = [{"Flight No.": "1", 'a "b"': "x", "date": "2024-01-01", "str": "1"}]
    path = write_csv(tmp_path / "sample.csv", rows)
    assert fields_of(path)[0] == 'flight_no: int = Field(alias="Flight No.")'
    assert accepted(path, rows) == [{"flight_no": 1, "a_b": "x", "date": "2024-01-01", "str_": 1}]


def test_what_the_sample_did_not_have_is_not_dropped_unseen(tmp_path: Path) -> None:
    path = tmp_path / "sample.jsonl"
    path.write_text('{"a": 1}')
    with model_of(module_of(path)) as model:
        rejected: dict[int, BaseException] = {}
        compile_plan(model).validate_rows([b'{"a": 1, "b": 2}'], rejected)
    assert "Extra inputs are not permitted" in str(rejected[0])


# What is nearly something else, beside everything.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
ODD_CELLS = [
    "",
    "NA",
    "-",
    "9007199254740993",
    "0.1000000000000000001",
    "007",
    "1_0",
    "-0",
    "1e5",
    "1e999",
    "nan",
    "9" * 30,
    "2023-02-29",
    "24:00",
    "true",
    "12",
]
CELL = st.one_of(
    st.sampled_from(ODD_CELLS),
    TEXT,
    *(kind.map(str) for kind in (st.integers(), st.floats(), st.dates(), st.datetimes(), st.times())),
)
KEY = st.one_of(st.sampled_from(["", "class", "copy", "date", "dt", "str", "Any", "Record", "a b", "a_b", "_a"]), TEXT)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), CELL),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEY, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def tables(draw: Any) -> list[dict[str, str]]:
    """Rows of columns that repeat their cells, as columns do."""
    keys = draw(st.lists(KEY, min_size=2, max_size=5, unique=True))
    columns = [st.sampled_from(draw(st.lists(CELL, min_size=1, max_size=3))) for _ in keys]
    return [dict(zip(keys, row, strict=True)) for row in draw(st.lists(st.tuples(*columns), min_size=1, max_size=5))]


@given(tables())
@settings(max_examples=150, deadline=None)
def test_the_model_takes_every_row_of_its_table(rows: list[dict[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        accepted(write_csv(Path(folder) / "sample.csv", rows), rows)


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b c"]), JSON), min_size=1, max_size=4), st.booleans())
@settings(max_examples=150, deadline=None)
def test_the_model_takes_every_record_of_its_json(records: list[Any], lines: bool) -> None:
    texts = [json.dumps(record) for record in records]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("sample.jsonl" if lines else "sample.json")
        path.write_text("\n".join(texts) if lines else f"[{','.join(texts)}]")
        accepted(path, [text.encode() for text in texts])


SAMPLES = {
    "people.csv": "name;Born on;shoe size\nAda;1815-12-10;\nGrace;1906-12-09;37.5\n",
    "people.tsv": "name\tborn\n007\t1815-12-10\n",
    "people.jsonl.gz": '{"name": "Ada", "shoe": {"size": 37}}\n\n{"name": null, "class": [1, 2.5]}\n',
    "people.json": '[{"name": "Ada"}, {"name": "Grace", "born": "1906-12-09"}]',
}


def write_sample(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", SAMPLES)
def test_a_new_job_runs_as_it_is(tmp_path: Path, name: str) -> None:
    sample = write_sample(tmp_path / name, SAMPLES[name])
    made = manyhands("new", "job", sample.name, cwd=tmp_path)
    records = "1 record" if name == "people.tsv" else "2 records"
    assert (made.returncode, made.stderr) == (0, "")
    first, *commands = made.stdout.splitlines()
    assert first == f"people is written; its model is made of {records} of {name}. Go on with"
    assert commands == ["  manyhands check people/job.toml", "  manyhands run people/job.toml"]
    assert files(tmp_path / "people") == {"README.md", "job.toml", "models.py"}
    assert manyhands("check", "people/job.toml", cwd=tmp_path).returncode == 0
    assert manyhands("run", "people/job.toml", "--strict", cwd=tmp_path).returncode == 0
    lines = (tmp_path / "people" / "output.jsonl").read_text().splitlines()
    assert len(lines) == int(records[0])


def test_a_job_for_the_flights(tmp_path: Path) -> None:
    made = new_job(EXAMPLE, None, tmp_path)
    assert made.read == "11,613 records of flights.csv"
    job = (made.folder / "job.toml").read_text()
    assert f"path = {json.dumps(os.path.realpath(EXAMPLE))}" in job
    assert '    # "NA" is kept. None instead: ' in (made.folder / "models.py").read_text()
    assert [note.partition(" is kept")[0] for note in made.notes] == ['"NA" in "tailnum"']
    done = manyhands("run", "flights/job.toml", "--strict", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "output.jsonl" in files(made.folder)


def test_a_sample_below_the_new_folder_s_is_found_from_there(tmp_path: Path) -> None:
    """Both can be moved together."""
    (tmp_path / "data").mkdir()
    write_csv(tmp_path / "data" / "rows.csv", [{"a": "1", "b": "2"}])
    made = new_job(tmp_path / "data" / "rows.csv", "other.name", tmp_path)
    assert made.folder == tmp_path / "other.name"
    assert 'path = "../data/rows.csv"' in (made.folder / "job.toml").read_text()


def test_only_the_first_records_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_RECORDS", 2)
    path = write_csv(tmp_path / "rows.csv", [{"a": text, "b": ""} for text in ("1", "2", "x")])
    made = new_job(path, None, tmp_path)
    assert made.read == "the first 2 records of rows.csv"
    assert "    a: int\n" in (made.folder / "models.py").read_text()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", b"a,b\n", "holds no records, only a header"),
        ("a.csv", b"\x89PNG\0\0", "is no text in UTF-8"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16"), "if it is text in UTF-16, convert it, for example by iconv -f utf-16"),
        ("a.csv", b"caf\xe9,b\n1,2\n", "its header is not valid utf-8; convert .*iconv -f latin1 .*names its encoding"),
        ("a.csv", b"a,b\n1,2\n\xe9,2\n", "line 3: not valid utf-8; convert .*iconv -f latin1 .*names its encoding"),
        ("a.jsonl", b'{"a": "\xe9"}\n', "line 1: Invalid JSON.*; convert the file to UTF-8, .*-t utf-8$"),
        ("a.csv", b"a,b\n1,2\n1,2\n1,2,3\n", "line 4: the header has 2 columns, this record 3"),
        ("a.csv", b"a,b\n1,2\n\n3\n", "line 4: the header has 2 columns, this record 1"),
        ("a.csv", b'a,b\n1,"2\n', "line 2: the input ends inside a quoted field"),
        ("a.csv", b"a,b,a\n1,2,3\n", "the header names 'a' more than once; give each column another name"),
        ("a.csv.gz", b"a,b\n1,2\n", "Not a gzipped file"),
        ("a.json", b"[]", "holds no records"),
        ("a.json", b"[1, 2]", "a record must be an object, not int"),
        ("a.json", b'"x"', 'an array must begin with "\\["'),
        ("a.json", b'[{"a": 1},', "character 10: Expecting value"),
        ("a.json", b'{\n  "a": 1\n}\n', "line 1: Invalid JSON.*; each record must be on a line of its own"),
        ("a.jsonl", b'{"a": 1}\n[2]\n', "line 2: a record must be an object, not list"),
        ("a.jsonl", b'{"a": 1}\n{oops\n', "line 2: Invalid JSON"),
        ("a.jsonl", json.dumps({f"k{n}": 1 for n in range(1001)}).encode(), "more than 1000 different keys"),
        ("a.xlsx", b"a", "cannot tell what .*a.xlsx is"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_bad_sample_is_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message) as refused:
        new_job(tmp_path / name, None, tmp_path)
    assert len(str(refused.value).splitlines()) == 1
    assert files(tmp_path) == {name}


def test_a_sample_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        new_job(tmp_path / "gone.csv", None, tmp_path)
    with pytest.raises(InputError, match="Is a directory"):
        new_job(tmp_path, None, tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.csv")
        with pytest.raises(InputError, match="it is no regular file"):
            new_job(tmp_path / "pipe.csv", None, tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "-a", "a b", "a\n"])
def test_a_name_that_is_no_folder_s_is_refused(tmp_path: Path, name: str) -> None:
    path = write_csv(tmp_path / "rows.csv", [{"a": "1", "b": "2"}])
    with pytest.raises(UsageError, match="cannot be the name of a job"):
        new_job(path, name, tmp_path)
    assert files(tmp_path) == {"rows.csv"}


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", [{"a": "1", "b": "2"}])
    (tmp_path / "rows").mkdir()
    done = manyhands("new", "job", "rows.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("manyhands: cannot write rows: it exists, and nothing is ever overwritten")
    assert files(tmp_path / "rows") == set()


@pytest.mark.skipif(shutil.which("ruff") is None, reason="ruff, which formats the style of this project, is not here")
def test_models_are_formatted(tmp_path: Path) -> None:
    long = "a long name of a column, which hardly fits in a line with all that stands there " * 2
    rows = [
        {"Some text": "x", long[:60]: "", long: "NA", "n": "NA", "d": "9007199254740993", "t": "2024-01-01", "w": "NA"},
        {"Some text": "y", long[:60]: "", long: "1", "n": "1", "d": "0.5", "t": "2024-01-01", "w": "DE"},
    ]
    (tmp_path / "models.py").write_text(module_of(write_csv(tmp_path / "rows.csv", rows)))
    command = ["ruff", "format", "--isolated", "--no-cache", "--diff", "models.py"]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
