"""What workers print becomes lines of a log; and which start methods there are."""

import logging
import os

import pytest

from manyhands.errors import OptionsError
from manyhands.processes.launch import make_launcher
from manyhands.processes.output import WorkerLog


def logged(caplog: pytest.LogCaptureFixture, *parts: bytes) -> list[str]:
    """The messages for an output that comes in these parts."""
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="manyhands.worker"):
        log = WorkerLog(12)
        for part in parts:
            log.feed(part)
        log.close()
        log.close()
    assert {(record.name, record.levelno) for record in caplog.records} <= {("manyhands.worker", logging.INFO)}
    assert all(message.startswith("worker 12: ") for message in caplog.messages)
    return [message.removeprefix("worker 12: ") for message in caplog.messages]


def test_each_line_is_a_message(caplog: pytest.LogCaptureFixture) -> None:
    assert logged(caplog, b"one\ntwo\r\n\nfour\rfive\nsix") == ["one", "two", "", "four\rfive", "six"]
    assert logged(caplog) == []
    assert logged(caplog, b"") == []
    assert logged(caplog, b"done\n") == ["done"]


def test_where_the_parts_are_cut_does_not_matter(caplog: pytest.LogCaptureFixture) -> None:
    text = "one\r\nzwölf €\n\nend".encode()
    expected = ["one", "zwölf €", "", "end"]
    for cut in range(len(text) + 1):
        assert logged(caplog, text[:cut], text[cut:]) == expected
    assert logged(caplog, *(bytes([byte]) for byte in text)) == expected


def test_lines_are_logged_when_they_are_complete(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="manyhands.worker"):
        log = WorkerLog(12)
        log.feed(b"one\ntw")
        assert caplog.messages == ["worker 12: one"]
        log.feed(b"o\n")
        assert caplog.messages == ["worker 12: one", "worker 12: two"]


def test_bytes_that_are_no_text_are_shown(caplog: pytest.LogCaptureFixture) -> None:
    assert logged(caplog, b"a\xff\xc3\n\x80") == ["a\\xff\\xc3", "\\x80"]


@pytest.mark.parametrize("letter", ["x", "ö", "€", "🙂"])
def test_a_line_without_end_is_logged_in_pieces(letter: str, caplog: pytest.LogCaptureFixture) -> None:
    text = ("a" + letter * 150_000).encode()
    for parts in ([text], [text[start : start + 4096] for start in range(0, len(text), 4096)]):
        messages = logged(caplog, *parts)
        assert "".join(messages) == text.decode()
        assert all(64 * 1024 - 3 <= len(message.encode()) <= 64 * 1024 for message in messages[:-1])
        assert len(messages) == len(text) // (64 * 1024) + 1


def test_a_long_line_that_is_no_text_is_logged_in_pieces(caplog: pytest.LogCaptureFixture) -> None:
    assert logged(caplog, b"\x80" * 100_000) == ["\\x80" * 65_536, "\\x80" * (100_000 - 65_536)]


def test_an_unknown_start_method_is_an_error() -> None:
    with pytest.raises(OptionsError, match=r"start_method must be one of spawn, forkserver, not 'nonsense'$"):
        make_launcher("nonsense")  # type: ignore[arg-type]


def test_a_system_without_such_processes_is_told_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(os, "name", "nt")
        with pytest.raises(OptionsError, match=r"need a POSIX system.*threads"):
            make_launcher("spawn")
