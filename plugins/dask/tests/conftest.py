"""Fixtures of the tests of this backend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("distributed")

from .clusters import Cluster, cluster


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    """A cluster of two workers for all tests of a module, which leave it as it is."""
    with cluster() as made:
        yield made
