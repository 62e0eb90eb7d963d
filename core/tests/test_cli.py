"""The command as a person meets it: what it shows, its exit codes, the files it leaves."""

import json
import os
import subprocess
from pathlib import Path
from shlex import quote

import pytest

from manyhands import __version__

from .jobs import command, environment, files, manyhands, write, write_job, write_plugin

# An executor whose worker dies of one record, by number.
DEADLY = """
    from concurrent.futures import Future
    from manyhands.errors import WorkerLost
    from manyhands.plugins.spec import Backend, hookimpl
    from manyhands_sync import SyncFifoExecutor

    class Deadly(SyncFifoExecutor):
        def submit(self, chunk):
            if not chunk.lo <= 1 < chunk.hi:
                return super().submit(chunk)
            future = Future()
            future.set_exception(WorkerLost(signal=9))
            return future

    @hookimpl
    def manyhands_backends():
        return [Backend("deadly", "executor", "fake_deadly:Deadly")]
"""

SUMMARY = """\
completed: sync
┏━━━━━━━━━━━┳━━━━━━━━━┓
┃ outcome   ┃ records ┃
┡━━━━━━━━━━━╇━━━━━━━━━┩
│ read      │       3 │
│ ok        │       2 │
│ rejected  │       1 │
│ dead      │       0 │
│ dropped   │       0 │
│ cancelled │       0 │
└───────────┴─────────┘
"""


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return write_job(tmp_path)


def test_a_run_shows_what_was_done(job: Path) -> None:
    done = manyhands("run", "job.toml", cwd=job.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(SUMMARY)
    speed, *notes = done.stdout.removeprefix(SUMMARY).splitlines()
    assert speed.endswith(" rows/s")
    assert notes == ["output: out.jsonl", "errors: errors.jsonl"]
    assert (job.parent / "out.jsonl").read_text() == '{"n":1,"name":"a"}\n{"n":3,"name":"c"}\n'
    (rejected,) = map(json.loads, (job.parent / "errors.jsonl").read_text().splitlines())
    assert (rejected["position"], rejected["line"], rejected["raw_data"]) == (1, 3, {"n": "x", "name": "b"})


def test_a_run_from_another_folder(job: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = manyhands("run", os.path.relpath(job, elsewhere), cwd=elsewhere)
    assert done.returncode == 0
    assert files(elsewhere) == set()
    assert (job.parent / "out.jsonl").exists()


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["--strict"], 3)])
def test_rejected_records_fail_only_a_strict_run(job: Path, arguments: list[str], code: int) -> None:
    assert manyhands("run", job, *arguments, cwd=job.parent).returncode == code
    assert (job.parent / "out.jsonl").exists()


def test_a_strict_run_of_good_records_succeeds(job: Path) -> None:
    write(job.parent, rows__csv="n,name\n1,a\n")
    assert manyhands("run", job, "--strict", cwd=job.parent).returncode == 0


def test_dead_records_are_told_by_the_exit_code(job: Path, tmp_path: Path) -> None:
    site = write_plugin(tmp_path / "site", "deadly", DEADLY)
    arguments = ("--executor", "deadly", "--set", "run.crash_retries=0", "--progress", "json")
    done = manyhands("run", job, *arguments, cwd=job.parent, site=site)
    assert done.returncode == 3
    counts = json.loads(done.stdout.splitlines()[-1])["counts"]
    assert counts == {"in": 3, "ok": 2, "rejected": 0, "dead": 1, "dropped": 0, "cancelled": 0}
    (dead,) = map(json.loads, (job.parent / "errors.jsonl").read_text().splitlines())
    assert (dead["outcome"], dead["position"], dead["raw_data"]["name"]) == ("dead", 1, "b")
    assert "SIGKILL" in dead["errors"][0]["message"]


def test_the_report_is_json_with_every_count(job: Path) -> None:
    done = manyhands("run", job, "--report", "report.json", "--progress", "none", cwd=job.parent)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    report = json.loads((job.parent / "report.json").read_text())
    assert report["counts"] == {"in": 3, "ok": 2, "rejected": 1, "dead": 0, "dropped": 0, "cancelled": 0}
    assert (report["status"], report["executor"], report["exception"]) == ("completed", "sync", None)
    assert {"duration", "rows_per_second", "stages", "workers"} <= set(report)
    assert files(job.parent) == {"job.toml", "rows_model.py", "rows.csv", "out.jsonl", "errors.jsonl", "report.json"}


def test_a_job_without_error_output_says_how_to_keep_the_records(job: Path) -> None:
    job.write_text(job.read_text().partition("[errors]")[0])
    assert "add an [errors] table to keep them" in manyhands("run", job, cwd=job.parent).stdout


@pytest.mark.parametrize("style", ["rich", "json", "none"])
def test_every_style_of_progress_leaves_the_same_files(job: Path, style: str) -> None:
    done = manyhands("run", job, "--progress", style, cwd=job.parent)
    assert done.returncode == 0
    assert files(job.parent) == {"job.toml", "rows_model.py", "rows.csv", "out.jsonl", "errors.jsonl"}
    if style == "json":
        assert json.loads(done.stdout.splitlines()[-1])["status"] == "completed"
    else:
        assert ("completed: sync" in done.stdout) is (style != "none")


def test_a_set_value_and_another_executor_reach_the_run(job: Path) -> None:
    arguments = ("--set", "output.path=other.jsonl", "--set", "input.limit=1", "--executor", "sync")
    done = manyhands("run", job, *arguments, "--progress", "json", cwd=job.parent)
    assert json.loads(done.stdout.splitlines()[-1])["counts"]["in"] == 1
    assert (job.parent / "other.jsonl").exists()
    assert not (job.parent / "out.jsonl").exists()


def test_check_says_what_would_run_and_runs_nothing(job: Path) -> None:
    done = manyhands("check", job, "--set", "executor.chunksize=5", cwd=job.parent, COLUMNS="40")
    assert (done.returncode, done.stderr) == (0, "")
    rows = dict(line.split("  ", 1) for line in done.stdout.splitlines()[:-1])
    assert rows["input"].strip() == f"csv {job.parent / 'rows.csv'}"
    assert rows["output"].strip() == f"jsonl {job.parent / 'out.jsonl'}"
    assert rows["schema"].strip() == "Row"
    assert rows["executor"].strip() == "sync chunksize=5"
    assert done.stdout.splitlines()[-1] == f"{job} is fine: nothing was run"
    assert files(job.parent) == {"job.toml", "rows_model.py", "rows.csv"}


def test_check_refuses_what_run_refuses(job: Path) -> None:
    done = manyhands("check", job, "--set", "output.path=rows.csv", cwd=job.parent)
    assert done.returncode == 2
    assert "it is also the input of this job" in done.stderr


def test_version_and_help(tmp_path: Path) -> None:
    assert manyhands("--version", cwd=tmp_path).stdout == f"manyhands {__version__}\n"
    for arguments in (["--help"], ["-h"], ["run", "-h"], ["check", "--help"], ["backends", "--help"]):
        done = manyhands(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert "Usage: manyhands" in done.stdout


def test_without_a_command_there_is_help(tmp_path: Path) -> None:
    done = manyhands(cwd=tmp_path)
    assert done.returncode in (0, 2)  # as typer's version has it
    for name in ("run", "check", "backends", "--version"):
        assert name in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "Missing argument 'JOB'"),
        (["frob"], "No such command 'frob'"),
        (["run", "a.toml", "--fast"], "--fast"),
        (["run", "a.toml", "b.toml"], "unexpected extra argument"),
        (["run", "no.toml"], "manyhands: cannot read no.toml: No such file or directory"),
        (["check", "no.toml"], "manyhands: cannot read no.toml: No such file or directory"),
    ],
)
def test_a_wrong_command_line_is_told(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = manyhands(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes there")
@pytest.mark.parametrize("style", ["plain", "json"])
def test_nobody_listening_is_no_reason_to_fail(job: Path, style: str) -> None:
    line = f"{quote(command())} run job.toml --progress {style} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], check=False, cwd=job.parent, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (job.parent / "out.jsonl").exists()


def test_a_full_disk_under_the_messages_is_no_reason_to_fail(job: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with Path("/dev/full").open("w") as full:
        line = [command(), "run", "job.toml"]
        done = subprocess.run(
            line, check=False, cwd=job.parent, env=environment(), stdout=full, stderr=full, timeout=60
        )
    assert done.returncode == 0
    assert (job.parent / "out.jsonl").exists()


def test_names_that_a_terminal_cannot_show_are_shown_escaped(job: Path) -> None:
    done = manyhands("run", job, "--set", "output.path=größe→.jsonl", cwd=job.parent, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "output: gr\\xf6\\xdfe\\u2192.jsonl" in done.stdout
    assert (job.parent / "größe→.jsonl").exists()


def test_names_are_shown_as_they_are(job: Path) -> None:
    done = manyhands("run", job, "--set", "output.path=[red]:smile:.jsonl", cwd=job.parent)
    assert "output: [red]:smile:.jsonl\n" in done.stdout


def test_check_finds_what_the_backend_will_refuse(job: Path) -> None:
    done = manyhands("check", "job.toml", "--set", "run.record_timeout=1", cwd=job.parent)
    assert done.returncode == 2
    assert "record_timeout and chunk_timeout need a backend" in done.stderr
