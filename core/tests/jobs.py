"""Job folders, plugins that exist for one test, and the real command."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(sys.executable).parent

MODEL = """
    from pydantic import BaseModel

    class Row(BaseModel):
        n: int
        name: str
"""

JOB = """
    [input]
    adapter = "csv"
    path = "rows.csv"
    [schema]
    model = "rows_model:Row"
    [output]
    adapter = "jsonl"
    path = "out.jsonl"
    [errors]
    adapter = "jsonl"
    path = "errors.jsonl"
"""

ROWS = "n,name\n1,a\nx,b\n3,c\n"

# A job whose input never ends, a record a millisecond.
ENDLESS = """
    [input]
    adapter = "python"
    iterable = "mine:rows"
    [output]
    adapter = "jsonl"
    path = "out.jsonl"
    [executor]
    chunksize = 10
"""

ENDLESS_CODE = """
    import itertools, time

    def rows():
        for n in itertools.count():
            time.sleep(0.001)
            yield {"n": n}
"""


def write(folder: Path, **files: str) -> Path:
    """Write files; `__` in a keyword is the dot of the name. Returns the folder."""
    for name, text in files.items():
        file = folder / name.replace("__", ".")
        file.write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
    return folder


def write_job(folder: Path, job: str = JOB, **files: str) -> Path:
    """A folder with the usual job, its model and three rows of which one is bad; returns the job file."""
    return write(folder, job__toml=job, rows_model__py=MODEL, rows__csv=ROWS, **files) / "job.toml"


def write_plugin(site: Path, name: str, code: str, *, dist: str = "", module: str = "", **modules: str) -> Path:
    """An installed distribution as a fake: its dist-info and its modules in a folder for PYTHONPATH."""
    dist, module = dist or f"fake-{name}", module or f"fake_{name}"
    site.mkdir(exist_ok=True)
    write(site, **{f"{file}__py": text for file, text in {module: code, **modules}.items()})
    info = site / f"{dist.replace('-', '_')}-1.5.dist-info"
    info.mkdir()
    write(info, METADATA=f"Metadata-Version: 2.1\nName: {dist}\nVersion: 1.5\n")
    write(info, entry_points__txt=f"[manyhands]\n{name} = {module}\n")
    return site


def plugin_code(name: str, load: str = "json:loads", **arguments: Any) -> str:
    """The module of a plugin that describes one executor."""
    extra = "".join(f", {key}={value!r}" for key, value in arguments.items())
    return f"""
        from manyhands.plugins.spec import Backend, hookimpl

        @hookimpl
        def manyhands_backends():
            return [Backend({name!r}, "executor", {load!r}{extra})]
    """


def files(folder: Path) -> set[str]:
    """The names of what is in a folder, but for Python's own."""
    return {file.name for file in folder.iterdir()} - {"__pycache__"}


def command() -> str:
    """The console script of this environment."""
    found = shutil.which("manyhands", path=HERE)
    assert found, "the manyhands command is not installed beside this Python"
    return found


def environment(site: Path | None = None, **variables: str) -> Mapping[str, str]:
    """This process's environment with a folder of plugins; nothing that changes how output looks."""
    kept = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "FORCE_COLOR")}
    return {**kept, **({"PYTHONPATH": str(site)} if site else {}), **variables}


def manyhands(
    *arguments: object, cwd: Path, site: Path | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run the real command to its end."""
    line = [command(), *map(str, arguments)]
    env = environment(site, **variables)
    done = subprocess.run(line, check=False, cwd=cwd, env=env, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def python(code: str, *arguments: object, site: Path | None = None, cwd: Path | None = None) -> Any:
    """What a new interpreter prints, as JSON."""
    line = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(line, check=False, cwd=cwd, env=environment(site), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
