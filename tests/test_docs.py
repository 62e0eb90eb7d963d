"""The Python, TOML and console blocks of the documentation run.

The blocks of a page share a folder, in order. A name after the language (`toml job.toml`) saves a block under it for
the blocks that follow.

- python: runs, warnings being errors.
- toml: fits the schema of job files, and a whole job is checked and run.
- console: the commands that begin with `manyhands` or `cat` run, and what is shown beneath them must be in what they
  print. Other commands do not run.
- sh and indented blocks: do not run here. `test_packaging.py` runs the first command of the README.
- the others (csv, text): are saved, no more.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

import manyhands
from manyhands.config.adapters import INPUTS, OUTPUTS
from manyhands.config.schema import job_schema

ROOT = Path(__file__).parents[1]
GLOBS = ("*.md", "core/*.md", "plugins/*/*.md", "docs/**/*.md", "examples/**/*.md", "benchmarks/*.md")
PAGES = sorted(page for glob in GLOBS for page in ROOT.glob(glob))
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(page):
    """Language, name, text and line of each code block."""
    text = page.read_text()
    for number, match in enumerate(BLOCK.finditer(text)):
        language, name, code = match.groups()
        yield language, name or f"block{number}.{language}", code, text.count("\n", 0, match.start()) + 1


def run(command, folder):
    """Run a command as a reader would, in the environment of the tests."""
    env = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, env=env)
    assert done.returncode == 0, f"{shlex.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


@cache
def schema():
    return job_schema(pytest.fail)


def misfits(job):
    """What is wrong with a job file, or with a part of one, by the schema that editors use."""
    validator = Draft202012Validator(schema() | {"required": []})
    return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in validator.iter_errors(job)]


def run_python(file, folder):
    run([sys.executable, "-W", "error", str(file)], folder)


def run_toml(file, folder):
    content = tomllib.loads(file.read_text())
    assert misfits(content) == []
    if "input" in content:
        run(["manyhands", "check", file.name], folder)
        run(["manyhands", "run", file.name], folder)


def run_console(file, folder):
    for step in re.split(r"^\$ ", file.read_text(), flags=re.MULTILINE)[1:]:
        command, _, shown = step.partition("\n")
        if command.startswith(("manyhands ", "cat ")):
            assert shown.strip() in run(shlex.split(command), folder)


RUNNERS = {"python": run_python, "toml": run_toml, "console": run_console}


@every_page
def test_every_block_that_can_be_run_does(page, tmp_path):
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("*.jsonl", "__pycache__"))
    for language, name, code, line in blocks(page):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code)
        try:
            RUNNERS.get(language, lambda *_: None)(file, tmp_path)
        except (AssertionError, ValueError) as error:
            pytest.fail(f"{page.relative_to(ROOT)}:{line}: {error}", pytrace=False)


@every_page
def test_every_link_leads_somewhere(page):
    assert [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("job", sorted(ROOT.glob("examples/**/*.toml")), ids=lambda job: job.parent.name)
def test_every_example_fits_the_schema_of_job_files(job):
    assert misfits(tomllib.loads(job.read_text())) == []


def test_the_reference_has_every_public_name():
    text = "\n".join(page.read_text() for page in ROOT.glob("docs/reference/*.md"))
    generated = {cls.__name__ for cls in (*INPUTS.values(), *OUTPUTS.values())}  # by docs/site_pages.py
    shown = set(re.findall(r"^::: manyhands\.(\w+)$", text, re.MULTILINE)) | generated
    assert set(manyhands.__all__) - {"__version__", "ManyhandsError"} - shown == set()


def test_the_first_page_shows_a_job_and_python():
    assert {"sh", "csv", "python", "toml", "console"} == {language for language, *_ in blocks(ROOT / "README.md")}
