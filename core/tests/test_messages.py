"""Messages on the pipe of a worker, in whatever pieces they come."""

from __future__ import annotations

import os
import threading
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from manyhands.processes.messages import Message, Unframer, frame, write_all

PURE = settings(derandomize=True, deadline=None, max_examples=200)

payloads = st.binary(max_size=64) | st.sampled_from([b"", b"x" * 65_535, b"y" * 65_536, b"z" * 200_000])
messages = st.builds(Message, st.integers(0, 255), st.binary(max_size=64), st.tuples(payloads, payloads))


def stream_of(sent: list[Message]) -> bytes:
    return b"".join(bytes(part) for each in sent for part in frame(each.kind, each.header, *each.parts))


@PURE
@given(st.lists(messages, max_size=6), st.data())
@example([Message(1)], None)
def test_any_cut_of_the_stream_gives_the_same_messages(sent: list[Message], data: st.DataObject | None) -> None:
    stream = stream_of(sent)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20)) if data else range(len(stream))
    ends = [0, *sorted(cuts), len(stream)]
    unframer, came = Unframer(), list[Message]()
    for begin, end in pairwise(ends):
        came += unframer.feed(stream[begin:end])
    assert came == sent
    assert unframer.feed(b"") == []


@PURE
@given(st.lists(messages, min_size=1, max_size=6))
def test_a_message_comes_as_soon_as_its_last_byte_is_there(sent: list[Message]) -> None:
    unframer = Unframer()
    for each in sent:
        stream = stream_of([each])
        assert unframer.feed(stream[:-1]) == []
        assert unframer.feed(stream[-1:]) == [each]


def test_byte_by_byte() -> None:
    sent = [Message(5, b"head", (b"first", b"")), Message(0), Message(255, b"", (b"", b"second"))]
    unframer = Unframer()
    assert [each for byte in stream_of(sent) for each in unframer.feed(bytes([byte]))] == sent


def test_what_is_large_is_not_copied() -> None:
    large, view = b"x" * 100_000, memoryview(b"y" * 100_000)
    head, first, second = frame(1, b"head", large, view)
    assert (first, second) == (large, view)
    assert first is large
    assert second is view
    assert len(head) == 21 + 4


def test_what_is_small_is_one_buffer() -> None:
    assert len(frame(1, b"head", b"first", b"second")) == 1
    assert len(frame(1)) == 1


def test_any_kind_of_buffer_is_written() -> None:
    small = frame(3, bytearray(b"head"), memoryview(b"first"), bytearray(b"second"))
    assert Unframer().feed(b"".join(map(bytes, small))) == [Message(3, b"head", (b"first", b"second"))]


def test_all_is_written_to_a_pipe_that_takes_little_at_a_time() -> None:
    read, write = os.pipe()
    sent = [Message(1, b"a", (b"x" * 300_000, b"y" * 10)), Message(2, b"", (b"", b"z" * 200_000))]

    def send() -> None:
        for each in sent:
            write_all(write, frame(each.kind, each.header, *each.parts))
        os.close(write)

    sender = threading.Thread(target=send)
    sender.start()
    unframer, came = Unframer(), list[Message]()
    while data := os.read(read, 10_000):
        came += unframer.feed(data)
    sender.join()
    os.close(read)
    assert came == sent


def test_writing_to_nobody_is_an_error() -> None:
    read, write = os.pipe()
    os.close(read)
    with pytest.raises(BrokenPipeError):
        write_all(write, frame(1, b"head"))
    os.close(write)
