"""A backend over loky, written with no more than the documentation, passes the whole kit."""

import pytest
from tests.strangers.site import install

from manyhands.testing import ExecutorTests


@pytest.fixture(scope="class", autouse=True)
def _installed(tmp_path_factory):
    pytest.importorskip("loky.backend.resource_tracker").ensure_running()  # a process that loky keeps, as Python does
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(install(tmp_path_factory.mktemp("site"), "tests.strangers.loky_backend.plugin", "loky"))
        yield


@pytest.mark.manyhands_needs("loky")
@pytest.mark.chaos
class TestLoky(ExecutorTests):
    backend = "loky"
    options = {"max_workers": 2}
