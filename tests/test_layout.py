"""The rules of the house: who may import whom, what a plugin folder looks like, one version for all."""

import ast
import configparser
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core"
PLUGINS = sorted(file.parent for file in ROOT.glob("plugins/*/pyproject.toml"))
EXTRAS = {"testing": "testing", "doors": "joblib"}  # folders of core, and the extra that they need
HEAVY = {"dask", "distributed", "numpy", "pandas", "ray"}

every_plugin = pytest.mark.parametrize("plugin", PLUGINS, ids=lambda folder: folder.name)
every_dist = pytest.mark.parametrize("dist", [CORE, *PLUGINS], ids=lambda folder: folder.name)


def load(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text())


def requirements(folder, extra=None):
    project = load(folder)["project"]
    texts = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return {r.name: r for r in map(Requirement, texts)}


def version(folder):
    """The version of a distribution: in pyproject.toml, or where hatch is told to read it."""
    project = load(folder)
    if "version" in project["project"]:
        return project["project"]["version"]
    return re.search(r'__version__ = "(.+)"', (folder / project["tool"]["hatch"]["version"]["path"]).read_text())[1]


def imports(folder):
    """Top-level names that any module under the folder imports anywhere, with the file."""
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from ((alias.name.split(".")[0], file) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield node.module.split(".")[0], file


def allowed(folder):
    """What the modules of a distribution may import: the standard library, themselves, what they declare."""
    declared = {name.replace("manyhands-core", "manyhands").replace("-", "_") for name in requirements(folder)}
    typed = {"pydantic_core", "typing_extensions"} if "pydantic" in declared else set()
    return sys.stdlib_module_names | declared | typed | {source.name for source in (folder / "src").iterdir()}


@every_dist
def test_a_distribution_imports_only_what_it_declares(dist):
    may, found = allowed(dist), set(imports(dist / "src"))
    extra = {
        (name, file) for folder, names in EXTRAS.items() for name, file in found if in_extra(folder, names, name, file)
    }
    assert [(name, str(file)) for name, file in found - extra if name not in may] == []


def in_extra(folder, extra, name, file):
    return CORE / "src/manyhands" / folder in file.parents and name in requirements(CORE, extra)


def test_core_declares_no_plugin_and_nothing_heavy():
    assert [name for name in requirements(CORE) if name in HEAVY or name.startswith("manyhands")] == []


@every_plugin
def test_a_plugin_requires_core_and_no_other_plugin(plugin):
    ours = [requirement for name, requirement in requirements(plugin).items() if name.startswith("manyhands")]
    assert [requirement.name for requirement in ours] == ["manyhands-core"]
    assert version(CORE) in ours[0].specifier
    major, minor = version(CORE).split(".")[:2]
    assert f"{major}.{int(minor) + 1}" not in ours[0].specifier


@every_plugin
def test_a_plugin_folder_is_a_model_to_copy(plugin):
    package = plugin / "src" / f"manyhands_{plugin.name}"
    assert load(plugin)["project"]["name"] == f"manyhands-{plugin.name}"
    assert load(plugin)["project"]["entry-points"]["manyhands"] == {plugin.name: f"{package.name}.plugin"}
    for file in ("README.md", "LICENSE", f"src/{package.name}/__init__.py", f"src/{package.name}/py.typed"):
        assert (plugin / file).is_file(), file
    assert list(plugin.glob("tests/test_*.py"))
    assert len((plugin / "tests/test_conformance.py").read_text().splitlines()) <= 20
    assert [source.name for source in (plugin / "src").iterdir() if source.is_dir()] == [package.name]


@every_dist
def test_one_version_and_one_licence_for_all(dist):
    assert version(dist) == version(ROOT)
    assert (dist / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_the_changelog_knows_the_version():
    assert f"## [{version(ROOT)}]" in (ROOT / "CHANGELOG.md").read_text()


@every_dist
def test_the_workspace_knows_every_distribution(dist):
    """A new plugin is one line in each of these places; the rest finds it by its folder."""
    tool, tox = load(ROOT)["tool"], configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    assert tool["uv"]["sources"][load(dist)["project"]["name"]] == {"workspace": True}
    assert f"-e ./{dist.relative_to(ROOT).as_posix()}" in tox["testenv"]["deps"].split("\n")
    assert {source.name for source in (dist / "src").iterdir()} <= set(tool["coverage"]["run"]["source_pkgs"])


def test_the_lowest_dependencies_are_the_bounds_of_core():
    lines = (ROOT / "requirements/lowest.txt").read_text().splitlines()
    pins = {pin.name: pin.specifier for pin in map(Requirement, (line for line in lines if line and line[0] != "#"))}
    for name, requirement in requirements(CORE).items():
        (bound,), (pin,) = requirement.specifier, pins[name]
        assert pin.operator == "=="
        assert pin.version.removesuffix(".0").removesuffix(".0") == bound.version.removesuffix(".0"), name


def test_importing_manyhands_imports_nothing_heavy():
    code = f"import manyhands, sys; sys.exit(repr({HEAVY!r} & set(sys.modules)) if {HEAVY!r} & set(sys.modules) else 0)"
    subprocess.run([sys.executable, "-c", code], check=True)
