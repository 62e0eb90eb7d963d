"""Parts of an output are put together: taken as they are, copied, or followed while they are written."""

from __future__ import annotations

import errno
import gzip
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from manyhands import IterableInputAdapter, JSONOutputAdapter, Pipe
from manyhands.adapters import following, output_file
from manyhands.adapters.output_file import OutputFile
from manyhands.engines.merge import MergedRun
from manyhands.engines.parts import WholeOutput
from manyhands.errors import OutputError, SinkError
from manyhands.report import FlowReport, RunControl, RunStatus

from .file_support import names, needs_locks


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
    part.write_bytes(b"x" * (output_file._COPY_BYTES + 1))
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
    for whole in (tmp_path / "whole", None):
        file = OutputFile(tmp_path / "out", whole=whole)
        file.finish()
        file.publish()
        assert len(waited) == (whole is None)


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


def test_a_run_in_shards_ends_even_where_its_outputs_cannot_be_put_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(output: WholeOutput, number: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(WholeOutput, "discard", fail)
    failed = FlowReport("sync", RunControl(threading.Event()), "engine")
    failed.begin()
    failed.end(RunStatus.FAILED, SinkError("no room"))
    engine: Any = SimpleNamespace(
        report=failed, pipe_reports=[failed], start=lambda _: None, wait=lambda: True, shutdown=lambda: None
    )
    run = MergedRun(engine, Pipe(IterableInputAdapter([]), JSONOutputAdapter(tmp_path / "out.jsonl")), [])
    run.start()
    assert run.report.wait(10)
    assert (run.report.status, str(run.report.exception)) == (RunStatus.FAILED, "no room")
    run._outputs[0]._writer.discard()
