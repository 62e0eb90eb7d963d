"""The checks of doctor one by one: what they leave alone, and what they say of a machine that lacks something."""

import errno
import fcntl
import json
import os
import resource
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if sys.platform == "win32":
    pytest.skip("there are no worker processes and no locks", allow_module_level=True)

from manyhands.doctor import cgroup, clusters, environment, leftovers, processes, requirements
from manyhands.doctor.examine import CHECKS
from manyhands.doctor.finding import Finding
from manyhands.doctor.isolated import NoAnswer
from manyhands.processes import owner
from manyhands.processes.owner import Owner, owned_name

from .doctor_support import leave
from .file_support import no_privileges
from .jobs import files, manyhands, write, write_job
from .terminal import in_terminal

DEAD = Owner(2**22 + 1, 7, owner._namespace())
"""No process: its id is higher than any."""


def name(who: Owner, what: str = "thing") -> str:
    return "-".join(("manyhands", *map(str, who), what))


@pytest.fixture
def temporary() -> Path:
    """The temporary folder of this test."""
    return Path(os.environ["TMPDIR"])


@pytest.fixture
def job(tmp_path: Path) -> Path:
    return write_job(tmp_path)


def removed(job: Path | None = None) -> list[str]:
    return [Path(each.subject).name for each in leftovers.remove_all(job) if each.message == "removed"]


def test_what_a_killed_process_left_is_removed_and_nothing_that_it_links_to(temporary: Path) -> None:
    leave(temporary)
    assert {each.level for each in leftovers.check(None)} == {"warning"}
    assert len(removed()) == 3
    assert files(temporary) == set()
    assert [each.level for each in leftovers.check(None)] == ["ok"]


def test_what_may_be_in_use_or_is_not_ours_stays(temporary: Path) -> None:
    alive = Owner.this()
    kept = {
        owned_name("mine"),
        name(DEAD._replace(namespace=1), "elsewhere"),
        "manyhands-abcdefgh",
        "manyhands-notes-of-mine",
        "manyhands-1-2",
    }
    for each in kept:
        (temporary / each).touch()
    target = temporary / "target"
    target.touch()
    (temporary / name(DEAD, "link")).symlink_to(target)
    assert alive.may_live()
    assert removed() == []
    assert files(temporary) == {*kept, "target", name(DEAD, "link")}
    for file in temporary.iterdir():
        file.unlink()


def test_what_is_of_another_user_stays(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (temporary / name(DEAD)).touch()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: 12345)
        assert removed() == []
    assert removed() == [name(DEAD)]


@pytest.mark.skipif(sys.platform != "linux", reason="start times are read from /proc")
def test_a_process_that_got_the_id_later_is_not_the_owner() -> None:
    assert not Owner.this()._replace(start=1).may_live()


def test_an_owner_that_gets_the_thing_back_before_it_is_removed_keeps_it(temporary: Path) -> None:
    thing = leftovers.Leftover(temporary / owned_name("mine"), "")
    thing.path.touch()
    assert not thing.remove()
    thing.path.unlink()


def test_a_partial_output_of_a_dead_run_is_removed_and_one_of_a_live_run_stays(job: Path) -> None:
    write(job.parent, out__jsonl__partial="left", errors__jsonl__partial="being written", rows__csv__partial="other")
    with (job.parent / "errors.jsonl.partial").open() as live:
        fcntl.flock(live, fcntl.LOCK_EX)
        assert removed(job) == ["out.jsonl.partial"]
    assert removed(job) == ["errors.jsonl.partial"]
    assert (job.parent / "rows.csv.partial").exists()


def test_a_partial_output_that_was_published_in_between_stays(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = write(job.parent, out__jsonl__partial="complete") / "out.jsonl.partial"

    def publish_then_lock(*arguments: Any) -> None:
        partial.rename(job.parent / "out.jsonl")
        partial.write_text("of the next run")

    monkeypatch.setattr(leftovers.fcntl, "flock", publish_then_lock)
    assert not leftovers.Leftover(partial, "").remove()
    assert (job.parent / "out.jsonl").read_text() == "complete"
    assert partial.read_text() == "of the next run"


def test_what_is_in_the_way_of_an_output_is_told_and_stays(job: Path) -> None:
    target = write(job.parent, target="precious") / "target"
    link = job.parent / "out.jsonl.partial"
    link.symlink_to(target)
    (finding,) = leftovers.check(job)
    assert (finding.level, finding.remedy) == ("error", f"mv -- {link} {link}.old")
    assert removed(job) == []
    assert link.is_symlink()


def test_fix_removes_and_says_so_and_a_healthy_installation_has_no_error(job: Path) -> None:
    write(job.parent, out__jsonl__partial="left")
    line = ("doctor", job, "--fix", "--json")
    done = manyhands(*line, cwd=job.parent, DASK_SCHEDULER_ADDRESS="", RAY_ADDRESS="")
    first, *found = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert first == {
        "check": "leftovers",
        "level": "ok",
        "subject": str(job.parent / "out.jsonl.partial"),
        "message": "removed",
        "remedy": None,
    }
    assert "out.jsonl.partial" not in files(job.parent)
    assert {each["check"] for each in found} == set(CHECKS) - {"clusters"}
    assert [each["subject"] for each in found if each["check"] == "job"] == [str(job)]


# The command with the one check whose finding it asks about.
ASK = """
import sys
from manyhands.cli import doctor
from manyhands.cli.main import main
from manyhands.doctor import leftovers
doctor.examine = leftovers.check
sys.argv = ["manyhands", "doctor", "job.toml"]
main()
"""


@pytest.mark.parametrize(("key", "is_there"), [(b"n\n", True), (b"y\n", False)])
def test_on_a_terminal_doctor_asks(job: Path, key: bytes, is_there: bool) -> None:
    write(job.parent, out__jsonl__partial="left")
    with in_terminal(sys.executable, "-c", ASK, cwd=job.parent, columns=200) as terminal:
        terminal.until(lambda seen: "Remove what dead runs have left (1)?" in seen.raw)
        terminal.press(key)
        assert terminal.end() == 0
    assert (job.parent / "out.jsonl.partial").exists() is is_there


def test_ctrl_c_at_the_question_is_an_interruption(job: Path) -> None:
    write(job.parent, out__jsonl__partial="left")
    with in_terminal(sys.executable, "-c", ASK, cwd=job.parent, columns=200) as terminal:
        terminal.until(lambda seen: "[y/N]: " in seen.raw)
        terminal.watch(0.2)  # until it waits for the answer
        terminal.press(b"\x03")
        assert terminal.end() == 1
        assert terminal.lines[-1].endswith("manyhands: interrupted")
    assert (job.parent / "out.jsonl.partial").exists()


def test_a_partial_output_that_cannot_be_opened_is_told() -> None:
    def prepare(folder: Path) -> None:
        write_job(folder, out__jsonl__partial="left")
        (folder / "out.jsonl.partial").chmod(0o400)

    with no_privileges(prepare) as folder:
        partial = folder / "out.jsonl.partial"
        found = [each for each in leftovers.check(folder / "job.toml") if each.subject == str(partial)]
    assert [each.level for each in found] == ["error"]
    assert "may not be read and written" in found[0].message
    assert found[0].remedy == f"chmod u+rw -- {partial}"


@pytest.fixture
def port() -> Iterator[int]:
    """A port at which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "tcp://127.0.0.1:{}", "tls://localhost:{}", "ray://127.0.0.1:{}/x"])
def test_an_address_that_answers_is_fine(port: int, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", form.format(port))
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    (finding,) = clusters.check(None)
    assert finding.level == "ok"
    assert "answers after" in finding.message


@pytest.mark.parametrize(
    ("text", "system", "expected"),
    [
        ("tcp://scheduler", "dask", ("tcp", "scheduler", 8786)),
        ("[::1]:99", "dask", ("", "::1", 99)),
        ("ray://head", "ray", ("ray", "head", 10001)),
        ("head", "ray", ("", "head", 6379)),
        ("head:5", "stranger", ("", "head", 5)),
    ],
)
def test_an_address_is_read_as_its_system_reads_it(text: str, system: str, expected: tuple[str, str, int]) -> None:
    assert clusters._parse(text, system) == clusters._Address(*expected)


@pytest.mark.parametrize("text", ["auto", "local", "inproc://1/2"])
def test_a_word_is_no_address_to_connect_to(text: str) -> None:
    assert clusters._parse(text, "ray") is None


@pytest.mark.parametrize("text", ["tcp://:99", "host:port", "host:99999", "", "tcp://"])
def test_what_is_no_address_is_an_error(text: str) -> None:
    assert clusters._look("job", "dask", text, "error", "unset X").message.startswith(f"{text!r} is no address")


@pytest.mark.parametrize(
    ("name", "address", "remedy"),
    [
        ("dask", "tcp://127.0.0.1:1", "dask scheduler --port 1"),
        ("ray", "127.0.0.1:1", "ray start --head --port=1"),
        ("ray", "ray://127.0.0.1:1", "ray start --head --ray-client-server-port=1"),
        ("ray", "ray://127.0.0.2:1", "ssh 127.0.0.2 'ray start --head --ray-client-server-port=1'"),
        ("stranger", "127.0.0.1:1", "${{EDITOR:-vi}} {job}"),
    ],
)
def test_the_address_of_a_job_that_nobody_answers(tmp_path: Path, name: str, address: str, remedy: str) -> None:
    job = write_job(tmp_path, f'[input]\nadapter = "csv"\n[executor]\nname = "{name}"\naddress = "{address}"\n')
    (finding,) = (each for each in clusters.check(job) if each.subject.endswith("[executor] address"))
    assert (finding.level, finding.remedy) == ("error", remedy.format(job=job))
    assert finding.message == f"nothing answers at {address}: {os.strerror(errno.ECONNREFUSED)}"


def test_the_address_of_an_engine_is_looked_at_too(tmp_path: Path) -> None:
    job = write_job(tmp_path, '[input]\nadapter = "csv"\n[engine]\nname = "dask"\naddress = "tcp://127.0.0.1:1"\n')
    assert [each.level for each in clusters.check(job) if each.subject.endswith("[engine] address")] == ["error"]


@pytest.mark.parametrize("variable", ["DASK_SCHEDULER_ADDRESS", "RAY_ADDRESS"])
def test_an_address_of_the_environment_is_no_error(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs have addresses of their own; installed or not."""
    for name in ("DASK_SCHEDULER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "127.0.0.1:1")
    assert [(each.level, each.remedy) for each in clusters.check(None)] == [("warning", f"unset {variable}")]


def test_after_the_cluster_was_started_doctor_is_content(tmp_path: Path, port: int) -> None:
    job = write_job(
        tmp_path, f'[input]\nadapter = "csv"\n[executor]\nname = "dask"\naddress = "tcp://127.0.0.1:{port}"\n'
    )
    assert [each.level for each in clusters.check(job) if "[executor]" in each.subject] == ["ok"]


def broken(*methods: str) -> Any:
    def ask(_: str, method: str, *, seconds: float) -> float:
        if method in methods:
            raise NoAnswer("no")
        return 0.5

    return ask


@pytest.mark.parametrize(
    ("methods", "way"),
    [(["forkserver"], "--set executor.start_method=spawn"), (["spawn", "forkserver"], "--executor threads")],
)
def test_a_start_method_that_fails_leaves_another_way(
    monkeypatch: pytest.MonkeyPatch, methods: list[str], way: str
) -> None:
    monkeypatch.setattr(processes, "ask", broken(*methods))
    found = {each.subject: each for each in processes._start_methods(Path("a job.toml"))}
    for method in methods:
        assert (found[method].level, found[method].remedy) == ("error", f"manyhands run 'a job.toml' {way}")


def test_a_worker_that_dies_is_told_with_its_last_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "no number")  # no interpreter starts with that
    with pytest.raises(OSError, match="PYTHONHASHSEED"):
        processes.answer_of("spawn")


@pytest.mark.parametrize(
    ("limits", "level", "remedy"),
    [
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), "ok", None),
        ((256, resource.RLIM_INFINITY), "warning", "ulimit -n 1024"),
        ((256, 512), "warning", "sudo prlimit --pid $$ --nofile=4096:4096"),
    ],
)
def test_a_limit_that_is_low_is_told(limits: tuple[int, int], level: str, remedy: str | None) -> None:
    finding = processes._limit("open files", "n", limits, 1024)
    assert (finding.level, finding.remedy) == (level, remedy)


@pytest.mark.parametrize(("free", "level"), [(64 << 20, "warning"), (1 << 30, "ok")])
def test_little_shared_memory_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, level: str) -> None:
    monkeypatch.setattr(processes, "_SHM", tmp_path)
    monkeypatch.setattr(processes.shutil, "disk_usage", lambda _: _Usage(free))
    (finding,) = processes._shared_memory()
    assert finding.level == level
    monkeypatch.setattr(processes, "_SHM", tmp_path / "no")
    assert [each.level for each in processes._shared_memory()] == ["warning"]


class _Usage:
    def __init__(self, free: int) -> None:
        self.free = free


def test_a_temporary_folder_that_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "no"))
    assert [each.remedy for each in environment._temporary() if each.level == "warning"] == ["unset TMPDIR"]
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda _: _Usage(1))
    assert [each.level for each in environment._room("folder", "/", "du")] == ["warning"]


def test_limits_of_control_groups_are_seen_from_the_innermost_to_the_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cgroup, "_ROOT", tmp_path)
    monkeypatch.setattr(cgroup, "_OWN", tmp_path / "own")
    assert (cgroup.cpu_limit(), cgroup.memory_limit()) == (None, None)
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "own").write_text("0::/a/b\n")
    (tmp_path / "a/b/cpu.max").write_text("max 100000\n")
    (tmp_path / "a/cpu.max").write_text("150000 100000\n")
    (tmp_path / "a/b/memory.max").write_text("1048576\n")
    assert (cgroup.cpu_limit(), cgroup.memory_limit()) == (1.5, 1048576)


@pytest.mark.parametrize(
    ("wanted", "remedy"),
    [
        ("manyhands-core<0.0.1", "install --upgrade plugin"),
        ("manyhands-core>=99", "install --upgrade 'manyhands-core>=99' manyhands-near pinned"),
        ("pluggy>=99", "install --upgrade 'pluggy>=99'"),
        ("no-such-thing[more]>=1; python_version > '3'", "install 'no-such-thing[more]>=1'"),
        ("thing>=1", "install 'thing @ file:///folder'"),
    ],
)
def test_a_requirement_that_is_not_met_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, wanted: str, remedy: str
) -> None:
    """With core, what is made for the one that is there must change as well."""
    others = {
        "manyhands-near": ["manyhands-core<0.2,>=0.1"],
        "pinned": ["Manyhands_Core==0.1"],
        "free": ["manyhands-core>=0.1", "pluggy<2"],
        "plugin": ["manyhands-core~=99.0"],
    }
    plugins = [_Plugin(requires, name) for name, requires in others.items()]
    places = {"thing": ("thing @ file:///folder",)}
    monkeypatch.setattr(requirements, "distributions", lambda: plugins)
    monkeypatch.setattr(requirements, "installable", lambda name: places.get(name, (name,)))
    (gap,) = requirements.unmet(_Plugin([wanted, "pluggy>=1", "x>=1; extra == 'y'"]))  # type: ignore[arg-type]  # enough of one
    assert gap.remedy.endswith(f"pip {remedy}")


class _Plugin:
    """As much of a distribution as is read."""

    def __init__(self, requires: list[str], name: str = "plugin") -> None:
        self.requires = requires
        self.metadata = {"Name": name, "Version": "1"}


def test_every_finding_that_is_not_ok_has_a_remedy_of_one_line(tmp_path: Path) -> None:
    """As it stands here, whatever this machine lacks."""
    found: list[Finding] = [*environment.check(None), *processes.check(None), *leftovers.check(None)]
    assert found
    assert all(each.level == "ok" or (each.remedy and "\n" not in each.remedy) for each in found)
