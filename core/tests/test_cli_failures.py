"""What goes wrong is one clear message and an exit code; nothing is lost, overwritten or half published."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

import pytest

from .jobs import ROWS, command, environment, files, manyhands, write, write_job

KILLS = """
    import os, signal
    from manyhands import BaseHook

    class Kills(BaseHook):
        def execute(self, entries, store):
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return write_job(tmp_path)


def refused(job: Path, *arguments: object, code: int = 2) -> str:
    """The one message of a run that must not happen: no output appears, nothing changes."""
    before = {file: file.read_bytes() for file in job.parent.iterdir() if file.is_file()}
    done = manyhands("run", job, *arguments, cwd=job.parent)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("manyhands: ")
    assert done.stderr.count("\n") == 1
    assert {file: file.read_bytes() for file in before} == before
    assert files(job.parent) - {file.name for file in before} == set()
    return done.stderr.removeprefix("manyhands: ").rstrip("\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "input.path=no.csv"], "cannot read {folder}/no.csv: No such file or directory"),
        (["--set", "input.path=."], "cannot read {folder}: Is a directory"),
        (["--set", "output.path=no/out.jsonl"], "the folder {folder}/no does not exist; create it first"),
        (["--set", "output.path=rows.csv"], "cannot write {folder}/rows.csv: it is also the input of this job"),
        (["--set", "errors.path=./out.jsonl"], "out.jsonl: it is also the output of this job"),
        (["--set", "output.path=job.toml"], "[output] path: that is this job file"),
        (["--executor", "synk"], "there is no executor 'synk'; did you mean 'sync'"),
        (["--progress", "loud", "--report", "r.json"], "--progress loud: allowed are auto, rich, plain, json, none"),
        (["--report", "no/r.json"], "cannot write no/r.json: the folder {folder}/no does not exist; create it first"),
        (["--report", "job.toml"], "cannot write job.toml: it is also the job file"),
        (["--report", "rows.csv"], "cannot write rows.csv: it is also the input"),
        (["--report", "out.jsonl"], "cannot write out.jsonl: it is also the output"),
        (["--report", "./errors.jsonl"], "cannot write errors.jsonl: it is also the error output"),
        (["--report", "r.json", "--set", "input.path=no.csv"], "cannot read {folder}/no.csv: No such file"),
    ],
)
def test_what_cannot_run_is_one_message_and_changes_nothing(job: Path, arguments: list[str], words: str) -> None:
    assert words.format(folder=job.parent) in refused(job, *arguments)


def test_what_was_there_stays_when_a_run_cannot_begin(job: Path) -> None:
    write(job.parent, out__jsonl="before\n", errors__jsonl="before\n", r__json="before\n")
    refused(job, "--set", "input.path=no.csv", "--report", "r.json")


def test_that_nothing_was_published_is_told_of_an_engine_as_well(job: Path) -> None:
    write(job.parent, mine__py=KILLS)
    done = manyhands("run", job, "--set", "engine.workers=1", "--set", "hooks.pre=['mine:Kills']", cwd=job.parent)
    assert done.returncode == 1
    assert "pipe 1 of 1 cannot be run: its worker died twice (SIGKILL)" in done.stderr
    assert "output: nothing was published" in done.stdout.splitlines()
    assert not (job.parent / "out.jsonl").exists()


def test_a_link_to_the_input_is_the_input(job: Path) -> None:
    (job.parent / "link.jsonl").symlink_to("rows.csv")
    assert "it is also the input" in refused(job, "--set", "output.path=link.jsonl")
    assert "it is also the input" in refused(job, "--report", "link.jsonl")


def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A disk for one test."""
    folder.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
    if sys.platform != "linux" or subprocess.run(line, check=False, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "disk", "size=64k")


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may write into: by its mode, or for root, who may all the same, by its disk."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):
        folder.rmdir()
        yield from mounted(folder, "ro")
    else:
        yield folder


def test_a_read_only_folder_is_told(job: Path, closed: Path) -> None:
    for name, words in (("run", "ead-only"), ("check", f"the folder {closed} is read-only")):
        done = manyhands(name, job, "--set", "output.path=closed/out.jsonl", cwd=job.parent)
        assert done.returncode == 2
        assert f"cannot write {closed / 'out.jsonl'}: " in done.stderr
        assert words in done.stderr


def assert_full(done: subprocess.CompletedProcess[str], job: Path, reason: str) -> None:
    assert done.returncode == 1
    out = job.parent / "disk" / "out.jsonl"
    assert done.stderr.startswith(
        f"manyhands: cannot write {out}: {reason}; what is complete so far is in {out}.partial"
    )
    assert done.stderr.count("\n") == 1
    assert "failed: sync" in done.stdout
    assert files(out.parent) == {"out.jsonl.partial"}
    assert "errors.jsonl" not in files(job.parent)
    assert json.loads((job.parent / "r.json").read_text())["exception"]["type"] == "SinkError"


def test_a_full_disk_is_one_message_and_publishes_nothing(job: Path, small_disk: Path) -> None:
    write(job.parent, rows__csv=ROWS + "5,some more text\n" * 20_000)
    arguments = ("--set", f"output.path={small_disk / 'out.jsonl'}", "--report", "r.json", "--progress", "plain")
    assert_full(manyhands("run", job, *arguments, cwd=job.parent), job, "No space left on device")


@pytest.mark.skipif(sys.platform == "win32", reason="no limits there")
def test_a_file_that_may_grow_no_further_is_the_same(job: Path) -> None:
    (job.parent / "disk").mkdir()
    write(job.parent, rows__csv=ROWS + "5,some more text\n" * 20_000)
    line = f"ulimit -f 64; exec {quote(command())} run job.toml --set output.path=disk/out.jsonl --report r.json"
    done = subprocess.run(
        ["bash", "-c", line], check=False, cwd=job.parent, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert_full(done, job, "File too large")


def test_a_report_that_finds_no_room_is_told_after_the_summary(job: Path, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(b"x" * 65536)
    done = manyhands("run", job, "--report", small_disk / "r.json", cwd=job.parent)
    assert done.returncode == 1
    assert "completed: sync" in done.stdout
    assert "r.json: No space left on device" in done.stderr
    assert (job.parent / "out.jsonl").exists()
    assert files(small_disk) <= {"filler", "r.json.partial"}


@pytest.mark.parametrize("style", ["plain", "json", "none"])
def test_a_run_that_fails_is_one_message_whatever_the_style(job: Path, style: str) -> None:
    hook = """
        from manyhands import BaseHook

        class Broken(BaseHook):
            def setup(self, store): raise RuntimeError("no database")
            def execute(self, entries, store): ...
    """
    write(job.parent, mine__py=hook)
    arguments = ("--set", 'hooks.pre=["mine:Broken"]', "--progress", style)
    assert refused(job, *arguments, code=1) == "setup of hook Broken failed: no database"


# The input of a job from Python code.
PYTHON_JOB = """
    [input]
    adapter = "python"
    iterable = "mine:rows"
    [output]
    adapter = "jsonl"
    path = "out.jsonl"
"""


def test_a_source_that_breaks_off_publishes_nothing(tmp_path: Path) -> None:
    code = "def rows():\n    yield {'n': 1}\n    raise OSError('unplugged')\n"
    job = write(tmp_path, job__toml=PYTHON_JOB, mine__py=code) / "job.toml"
    done = manyhands("run", job, "--progress", "none", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "manyhands: the input failed behind record 1: OSError: unplugged\n"
    assert "out.jsonl" not in files(tmp_path)


def test_a_function_that_gives_no_source_is_one_message(tmp_path: Path) -> None:
    job = write(tmp_path, job__toml=PYTHON_JOB, mine__py="def rows(): raise OSError('unplugged')") / "job.toml"
    done = manyhands("run", job, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "OSError: unplugged" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_check_does_not_call_the_function_that_gives_the_records(tmp_path: Path) -> None:
    job = write(tmp_path, job__toml=PYTHON_JOB, mine__py="def rows(): raise OSError('called')") / "job.toml"
    done = manyhands("check", job, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_input_that_an_output_would_be_written_over_on_the_way_is_refused(job: Path) -> None:
    rows = (job.parent / "rows.csv").rename(job.parent / "out.jsonl.partial")
    before = rows.read_bytes()
    said = refused(job, "--set", "input.path=out.jsonl.partial")
    assert f"until it is complete it is {rows}, and that is also the input of this job" in said
    assert rows.read_bytes() == before


def in_bash(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A line of bash, in which `manyhands` is the command; nothing that is shown is a traceback."""
    line = f'manyhands() {{ {quote(command())} "$@"; }}; {line}'
    done = subprocess.run(
        ["bash", "-c", line], check=False, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.skipif(sys.platform == "win32", reason="no bash there")
@pytest.mark.parametrize(
    ("closed", "shown"), [(">&-", False), ("2>&-", True), ("<&- >&- 2>&-", False), (">&- --progress json", False)]
)
def test_a_standard_stream_that_is_closed_leads_to_nowhere(job: Path, closed: str, shown: bool) -> None:
    done = in_bash(f"manyhands run job.toml {closed}", job.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("completed: sync" in done.stdout) is shown
    assert (job.parent / "out.jsonl").read_text() == '{"n":1,"name":"a"}\n{"n":3,"name":"c"}\n'


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("words", ["schema", "backends", "check job.toml", "--help", "--version"])
def test_what_cannot_be_printed_is_one_message(job: Path, words: str) -> None:
    done = in_bash(f"manyhands {words} > /dev/full", job.parent)
    assert done.returncode == 1
    assert done.stderr == "manyhands: cannot write to the standard output: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_complaint_that_cannot_be_printed_keeps_its_exit_code(tmp_path: Path) -> None:
    assert in_bash("manyhands run no.toml 2> /dev/full", tmp_path).returncode == 2


@pytest.mark.skipif(sys.platform == "win32", reason="no bash there")
@pytest.mark.parametrize("words", ["schema", "--version"])
def test_that_nobody_reads_is_no_message(tmp_path: Path, words: str) -> None:
    assert in_bash(f"manyhands {words} | true", tmp_path).stderr == ""


def test_the_partial_file_that_is_in_the_way_is_named(job: Path) -> None:
    (job.parent / "out.jsonl.partial").mkdir()
    partial = job.parent / "out.jsonl.partial"
    for name in ("run", "check"):
        done = manyhands(name, job, cwd=job.parent)
        assert done.returncode == 2
        assert f"out.jsonl: {partial} is no regular file of its own; move or remove it" in done.stderr
