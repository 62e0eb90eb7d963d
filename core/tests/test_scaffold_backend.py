"""A new backend's folder: what it holds, which names are refused, and that nothing is overwritten."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest

from manyhands import __version__
from manyhands.errors import OutputError, UsageError
from manyhands.scaffold.backend import new_backend

from .jobs import files, manyhands, plugin_code, write_plugin

FILES = {
    ".github/workflows/ci.yml",
    ".gitignore",
    "README.md",
    "pyproject.toml",
    "src/manyhands_my_cluster/__init__.py",
    "src/manyhands_my_cluster/executor.py",
    "src/manyhands_my_cluster/plugin.py",
    "src/manyhands_my_cluster/py.typed",
    "tests/test_conformance.py",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return new_backend("my-cluster", tmp_path)


def test_it_is_a_complete_distribution(folder: Path) -> None:
    assert folder.name == "manyhands-my-cluster"
    assert {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()} == FILES


def test_nothing_is_left_to_be_filled_in(folder: Path) -> None:
    texts = {name: (folder / name).read_text() for name in FILES}
    for name, text in texts.items():
        assert "$" not in text.replace("${{ matrix.python }}", ""), name
        if name.endswith(".py"):
            ast.parse(text)
    assert len(texts["tests/test_conformance.py"].splitlines()) <= 20
    assert "class MyClusterExecutor(BaseExecutor)" in texts["src/manyhands_my_cluster/executor.py"]


def test_it_says_that_its_workflow_needs_a_release(folder: Path) -> None:
    for name in ("README.md", ".github/workflows/ci.yml"):
        assert "a release of the manyhands that" in (folder / name).read_text().replace("`", "")


def test_it_is_found_by_its_name_and_requires_this_version(folder: Path) -> None:
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == "manyhands-my-cluster"
    assert project["entry-points"]["manyhands"] == {"my-cluster": "manyhands_my_cluster.plugin"}
    major, minor = map(int, __version__.split(".")[:2])
    bounds = f">={major}.{minor},<{major}.{minor + 1}"
    assert project["dependencies"] == [f"manyhands-core{bounds}"]
    testing = [f"manyhands-core[testing]{bounds}", f"manyhands-sync{bounds}"]
    assert project["optional-dependencies"] == {"test": testing}


def test_the_command_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    done = manyhands("new", "backend", "mine", "--into", "a b", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[1:] == ["  cd 'a b/manyhands-mine'", '  pip install -e ".[test]"', "  pytest"]
    assert files(tmp_path / "a b") == {"manyhands-mine"}


@pytest.mark.parametrize("name", ["base", "executor", "run", "worker"])
def test_no_class_has_the_name_of_what_it_is_made_of(tmp_path: Path, name: str) -> None:
    folder = new_backend(name, tmp_path)
    for file in folder.rglob("*.py"):
        tree = ast.parse(file.read_text())
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert imported.isdisjoint(node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)), file


@pytest.mark.parametrize("name", ["", "1a", "a_b", "A", "a--b", "-a", "a-", "a.b", "../a", "schön", "a\n", "class"])
def test_a_name_that_cannot_be_used_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a backend"):
        new_backend(name, tmp_path)
    assert files(tmp_path) == set()


@pytest.mark.parametrize("name", ["sync", "threads", "multiprocessing", "core", "dask", "ray", "zoosync"])
def test_a_name_of_ours_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"the name '{name}' is taken"):
        new_backend(name, tmp_path)
    assert files(tmp_path) == set()


def test_the_name_of_a_strangers_backend_is_refused(tmp_path: Path) -> None:
    site = write_plugin(tmp_path / "site", "strange", plugin_code("strange"))
    done = manyhands("new", "backend", "strange", cwd=tmp_path, site=site)
    assert done.returncode == 2
    message = "the name 'strange' is taken: fake-strange is installed and brings a backend of that name; choose another"
    assert done.stderr == f"manyhands: {message}\n"
    assert files(tmp_path) == {"site"}


def test_nothing_is_overwritten(folder: Path) -> None:
    (folder / "README.md").write_text("mine")
    done = manyhands("new", "backend", "my-cluster", cwd=folder.parent)
    assert done.returncode == 2
    assert done.stderr.startswith("manyhands: cannot write manyhands-my-cluster: it exists")
    assert len(done.stderr.splitlines()) == 1
    assert (folder / "README.md").read_text() == "mine"


@pytest.mark.parametrize("there", ["file", "empty folder", "link to nothing"])
def test_whatever_has_the_name_is_left_alone(tmp_path: Path, there: str) -> None:
    path = tmp_path / "manyhands-mine"
    makers = {"file": path.touch, "empty folder": path.mkdir, "link to nothing": lambda: path.symlink_to("nothing")}
    makers[there]()
    with pytest.raises(OutputError, match="it exists"):
        new_backend("mine", tmp_path)
    assert files(tmp_path) == {"manyhands-mine"}
    assert path.is_file() == (there == "file")
    assert path.is_symlink() == (there == "link to nothing")
    assert not path.is_dir() or files(path) == set()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the folder .*gone does not exist; create it first"):
        new_backend("mine", tmp_path / "gone")


@pytest.mark.skipif(sys.platform == "win32", reason="there the current folder cannot be removed")
def test_a_current_folder_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(OutputError, match="cannot write manyhands-mine: the current folder is no longer there"):
        new_backend("mine", Path())


def test_what_fails_midway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []

    def full(file: Path, text: str, **options: object) -> None:
        if written:
            raise OSError(28, "No space left on device")
        written.append(file)
        file.touch()

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="No space left on device"):
        new_backend("mine", tmp_path)
    assert written
    assert files(tmp_path) == set()
