"""Shared memory: nobody can be left with it, and only its user can open it."""

from __future__ import annotations

import mmap
import os
import stat
import sys

import pytest

from manyhands_zoosync import segment as segments
from manyhands_zoosync.segment import Segment


@pytest.fixture(params=["memory", "file"])
def segment(request, monkeypatch):
    if request.param == "file":
        monkeypatch.delattr(os, "memfd_create")
    elif not hasattr(os, "memfd_create"):
        pytest.skip("there is none")
    made = Segment.create(8192)
    yield made
    made.close()


def test_new_memory_is_zero_and_seen_by_whoever_has_the_descriptor(segment):
    other = Segment(os.dup(segment.descriptor), 8192)
    assert bytes(other.view(0, 8192)) == bytes(8192)
    segment.words(64, 2)[1] = (1 << 64) - 1
    other.view(100, 3)[:] = b"abc"
    assert list(other.words(64, 3)) == [0, (1 << 64) - 1, 0]
    assert bytes(segment.view(99, 5)) == b"\0abc\0"
    other.close()


def test_it_is_open_to_its_user_alone_and_has_no_name(segment):
    found = os.fstat(segment.descriptor)
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert found.st_nlink == 0
    assert not os.get_inheritable(segment.descriptor)


def test_a_name_that_it_has_for_a_moment_says_whose_it_is(monkeypatch):
    names = []
    monkeypatch.delattr(os, "memfd_create", raising=False)
    make = segments.tempfile.mkstemp
    monkeypatch.setattr(segments.tempfile, "mkstemp", lambda prefix: names.append(prefix) or make(prefix=prefix))
    Segment.create(10).close()
    assert names[0].startswith(f"manyhands-{os.getpid()}-")


def test_closing_twice_and_while_somebody_has_a_slice_is_no_error(segment):
    words, piece = segment.words(0, 4), segment.view(0, 64)[8:16]
    segment.close()
    segment.close()
    with pytest.raises(ValueError, match="released"):
        words[0]
    assert bytes(piece) == bytes(8)  # still mapped


@pytest.mark.skipif(sys.platform != "linux", reason="files elsewhere have no seals")
def test_nobody_can_make_it_shorter():
    segment = Segment.create(8192)
    with pytest.raises(PermissionError):
        os.ftruncate(segment.descriptor, 0)
    segment.close()


def test_what_cannot_be_mapped_leaves_no_descriptor(monkeypatch):
    def refuse(*_):
        raise OSError("no memory")

    monkeypatch.setattr(mmap, "mmap", refuse)
    with pytest.raises(OSError, match="no memory"):
        Segment.create(10)
