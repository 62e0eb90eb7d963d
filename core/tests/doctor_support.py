"""Environments that are broken on purpose, for the tests of `manyhands doctor`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterable, Mapping
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent
from typing import Any

from manyhands import __version__
from manyhands.plugins.spec import PLUGIN_API

from .jobs import plugin_code, write_plugin

NEXT = f"{__version__}.1"
"""A version of core that every requirement of the one that runs allows."""

GOOD = "manyhands.executor:BaseExecutor"


def plant(site: Path, name: str, code: str, *requires: str, dist: str = "", module: str = "") -> None:
    """A plugin that pip can uninstall."""
    dist, module = dist or f"fake-{name}", module or f"fake_{name}"
    write_plugin(site, name, code, dist=dist, module=module)
    info = site / f"{dist.replace('-', '_')}-1.5.dist-info"
    with (info / "METADATA").open("a") as file:
        file.writelines(f"Requires-Dist: {requirement}\n" for requirement in requires)
    names = [f"{module}.py", *(f"{info.name}/{part}" for part in ("METADATA", "entry_points.txt", "RECORD"))]
    (info / "RECORD").write_text("".join(f"{part},,\n" for part in names))


def wheel(house: Path, dist: str, version: str, files: Mapping[str, str], requires: Iterable[str] = ()) -> None:
    """A wheel of some files; those of its dist-info begin with a dot."""
    house.mkdir(exist_ok=True)
    name = f"{dist.replace('-', '_')}-{version}"
    metadata = "\n".join(["Metadata-Version: 2.1", f"Name: {dist}", f"Version: {version}"])
    metadata += "".join(f"\nRequires-Dist: {requirement}" for requirement in requires) + "\n"
    parts = {
        "METADATA": metadata,
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(house / f"{name}-py3-none-any.whl", "w") as archive:
        for file, text in files.items():
            archive.writestr(f"{name}.dist-info/{file[1:]}" if file.startswith(".") else file, text)
        for file, text in parts.items():
            archive.writestr(f"{name}.dist-info/{file}", text)


def sources(package: str) -> dict[str, str]:
    """The files of an installed package."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    return {f"{package}/{file.relative_to(root).as_posix()}": file.read_text() for file in root.rglob("*.py")}


def fill_house(house: Path) -> None:
    """What an index would have: what the remedies install."""
    threads = distribution("manyhands-threads")
    entry = {".entry_points.txt": "[manyhands]\nthreads = manyhands_threads.plugin\n"}
    wheel(house, "manyhands-threads", threads.version, sources("manyhands_threads") | entry)
    entry = {".entry_points.txt": "[manyhands]\nold = fake_old\n"}
    wheel(house, "fake-old", "2.0", {"fake_old.py": dedent(plugin_code("old", GOOD))} | entry)
    wheel(house, "fake-library", "2.1", {"fake_library.py": ""})
    core = sources("manyhands")
    core["manyhands/_version.py"] = core["manyhands/_version.py"].replace(__version__, NEXT)
    api = f"PLUGIN_API: Final = {PLUGIN_API}"
    assert api in core["manyhands/plugins/spec.py"]
    core["manyhands/plugins/spec.py"] = core["manyhands/plugins/spec.py"].replace(
        api, f"PLUGIN_API: Final = {PLUGIN_API + 1}"
    )
    wheel(
        house, "manyhands-core", NEXT, core, [r for r in distribution("manyhands-core").requires or () if ";" not in r]
    )


def as_from_an_index(info: Path, original: Path) -> None:
    """The same dist-info, but for the place from which this checkout was installed."""
    info.mkdir()
    for file in original.iterdir():
        if file.name != "direct_url.json":
            (info / file.name).symlink_to(file)


class Home:
    """A new environment with core, what it requires, and no plugin.

    Attributes:
        site: where its own distributions are.
        house: the wheels that pip finds.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder / "venv", with_pip=find_spec("pip") is None)
        self.python = folder / "venv/bin/python"
        self.site = next(folder.glob("venv/lib/python*/site-packages"))
        self.house = folder / "house"
        base = folder / "base"
        base.mkdir()
        for outer in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            for entry in Path(outer).iterdir():
                if entry.name.startswith("manyhands_core-"):
                    as_from_an_index(base / entry.name, entry)
                elif "manyhands" not in entry.name:
                    (base / entry.name).symlink_to(entry)
        spec = find_spec("manyhands")
        assert spec is not None
        assert spec.origin is not None
        (self.site / "base.pth").write_text(f"{base}\n{Path(spec.origin).parents[1]}\n")
        self.temporary = folder / "tmp"
        self.temporary.mkdir()

    def shell(self, *lines: str, cwd: Path, **variables: str) -> None:
        """Paste lines into a shell of this environment; each must succeed."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHON", "UV_"))}
        pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.house), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        env = {
            **kept,
            **pip,
            "PIP_NO_CACHE_DIR": "1",
            "PIP_NO_COMPILE": "1",
            "TMPDIR": str(self.temporary),
            **variables,
        }
        done = subprocess.run(
            ["/bin/sh", "-e", "-c", "\n".join(lines)], check=False, cwd=cwd, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def doctor(self, *arguments: str, before: Iterable[str] = (), cwd: Path, **variables: str) -> list[dict[str, Any]]:
        """What doctor finds, in a shell in which lines were pasted before."""
        file = self.folder / "found.json"
        line = f"{self.python} -m manyhands doctor {' '.join(arguments)} --json > {file} || test $? = 2"
        self.shell(*before, line, cwd=cwd, **variables)
        found: list[dict[str, Any]] = json.loads(file.read_text())
        return found


# Puts one of each kind where a run could have it, and dies as a run may.
LEAVE = """
    import os, socket, sys, tempfile
    from pathlib import Path
    from manyhands.processes.owner import owned_name

    folder = Path(tempfile.gettempdir())
    (folder / owned_name("file")).write_text("left")
    (folder / owned_name("folder")).mkdir()
    (folder / owned_name("folder") / "inside").write_text("left")
    os.symlink("/", folder / owned_name("folder") / "link")
    socket.socket(socket.AF_UNIX).bind(str(folder / owned_name("socket")))
    os.kill(os.getpid(), 9)
"""


def leave(folder: Path) -> None:
    """Be a run that was killed."""
    env = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", dedent(LEAVE)], check=False, env=env)
    assert done.returncode == -9
