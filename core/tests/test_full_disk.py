"""A full disk is told, publishes nothing, and leaves whole records."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from manyhands.adapters import aside
from manyhands.adapters.output_file import OutputFile
from manyhands.errors import SinkError

from .file_support import names, needs_locks, partial_of, tmpfs


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz"])
def test_a_full_disk_is_a_sink_error_and_nothing_is_published(tmp_path: Path, name: str) -> None:
    with tmpfs(tmp_path / "small", "size=64k") as folder:
        (folder / name).write_bytes(b"old")
        file = OutputFile(folder / name)
        with pytest.raises(SinkError, match=r"No space left on device; what is complete so far is in .*\.partial"):
            fill(file)
        file.discard()
        assert names(folder) == [name, f"{name}.partial"]
        assert (folder / name).read_bytes() == b"old"


def write_all(file: OutputFile, pieces: list[bytes]) -> None:
    for piece in pieces:
        file.write(piece)


def fill(file: OutputFile) -> None:
    for _ in range(100):
        file.write(os.urandom(5000))
    file.finish()
    file.publish()


@pytest.mark.parametrize("nbytes", [30, 3_000, 300_000])
def test_what_a_full_disk_leaves_aside_ends_with_a_whole_record(tmp_path: Path, nbytes: int) -> None:
    record = b"x" * (nbytes - 1) + b"\n"
    with tmpfs(tmp_path / "small", "size=1m") as folder:
        file = OutputFile(folder / "out.jsonl")
        with pytest.raises(SinkError, match="No space left on device"):
            write_all(file, [record] * (2_000_000 // nbytes))
        file.discard()
        left = (folder / "out.jsonl.partial").read_bytes()
        assert len(left) > 500_000
        assert left == record * (len(left) // nbytes)


@pytest.mark.parametrize(("line", "quotes"), [(b'1,"a ""b""\nc"\n', True), (b'{"a":"\\""}\n', False)])
def test_a_piece_of_many_records_is_cut_where_one_ends(tmp_path: Path, line: bytes, *, quotes: bool) -> None:
    with tmpfs(tmp_path / "small", "size=64k") as folder:
        file = OutputFile(folder / "out.csv", quotes=quotes)
        with pytest.raises(SinkError, match="No space left on device"):
            write_all(file, [line * 10_000] * 2)
        file.discard()
        left = (folder / "out.csv.partial").read_bytes()
        assert len(left) > 64 * 1024 - 2 * 2 * len(line)
        assert left == line * (len(left) // len(line))


def test_a_disk_that_is_full_when_a_part_is_appended_leaves_what_was_before(tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(b"2" * 100_000)
    with tmpfs(tmp_path / "small", "size=64k") as folder:
        file = OutputFile(folder / "out.jsonl")
        file.write(b"1\n" * 5_000)
        with pytest.raises(SinkError, match="No space left on device"):
            file.append(part)
        file.discard()
        assert (folder / "out.jsonl.partial").read_bytes() == b"1\n" * 5_000


@needs_locks
def test_a_part_that_could_not_be_appended_may_be_appended_again(tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(b"2\n" * 50_000)
    with tmpfs(tmp_path / "small", "size=128k") as folder:
        (folder / "ballast").write_bytes(bytes(64 * 1024))
        file = OutputFile(folder / "out.jsonl")
        file.write(b"1\n")
        with pytest.raises(SinkError, match="No space left on device"):
            file.append(part)
        (folder / "ballast").unlink()
        file.append(part)
        file.discard()
        assert (folder / "out.jsonl.partial").read_bytes() == b"1\n" + b"2\n" * 50_000


def test_what_was_emptied_to_make_room_is_let_go_of(tmp_path: Path) -> None:
    file = OutputFile(tmp_path / "out.jsonl")
    file.write(b"1\n" * 100_000)
    os.truncate(partial_of(tmp_path / "out.jsonl"), 0)
    file.write(b"1\n" * 100_000)
    os.truncate(partial_of(tmp_path / "out.jsonl"), 0)
    file.discard()
    OutputFile(tmp_path / "out.jsonl").discard()


def test_a_full_disk_under_a_part_names_the_output(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", "size=64k") as folder:
        file = OutputFile(folder / "out.jsonl.part-0001", whole=folder / "out.jsonl")
        with pytest.raises(SinkError) as caught:
            fill(file)
        file.discard()
    assert str(caught.value).startswith(f"cannot write {folder}/out.jsonl, part {folder}/out.jsonl.part-0001: No space")
    assert str(caught.value).endswith(
        f"parts that are complete from its beginning on, if any, are in {folder}/out.jsonl.partial"
    )


def test_the_place_behind_a_link_is_where_a_part_says_that_the_rest_is(tmp_path: Path) -> None:
    link = tmp_path / "out.jsonl"
    with tmpfs(tmp_path / "small", "size=64k") as folder:
        link.symlink_to(folder / "out.jsonl")
        file = OutputFile(folder / "out.jsonl.part-0001", whole=link)
        with pytest.raises(SinkError, match=f"are in {folder}/out.jsonl.partial$"):
            fill(file)
        file.discard()


def test_a_disk_that_is_told_to_be_full_when_the_file_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a network file system may."""
    monkeypatch.setattr(aside, "buffered", lambda descriptor: io.BufferedRandom(OverQuota(descriptor, "r+")))
    file = OutputFile(tmp_path / "out.jsonl")
    file.write(b"1\n")
    file.discard()
    assert names(tmp_path) == ["out.jsonl.partial"]


class OverQuota(io.FileIO):
    def close(self) -> None:
        was_open = not self.closed
        super().close()
        if was_open:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")


def test_a_disk_that_fills_with_the_last_bytes_fails_in_finish(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "small", "size=16k") as folder:
        (folder / "ballast").write_bytes(bytes(16 * 1024))
        file = OutputFile(folder / "out.csv")
        file.write(b"it fits the buffer")
        with pytest.raises(SinkError, match="No space left on device"):
            file.finish()
        file.discard()
        assert names(folder) == ["ballast"]


def test_a_file_size_limit_is_a_sink_error_and_nothing_is_published(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "out.csv"
    code = (
        "from pathlib import Path\nfrom manyhands.adapters.output_file import *\n"
        f"file = OutputFile(Path({str(path)!r}))\n"
        "try:\n    file.write(b'1\\n' * 50_000); file.finish(); file.publish()\n"
        "except SinkError as error:\n    file.discard(); print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "File too large; what is complete so far is in" in done.stdout
    assert done.stderr == ""
    assert names(tmp_path) == ["out.csv.partial"]
