"""The backend keeps the contract of an executor, on a cluster that it did not start.

The program is connected once for all cases: each connection that Ray ends leaves two descriptors open.
"""

from contextlib import contextmanager

from manyhands.testing import ExecutorTests

from .support import connected, head


class TestRay(ExecutorTests):
    backend = "ray"
    options = {"max_workers": 2}

    @contextmanager
    def cluster(self):
        with head() as running, connected(running.address):
            yield {"address": running.address}
