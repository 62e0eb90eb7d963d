"""A new backend, as a stranger begins with it: built, installed and held to the contract, all of it unedited."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from manyhands.scaffold.backend import new_backend

ROOT = Path(__file__).parents[1]


def python(*arguments, cwd, **env):
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, check=False, cwd=cwd, env=os.environ | env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return new_backend("my-own", tmp_path_factory.mktemp("new"))


@pytest.fixture(scope="module")
def site(folder, tmp_path_factory):
    """A folder for PYTHONPATH into which the backend is installed from its wheel; needs no network."""
    out, site = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("site")
    python("-m", "hatchling", "build", "-d", out, cwd=folder)
    assert list(out.glob("manyhands_my_own-0.1.0.tar.gz"))
    (wheel,) = out.glob("*.whl")
    python("-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", site, wheel, cwd=out)
    return site


def test_it_is_listed_with_the_others(site, tmp_path):
    listed = python("-m", "manyhands", "backends", cwd=tmp_path, PYTHONPATH=str(site))
    (line,) = (line for line in listed.splitlines() if line.startswith("my-own"))
    assert "manyhands-my-own 0.1.0" in " ".join(line.split())


def test_it_passes_the_conformance_tests_unedited(site, folder, tmp_path):
    options = ("-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 't'}")
    shown = python("-m", "pytest", *options, cwd=folder, PYTHONPATH=str(site))
    assert " passed" in shown
    assert "xfailed" not in shown


def test_the_wheel_of_core_has_the_templates(tmp_path):
    python("-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, cwd=ROOT / "core")
    (wheel,) = tmp_path.glob("*.whl")
    templates = {file.relative_to(ROOT / "core/src").as_posix() for file in ROOT.glob("core/src/**/*.template")}
    assert len(templates) > 10
    assert templates <= set(zipfile.ZipFile(wheel).namelist())
