"""What is not imported costs no time: which modules each way in leaves alone."""

import ast
import sys
from pathlib import Path

import pytest

import manyhands
from manyhands._version import __version__

from .jobs import python, write_job

HEAVY = {"numpy", "pandas", "dask", "distributed", "ray"}
OURS = {
    "pydantic",
    "pydantic_core",
    "pluggy",
    "typer",
    "rich",
    "msgpack",
    "lz4",
    "cloudpickle",
    "asyncio",
    "manyhands_sync",
}

# Runs a command line in this interpreter; prints the top-level modules and manyhands' own ones.
RUN = """
    import contextlib, io, json, sys
    sys.argv = ["manyhands", *sys.argv[1:]]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        from manyhands.cli.main import main
        with contextlib.suppress(SystemExit):
            main()
    print(json.dumps(sorted(sys.modules)))
"""


def tops(modules: list[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_importing_manyhands_imports_none_of_its_dependencies() -> None:
    modules = python("import json, sys, manyhands; print(json.dumps(sorted(sys.modules)))")
    assert not tops(modules) & (HEAVY | OURS)
    assert {name for name in modules if name.startswith("manyhands")} == {"manyhands", "manyhands._version"}


def test_the_version_costs_no_pipeline() -> None:
    modules = python(RUN, "--version")
    assert not tops(modules) & (HEAVY | OURS - {"typer", "rich", "asyncio"})
    assert "rich.progress" not in modules
    assert "manyhands.pipe" not in modules


def test_listing_backends_imports_no_backend() -> None:
    modules = python(RUN, "backends")
    assert not tops(modules) & HEAVY
    assert "manyhands.pipe" not in modules
    assert "rich.progress" not in modules


def test_checking_a_job_imports_nothing_heavy(tmp_path: Path) -> None:
    modules = python(RUN, "check", write_job(tmp_path))
    assert {"rows_model", "manyhands.pipe", "manyhands_sync"} <= set(modules)
    assert not tops(modules) & HEAVY
    assert "rich.progress" not in modules


def test_running_a_job_imports_nothing_heavy(tmp_path: Path) -> None:
    modules = python(RUN, "run", write_job(tmp_path))
    assert (tmp_path / "out.jsonl").exists()
    assert not tops(modules) & HEAVY


def test_every_public_name_is_there_and_listed() -> None:
    assert manyhands.__version__ == __version__
    for name in manyhands.__all__:
        assert getattr(manyhands, name) is not None
    assert dir(manyhands) == sorted(set(manyhands.__all__))


def test_what_type_checkers_see_is_what_there_is() -> None:
    tree = ast.parse(Path(manyhands.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == {name: f"manyhands.{home}" for name, home in manyhands._HOME.items()}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'manyhands' has no attribute 'Pip'"):
        _ = manyhands.Pip  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        from manyhands import Pip  # type: ignore[attr-defined]  # noqa: F401


def test_a_star_import_gives_the_public_names() -> None:
    names = python("import json\nfrom manyhands import *\nprint(json.dumps([Pipe.__name__, CSVInputAdapter.__name__]))")
    assert names == ["Pipe", "CSVInputAdapter"]


@pytest.mark.skipif(sys.platform == "win32", reason="there it is")
def test_nothing_needs_fcntl_to_be_imported(tmp_path: Path) -> None:
    """As on Windows: no fcntl, no resource, no termios, and a job runs."""
    hide = "import sys\nfor name in ('fcntl', 'resource', 'termios', 'grp', 'pwd'): sys.modules[name] = None\n"
    modules = python(hide + RUN.replace("\n    ", "\n"), "run", write_job(tmp_path), "--progress", "plain")
    assert "manyhands.pipe" in modules
    assert (tmp_path / "out.jsonl").read_text(encoding="utf-8").count("\n") == 2
