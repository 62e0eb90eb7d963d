"""A backend over loky, written with no more than the documentation, passes the whole kit."""

from importlib import import_module
from multiprocessing import forkserver
from pathlib import Path

import pytest
from tests.strangers.site import install

from manyhands.testing import ExecutorTests


@pytest.fixture(scope="class")
def _installed(tmp_path_factory):
    pytest.importorskip("loky")
    import_module("tests.strangers.loky_backend.executor")  # says what the server is to load

    forkserver.ensure_running()  # a process that Python keeps
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(install(tmp_path_factory.mktemp("site"), "tests.strangers.loky_backend.plugin", "loky"))
        yield


def test_it_is_as_short_as_the_documentation_says():
    files = Path(__file__).with_name("strangers").joinpath("loky_backend").glob("*.py")
    assert sum(len(file.read_text().splitlines()) for file in files) <= 120


@pytest.mark.manyhands_needs("loky")
@pytest.mark.usefixtures("_installed")
class TestLoky(ExecutorTests):
    backend = "loky"
    options = {"max_workers": 2}
