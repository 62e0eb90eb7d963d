"""Inputs are read whatever their encoding; damaged ones are told, not swallowed."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path

import pytest

from manyhands.adapters.input_file import InputFile, TranscodedFile
from manyhands.errors import InputError, SourceError

from .file_support import content_of, no_privileges


def test_an_input_that_may_not_be_read_is_told() -> None:
    with (
        no_privileges(lambda folder: (folder / "a.csv").touch(mode=0o000)) as folder,
        pytest.raises(InputError, match=r"a\.csv: Permission denied"),
    ):
        InputFile(folder / "a.csv")


@pytest.mark.parametrize(
    ("name", "words"),
    [("missing.csv", "No such file or directory"), (".", "Is a directory"), ("a\0b", "null (byte|character)")],
)
def test_an_input_that_cannot_be_opened_is_told(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        InputFile(tmp_path / name)


def damaged(kind: str) -> bytes:
    data = bytearray(gzip.compress(os.urandom(50_000)))
    if kind == "cut off":
        return bytes(data[:-20_000])
    if kind == "no gzip":
        return b"a,b\n1,2\n"
    if kind == "trailing garbage":
        return bytes(data) + b"garbage"
    data[-6 if kind == "size" else len(data) // 2] ^= 0xFF
    return bytes(data)


@pytest.mark.parametrize("kind", ["cut off", "no gzip", "trailing garbage", "size", "middle"])
def test_damaged_gzip_is_a_source_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(damaged(kind))
    with pytest.raises(SourceError, match=r"cannot go on reading .*a\.csv\.gz: "):
        content_of(path)


def test_gzip_of_several_members_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"one") + gzip.compress(b"two"))
    assert content_of(path) == b"onetwo"


def test_the_fraction_read_grows_to_one(tmp_path: Path) -> None:
    for name, data in (("a.csv", bytes(100_000)), ("a.csv.gz", gzip.compress(os.urandom(100_000)))):
        (tmp_path / name).write_bytes(data)
        file = InputFile(tmp_path / name)
        seen = [file.consumed()]
        while file.read(10_000):
            seen.append(file.consumed())
        assert seen[0] == 0.0
        assert seen == sorted(seen, key=lambda fraction: fraction or 0.0)
        assert seen[-1] == 1.0
        file.close()
        file.close()
        assert file.consumed() == 1.0


def test_the_fraction_of_an_empty_file_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    file = InputFile(tmp_path / "a.csv")
    assert file.consumed() is None
    file.close()


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-7", "shift_jis", "cp037"])
def test_any_encoding_is_read_as_utf8_whatever_is_split(tmp_path: Path, encoding: str, size: int) -> None:
    text = "a,b\r\n1,2\n" + ("é" if encoding == "cp037" else "日本")
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    file = TranscodedFile(InputFile(tmp_path / "a.csv"), encoding)
    assert b"".join(iter(lambda: file.read(size), b"")).decode() == text
    assert file.consumed() == 1.0
    file.close()


def test_what_is_no_text_in_its_encoding_is_a_source_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("abc".encode("utf-16") + b"x")
    file = TranscodedFile(InputFile(tmp_path / "a.csv"), "utf-16")
    with pytest.raises(SourceError, match="not valid utf-16"):
        list(iter(lambda: file.read(100), b""))
    file.close()


def test_blocks_do_not_depend_on_how_a_pipe_is_filled(tmp_path: Path) -> None:
    fifo = tmp_path / "rows"
    os.mkfifo(fifo)

    def fill() -> None:
        with fifo.open("wb", buffering=0) as file:
            for _ in range(20):
                file.write(b"x" * 100)

    thread = threading.Thread(target=fill)
    thread.start()
    file = InputFile(fifo)
    assert [len(file.read(1500)) for _ in range(3)] == [1500, 500, 0]
    file.close()
    thread.join()
