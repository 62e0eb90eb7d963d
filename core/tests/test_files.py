"""Outputs appear when they are complete and not before; damaged inputs are told, not swallowed."""

from __future__ import annotations

import errno
import gzip
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from manyhands.adapters import files, following
from manyhands.adapters.files import InputFile, OutputFile, TranscodedFile
from manyhands.errors import InputError, OutputError, SinkError, SourceError

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
needs_locks = pytest.mark.skipif(files.fcntl is None, reason="this system has no flock")
NOBODY = 65534


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def partial_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.partial")


@contextmanager
def no_privileges(prepare: Callable[[Path], None]) -> Iterator[Path]:
    """Act as a user whom file permissions bind; gives a prepared folder that this user can reach."""
    shm = Path("/dev/shm")
    if IS_ROOT and not shm.is_dir():
        pytest.skip("root is not bound by permissions, and there is no folder open to everyone")
    with tempfile.TemporaryDirectory(dir=shm if IS_ROOT else None) as name:
        folder = Path(name)
        folder.chmod(0o755)
        prepare(folder)
        if IS_ROOT:
            os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            if IS_ROOT:
                os.seteuid(0)


@contextmanager
def tmpfs(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz"])
def test_nothing_has_the_final_name_before_publish(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    file = OutputFile(path)
    file.write(b"abc" * 100_000)
    assert names(tmp_path) == [f"{name}.partial"]
    file.finish()
    assert names(tmp_path) == [f"{name}.partial"]
    file.publish()
    assert names(tmp_path) == [name]
    assert content_of(path) == b"abc" * 100_000


def content_of(path: Path) -> bytes:
    file = InputFile(path)
    try:
        return b"".join(iter(lambda: file.read(1000), b""))
    finally:
        file.close()


def test_an_old_output_stays_whole_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        file = OutputFile(path)
        file.write(b"new")
        file.finish()
        assert path.read_bytes() == b"old"
        file.publish()
        assert path.read_bytes() == b"new"
        assert reader.read() == b"old"


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz"])
def test_discard_keeps_what_there_is_under_the_partial_name(tmp_path: Path, name: str, finished: bool) -> None:
    path = tmp_path / name
    file = OutputFile(path)
    file.write(b"abc")
    if finished:
        file.finish()
    file.discard()
    file.discard()
    assert names(tmp_path) == [f"{name}.partial"]
    raw = partial_of(path).read_bytes()
    assert (gzip.decompress(raw) if name.endswith(".gz") else raw) == b"abc"


def test_discard_removes_an_empty_partial_file_and_leaves_an_old_output(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(b"old")
    OutputFile(path).discard()
    assert names(tmp_path) == ["out.csv"]
    assert path.read_bytes() == b"old"


def test_discard_after_publish_leaves_the_output(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    file = OutputFile(path)
    file.finish()
    file.publish()
    file.discard()
    assert names(tmp_path) == ["out.csv"]


def test_a_left_partial_file_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    partial_of(path).write_bytes(b"left by a run that was killed")
    file = OutputFile(path)
    file.write(b"x")
    file.finish()
    file.publish()
    assert path.read_bytes() == b"x"


@needs_locks
def test_a_second_run_into_the_same_output_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    first = OutputFile(path)
    first.write(b"first")
    for other in (path, tmp_path / "link"):
        if other is not path:
            other.symlink_to(path)
        with pytest.raises(OutputError, match="another run is writing it"):
            OutputFile(other)
    code = f"from manyhands.adapters.files import *; OutputFile(Path({str(path)!r}))"
    other_process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "another run is writing it" in other_process.stderr
    first.finish()
    first.publish()
    assert path.read_bytes() == b"first"


@needs_locks
@pytest.mark.parametrize("end", ["publish", "discard"])
def test_a_run_that_ends_just_when_another_begins_keeps_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    path = tmp_path / "out.csv"
    first = OutputFile(path)
    if end == "publish":
        first.write(b"first")
        first.finish()
    lock = files._lock

    def ends_before_the_lock(descriptor: int) -> bool:
        monkeypatch.undo()
        getattr(first, end)()
        return lock(descriptor)

    monkeypatch.setattr(files, "_lock", ends_before_the_lock)
    second = OutputFile(path)
    assert [path.read_bytes()] == [b"first"] if end == "publish" else not path.exists()
    second.write(b"second")
    second.finish()
    second.publish()
    assert path.read_bytes() == b"second"


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are seen in /proc")
@pytest.mark.parametrize("end", ["publish", "discard"])
def test_without_locks_a_file_is_closed_before_it_is_renamed_or_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(files, "fcntl", None)
    file = OutputFile(tmp_path / "out.csv")
    file.finish()

    def open_names() -> list[str]:
        return [str(link.resolve()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]

    seen = []
    for name in ("replace", "unlink"):
        real = getattr(Path, name)
        monkeypatch.setattr(
            Path, name, lambda self, *a, real=real, **k: (seen.append(str(self) in open_names()), real(self, *a, **k))
        )
    assert str(file.partial) in open_names()
    getattr(file, end)()
    assert seen == [False]


def test_gzip_is_the_same_bytes_in_every_run(tmp_path: Path) -> None:
    seen = set()
    for name in ("a.gz", "b.gz"):
        file = OutputFile(tmp_path / name)
        for _ in range(3):
            file.write(b"some text" * 50_000)
        file.finish()
        file.publish()
        seen.add((tmp_path / name).read_bytes())
    (data,) = seen
    assert data[4:8] == bytes(4)
    assert gzip.decompress(data) == b"some text" * 150_000


def test_an_output_is_written_through_a_link_to_where_it_points(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.csv"
    link.symlink_to(tmp_path / "real" / "out.csv")
    file = OutputFile(link)
    file.write(b"x")
    file.finish()
    file.publish()
    assert link.is_symlink()
    assert (tmp_path / "real" / "out.csv").read_bytes() == b"x"


def test_a_missing_folder_is_named_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the folder .*/no/such does not exist; create it first"):
        OutputFile(tmp_path / "no" / "such" / "out.csv")
    assert names(tmp_path) == []


@pytest.mark.parametrize("name", [".", "folder", "fifo"])
def test_an_output_that_is_no_regular_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OutputError, match="not a regular file"):
        OutputFile(tmp_path / name)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (Path("/"), "not a regular file"),
        (Path("/dev/null"), "not a regular file"),
        (Path("a\0b"), "null (byte|character)"),
        (Path("x" * 250), "File name too long"),
        (Path(__file__) / "out.csv", "Not a directory"),
    ],
)
def test_impossible_outputs_are_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match=words):
        OutputFile(path)
    assert names(tmp_path) == []


def test_a_folder_in_the_way_of_the_partial_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "out.csv.partial").mkdir()
    with pytest.raises(OutputError, match=r"out\.csv\.partial is no regular file of its own; move or remove it"):
        OutputFile(tmp_path / "out.csv")


def test_a_partial_file_that_may_not_be_opened_is_told() -> None:
    with (
        no_privileges(lambda folder: [folder.chmod(0o777), (folder / "out.csv.partial").touch(mode=0o400)]) as folder,
        pytest.raises(OutputError, match=r"out\.csv\.partial may not be read and written; remove it"),
    ):
        OutputFile(folder / "out.csv")


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc there")
def test_a_folder_that_takes_no_files_is_not_said_to_be_missing() -> None:
    with pytest.raises(OutputError, match=r"(/proc takes no files|the folder /proc is read-only)$"):
        OutputFile(Path("/proc/out.csv"))


def test_a_read_only_folder_is_named() -> None:
    with (
        no_privileges(lambda folder: folder.chmod(0o555)) as folder,
        pytest.raises(OutputError, match=f"the folder {folder} is read-only"),
    ):
        OutputFile(folder / "out.csv")


def test_an_input_that_may_not_be_read_is_told() -> None:
    with (
        no_privileges(lambda folder: (folder / "a.csv").touch(mode=0o000)) as folder,
        pytest.raises(InputError, match=r"a\.csv: Permission denied"),
    ):
        InputFile(folder / "a.csv")


def test_a_read_only_file_system_is_told(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "ro", "ro") as folder, pytest.raises(OutputError, match="Read-only file system"):
        OutputFile(folder / "out.csv")


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


def fill(file: OutputFile) -> None:
    for _ in range(100):
        file.write(os.urandom(5000))
    file.finish()
    file.publish()


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
        "from manyhands.adapters.files import *\n"
        f"file = OutputFile(Path({str(path)!r}))\n"
        "try:\n    file.write(bytes(100_000)); file.finish(); file.publish()\n"
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


def test_a_folder_that_vanishes_is_a_sink_error(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    file = OutputFile(folder / "out.csv")
    file.finish()
    partial_of(folder / "out.csv").unlink()
    folder.rmdir()
    with pytest.raises(SinkError, match="No such file or directory"):
        file.publish()
    file.discard()


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


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_a_partial_name_that_leads_elsewhere_is_refused(tmp_path: Path, link: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    partial = tmp_path / "out.jsonl.partial"
    partial.symlink_to(victim) if link == "symbolic" else partial.hardlink_to(victim)
    with pytest.raises(OutputError, match="remove it"):
        OutputFile(tmp_path / "out.jsonl")
    assert victim.read_text() == "precious"


def test_an_output_keeps_the_mode_of_the_one_that_it_replaces(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("old")
    path.chmod(0o600)
    file = OutputFile(path)
    assert stat.S_IMODE(file.partial.stat().st_mode) == 0o600
    file.write(b"new")
    file.finish()
    file.publish()
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", 0o600)


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


@needs_locks
def test_the_first_file_that_is_appended_becomes_the_output_and_the_next_are_copied(tmp_path: Path) -> None:
    path, first, second = (tmp_path / name for name in ("out.jsonl", "first", "second"))
    first.write_bytes(b"1\n")
    second.write_bytes(b"2\n")
    inode = first.stat().st_ino
    file = OutputFile(path)
    file.partial.chmod(0o640)
    for part in (first, second):
        file.append(part)
    with pytest.raises(OutputError, match="another run is writing it"):
        OutputFile(path)
    file.write(b"3\n")
    file.finish()
    file.publish()
    assert path.read_bytes() == b"1\n2\n3\n"
    assert (path.stat().st_ino, stat.S_IMODE(path.stat().st_mode)) == (inode, 0o640)
    assert names(tmp_path) == ["out.jsonl", "second"]


@pytest.mark.parametrize("before", [b"", b"head\n"])
@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_what_is_appended_stands_behind_what_was_written(tmp_path: Path, name: str, before: bytes) -> None:
    part = tmp_path / "part"
    part.write_bytes(b"x" * (files._COPY_BYTES + 1))
    file = OutputFile(tmp_path / name)
    file.write(before)
    file.append(part)
    file.write(b"end")
    file.finish()
    file.publish()
    written = (tmp_path / name).read_bytes()
    assert (gzip.decompress(written) if name.endswith(".gz") else written) == before + b"x" * 1048577 + b"end"


@needs_locks
def test_a_file_that_has_another_name_is_copied_and_not_written_into(tmp_path: Path) -> None:
    precious, part = tmp_path / "precious", tmp_path / "part"
    precious.write_bytes(b"1\n")
    part.hardlink_to(precious)
    file = OutputFile(tmp_path / "out.jsonl")
    file.append(part)
    file.write(b"2\n")
    file.finish()
    file.publish()
    assert (precious.read_bytes(), (tmp_path / "out.jsonl").read_bytes()) == (b"1\n", b"1\n2\n")


def test_what_is_not_durable_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[int] = []
    monkeypatch.setattr(os, "fsync", waited.append)
    for durable in (False, True):
        file = OutputFile(tmp_path / "out", durable=durable)
        file.finish()
        file.publish()
        assert len(waited) == durable


@needs_locks
def test_a_part_that_is_followed_while_it_is_written_is_copied_once(tmp_path: Path) -> None:
    whole, part = OutputFile(tmp_path / "out.jsonl"), OutputFile(tmp_path / "part")
    whole.write(b"1\n")
    whole.follow(tmp_path / "not yet begun")
    for data in (b"2\n", b"x" * (9 << 20), b"3"):  # the second is so much that it is synced
        part.write(data)
        part._raw.flush()
        whole.follow(tmp_path / "part")
    part.write(b"\n")
    part.finish()
    part.publish()
    whole.append(tmp_path / "part")
    whole.write(b"4\n")
    whole.finish()
    whole.publish()
    assert (tmp_path / "out.jsonl").read_bytes() == b"1\n2\n" + b"x" * (9 << 20) + b"3\n4\n"


@needs_locks
def test_what_was_copied_of_a_part_whose_writer_died_is_taken_back(tmp_path: Path) -> None:
    whole, dead = OutputFile(tmp_path / "out.jsonl"), OutputFile(tmp_path / "part")
    whole.write(b"1\n")
    dead.write(b"of the dead")
    dead._raw.flush()
    whole.follow(tmp_path / "part")
    (tmp_path / "part.partial").unlink()
    again = OutputFile(tmp_path / "part")
    again.write(b"2\n")
    again.finish()
    again.publish()
    dead.discard()
    whole.append(tmp_path / "part")
    whole.finish()
    whole.publish()
    assert (tmp_path / "out.jsonl").read_bytes() == b"1\n2\n"


@needs_locks
@pytest.mark.parametrize("goes_on", [True, False])
def test_what_was_copied_of_a_part_that_is_never_complete_is_taken_back(tmp_path: Path, goes_on: bool) -> None:
    whole, part = OutputFile(tmp_path / "out.jsonl"), OutputFile(tmp_path / "part")
    whole.write(b"1\n")
    part.write(b"2")
    part._raw.flush()
    whole.follow(tmp_path / "part")
    if goes_on:
        with pytest.raises(SinkError):
            whole.append(tmp_path / "part")
    part.discard()
    whole.discard()
    assert (tmp_path / "out.jsonl.partial").read_bytes() == b"1\n"


@needs_locks
def test_a_part_that_cannot_be_followed_any_more_is_copied_when_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, part = OutputFile(tmp_path / "out.jsonl"), OutputFile(tmp_path / "part")
    whole.write(b"1\n")
    part.write(b"2\n")
    part._raw.flush()
    whole.follow(tmp_path / "part")
    with monkeypatch.context() as broken:
        broken.setattr(following, "copy_bytes", fail_with(errno.ESTALE))
        whole.follow(tmp_path / "part")
    assert (tmp_path / "out.jsonl.partial").read_bytes() == b"1\n"
    part.finish()
    part.publish()
    whole.append(tmp_path / "part")
    whole.finish()
    whole.publish()
    assert (tmp_path / "out.jsonl").read_bytes() == b"1\n2\n"


def fail_with(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_part_that_will_be_taken_as_it_is_or_compressed_is_not_followed(tmp_path: Path) -> None:
    part = OutputFile(tmp_path / "part")
    part.write(b"1\n")
    part._raw.flush()
    for name in ("out.jsonl", "out.jsonl.gz"):
        whole = OutputFile(tmp_path / name)
        whole.follow(tmp_path / "part")
        assert whole._follower is None
        whole.discard()
    part.discard()


@needs_locks
@pytest.mark.parametrize("data", [b"1\n", b""])
def test_a_writer_whose_place_was_taken_leaves_the_file_of_the_other_alone(tmp_path: Path, data: bytes) -> None:
    lost = OutputFile(tmp_path / "part")
    lost.write(data)
    lost.finish()
    (tmp_path / "part.partial").unlink()
    other = OutputFile(tmp_path / "part")
    other.write(b"2\n")
    if data:
        with pytest.raises(SinkError, match=r"part\.partial is no longer the file that was written"):
            lost.publish()
    lost.discard()
    other.finish()
    other.publish()
    assert names(tmp_path) == ["part"]
    assert (tmp_path / "part").read_bytes() == b"2\n"
