"""What is built and installed: every wheel and sdist, in new environments, with nothing from this checkout."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = [ROOT, ROOT / "core", *sorted(file.parent for file in ROOT.glob("plugins/*/pyproject.toml"))]
INSPECT = """
import importlib.metadata as metadata, json
print(json.dumps({
    dist.name: {
        "version": dist.version,
        "requires": dist.requires or [],
        "entry points": [[e.group, e.name, e.value] for e in dist.entry_points],
        "files": [str(file) for file in dist.files],
    }
    for dist in metadata.distributions() if dist.name.startswith("manyhands")
}))
"""


QUICKLY = {"PIP_NO_COMPILE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def run(*command, env=(), **options):
    env = {**os.environ, **QUICKLY, **dict(env)}
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, env=env, **options).stdout


def build(folder, out, **env):
    """The wheel and the sdist of a folder, built where it is by the hatchling of this environment."""
    run(sys.executable, "-m", "hatchling", "build", "-d", out, cwd=folder, env=env)
    return out


def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode())


def folders_of_the_root(folder, names):
    """What to leave out of a copy: the metapackage is made of the files in the root alone."""
    return [name for name in names if Path(folder) == ROOT and (ROOT / name).is_dir()]


@pytest.fixture(scope="session")
def release(tmp_path_factory):
    """The files of a release: a wheel and an sdist of every distribution."""
    out = tmp_path_factory.mktemp("release")
    for folder in FOLDERS:
        build(folder, out, MANYHANDS_RELEASE="1")
    return out


@pytest.fixture(scope="session")
def version(release):
    (wheel,) = release.glob("manyhands-*.whl")
    return metadata(wheel)["Version"]


@pytest.fixture(scope="session")
def installed(release, tmp_path_factory):
    """A new environment with the release installed from its wheels; returns its folder of programs."""
    home = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", home)
    programs = home / ("Scripts" if os.name == "nt" else "bin")
    run(programs / "python", "-m", "pip", "install", "-q", *release.glob("*.whl"))
    return programs


@pytest.fixture(scope="session")
def dists(installed):
    return json.loads(run(installed / "python", "-I", "-c", INSPECT))


def test_a_release_is_a_wheel_and_an_sdist_of_each_distribution(release, version):
    wheels = {wheel.name.split("-")[0] for wheel in release.glob("*.whl")}
    sdists = {sdist.name.removesuffix(f"-{version}.tar.gz") for sdist in release.glob("*.tar.gz")}
    assert wheels == sdists == {"manyhands"} | {f"manyhands_{folder.name}" for folder in FOLDERS[1:]}


def test_wheels_say_who_they_are(release, version):
    for wheel in release.glob("*.whl"):
        about = metadata(wheel)
        assert about["Version"] == version
        assert about["Requires-Python"] == ">=3.11"
        assert about["License-Expression"] == "Apache-2.0"
        assert about["License-File"] == "LICENSE"
        assert "Typing :: Typed" in about.get_all("Classifier")


def test_a_released_metapackage_pins_its_siblings(release, version):
    (wheel,) = release.glob("manyhands-*.whl")
    about = metadata(wheel)
    assert {"dask", "ray", "all"} == set(about.get_all("Provides-Extra"))
    requires = about.get_all("Requires-Dist")
    assert f"manyhands-core=={version}" in requires
    assert all(f"=={version}" in requirement for requirement in requires)
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]


def test_a_released_sdist_of_the_metapackage_needs_no_checkout(release, version, tmp_path):
    (sdist,) = release.glob("manyhands-*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (wheel,) = build(tmp_path / f"manyhands-{version}", tmp_path / "out").glob("*.whl")
    assert f"manyhands-core=={version}" in metadata(wheel).get_all("Requires-Dist")


def test_in_a_checkout_the_metapackage_points_at_its_siblings(tmp_path):
    """Also through a path with a space in it."""
    checkout = tmp_path / "a b"
    for folder in FOLDERS:
        (checkout / folder.relative_to(ROOT)).mkdir(parents=True)
        shutil.copy(folder / "pyproject.toml", checkout / folder.relative_to(ROOT))
    for file in ("hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, checkout)
    (wheel,) = build(checkout, tmp_path / "out", MANYHANDS_RELEASE="").glob("*.whl")
    requires = metadata(wheel).get_all("Requires-Dist")
    assert f"manyhands-core @ {(checkout / 'core').as_uri()}" in requires
    assert f"manyhands-sync @ {(checkout / 'plugins' / 'sync').as_uri()}" in requires
    assert "a%20b" in requires[0]


def test_an_sdist_holds_the_sources_and_nothing_else(tmp_path):
    """A virtual environment, a cache or an output beside the sources does not get in."""
    for folder in FOLDERS:
        copy = tmp_path / folder.name
        shutil.copytree(folder, copy, ignore=folders_of_the_root)
        for stray in (".venv", "out", ".tox"):
            (copy / stray).mkdir()
            (copy / stray / "stray.txt").write_text("stray")
        (sdist,) = build(copy, tmp_path / f"{folder.name}-out").glob("*.tar.gz")
        with tarfile.open(sdist) as archive:
            names = {name.split("/")[1] for name in archive.getnames()}
        extra = {"hatch_build.py", "CHANGELOG.md"} if folder == ROOT else {"src", "tests"}
        assert names - {".gitignore"} == {"pyproject.toml", "README.md", "LICENSE", "PKG-INFO"} | extra


def test_the_installed_release_is_complete(dists, version):
    assert {name for name in dists if name != "manyhands"} == {f"manyhands-{folder.name}" for folder in FOLDERS[1:]}
    for name, dist in dists.items():
        assert dist["version"] == version
        assert any(file.endswith("licenses/LICENSE") for file in dist["files"])
        package = name.replace("-", "_").replace("manyhands_core", "manyhands")
        assert name == "manyhands" or f"{package}/py.typed" in dist["files"]


def test_the_program_and_the_plugins_are_registered(dists):
    assert sorted(dists["manyhands-core"]["entry points"]) == [
        ["console_scripts", "manyhands", "manyhands.cli.main:main"],
        ["pytest11", "manyhands", "manyhands.testing.plugin"],
    ]
    for folder in FOLDERS[2:]:
        point = ["manyhands", folder.name, f"manyhands_{folder.name}.plugin"]
        assert dists[f"manyhands-{folder.name}"]["entry points"] == [point]


def test_the_installed_program_runs(installed, version, tmp_path):
    assert version in run(installed / "manyhands", "--version", cwd=tmp_path)
    listed = run(installed / "manyhands", "backends", "--json", cwd=tmp_path)
    assert "sync" in listed


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only a git checkout tells what a clean clone has")
def test_the_first_command_of_the_readme_runs_and_leaves_the_checkout_clean(tmp_path):
    """From a copy of what is in git, in a folder with a space in its name."""
    clone = tmp_path / "a clone"
    listed = run("git", "ls-files", "-co", "--exclude-standard", "-z", cwd=ROOT).split("\0")
    for name in filter(lambda name: (ROOT / name).is_file(), listed):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
    run("git", "init", "-q", cwd=clone)
    run("git", "add", "-A", cwd=clone)
    before = run("git", "status", "--porcelain", cwd=clone)
    command = next(line for line in (ROOT / "README.md").read_text().splitlines() if "pip install ." in line)
    run("bash", "-c", command, cwd=clone)
    assert run("git", "status", "--porcelain", cwd=clone) == before
