"""Outputs appear when they are complete and not before."""

from __future__ import annotations

import gzip
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from manyhands.adapters import aside
from manyhands.adapters.output_file import OutputFile
from manyhands.errors import OutputError, SinkError

from .file_support import content_of, names, needs_locks, no_privileges, partial_of, tmpfs


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
    code = f"from pathlib import Path; from manyhands.adapters.output_file import *; OutputFile(Path({str(path)!r}))"
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
    lock = aside.lock

    def ends_before_the_lock(descriptor: int) -> bool:
        monkeypatch.undo()
        getattr(first, end)()
        return lock(descriptor)

    monkeypatch.setattr(aside, "lock", ends_before_the_lock)
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
    monkeypatch.setattr(aside, "HAS_LOCKS", False)
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


def test_a_read_only_file_system_is_told(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "ro", "ro") as folder, pytest.raises(OutputError, match="Read-only file system"):
        OutputFile(folder / "out.csv")


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
