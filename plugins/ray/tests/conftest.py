"""What the tests of this backend share: Ray keeps to this machine, and one head serves many of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .support import Head, head


@pytest.fixture(scope="session")
def cluster() -> Iterator[Head]:
    """A cluster with two CPUs."""
    with head() as running:
        yield running
