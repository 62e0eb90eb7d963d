"""Doctor finds each planted fault, and the line that it gives puts it right."""

import sys
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import pytest

if sys.platform == "win32":
    pytest.skip("the remedies are lines for a POSIX shell", allow_module_level=True)

from manyhands import __version__
from manyhands.doctor import isolated, plugins
from manyhands.doctor.examine import CHECKS, examine
from manyhands.doctor.finding import Finding
from manyhands.doctor.job import _remedy
from manyhands.doctor.job import check as check_job
from manyhands.plugins.spec import PLUGIN_API

from .doctor_support import GOOD, NEXT, Home, fill_house, leave, plant
from .file_support import no_privileges
from .jobs import JOB, environment, manyhands, plugin_code, python, write, write_job, write_plugin

UNREACHABLE = "tcp://127.0.0.1:1"


class Fault(NamedTuple):
    """A planted fault as it must be found."""

    check: str
    level: str
    words: str
    remedy: str


# By the subject of the finding.
FAULTS = {
    "broken": Fault("plugins", "error", "No module named 'no_such_library'", "pip uninstall -y fake-broken"),
    "twin": Fault(
        "plugins", "error", "fake-twin-one (fake_twin_one) and fake-twin-two", "pip uninstall -y fake-twin-two"
    ),
    "old": Fault(
        "plugins", "error", f"interface {PLUGIN_API - 1}, this is {PLUGIN_API}", "pip install --upgrade fake-old"
    ),
    "new": Fault("plugins", "error", f"plugin interface {PLUGIN_API + 1}", "pip install --upgrade manyhands-core"),
    "needy": Fault(
        "plugins",
        "error",
        f"fake-needy requires manyhands-core>={NEXT}, {__version__} is installed",
        f"pip install --upgrade 'manyhands-core>={NEXT}'",
    ),
    "thirsty": Fault("plugins", "error", "fake-library>=2, it is not installed", "pip install 'fake-library>=2'"),
    "misnamed": Fault(
        "plugins", "error", "named 'misnamed', the backends that it describes: 'another'", "fake-misnamed"
    ),
    "sync": Fault("plugins", "warning", "fake-sync takes the name of the backend of manyhands-sync", "fake-sync"),
    "half": Fault("plugins", "error", "without metadata", "rm -r -- "),
    "cloudpickle": Fault("plugins", "error", "cloudpickle.py hides the package in ", "mv -- "),
    "DASK_SCHEDULER_ADDRESS": Fault("clusters", "warning", f"at {UNREACHABLE}", "unset DASK_SCHEDULER_ADDRESS"),
    "job.toml": Fault("job", "error", "backend 'threads' is not installed", "pip install manyhands-threads"),
    "file": Fault("leftovers", "warning", "its owner, process ", "rm -- "),
    "folder": Fault("leftovers", "warning", "its owner, process ", "rm -r -- "),
    "socket": Fault("leftovers", "warning", "its owner, process ", "rm -- "),
    "partial": Fault("leftovers", "warning", "left it: 9 bytes", "rm -- "),
}

NO_MODEL = plugin_code("bad", GOOD).replace(f"{GOOD!r})", f"{GOOD!r}, dict)")
STRAY = f"""
        import threading, time
        threading.Thread(target=time.sleep, args=(60,), name="stray").start()
        {plugin_code("bad", GOOD)}
"""
CRASH = "import os\nos.kill(os.getpid(), 11)"


def plant_all(home: Home) -> Path:
    """An environment with every fault at once; returns the folder of its job."""
    site = home.site
    plant(site, "broken", "import no_such_library")
    for number in ("one", "two"):
        plant(site, "twin", plugin_code("twin", GOOD), dist=f"fake-twin-{number}", module=f"fake_twin_{number}")
    plant(site, "old", plugin_code("old", GOOD, plugin_api=PLUGIN_API - 1))
    plant(site, "new", plugin_code("new", GOOD, plugin_api=PLUGIN_API + 1))
    plant(site, "needy", plugin_code("needy", GOOD), f"manyhands-core>={NEXT}", "other; extra == 'more'")
    plant(site, "thirsty", plugin_code("thirsty", GOOD), "fake-library>=2")
    plant(site, "misnamed", plugin_code("another", GOOD))
    plant(site, "sync", plugin_code("sync", GOOD))
    plant(site, "half", plugin_code("half", GOOD))
    (site / "fake_half-1.5.dist-info/METADATA").unlink()
    leave(home.temporary)
    folder = home.folder / "a job"
    folder.mkdir()
    job = f"{JOB}\n    [executor]\n    name = 'threads'\n"
    write_job(folder, job, cloudpickle__py="", out__jsonl__partial="left over")
    return folder


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What doctor finds before and after all of its lines were pasted into the shell."""
    home = Home(tmp_path_factory.mktemp("home"))
    folder = plant_all(home)
    fill_house(home.house)
    about = {"cwd": folder, "DASK_SCHEDULER_ADDRESS": UNREACHABLE}
    before = home.doctor("job.toml", **about)
    lines = dict.fromkeys(each["remedy"] for each in not_ok(before))
    return before, home.doctor("job.toml", before=lines, **about)


def not_ok(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What of the findings a test has planted: the machine may have faults of its own."""
    ours = ("plugins", "clusters", "leftovers", "job")
    return [each for each in found if each["level"] != "ok" and each["check"] in ours]


def kind(subject: str) -> str:
    """The subject without what differs from run to run."""
    return subject.rpartition("/")[2].rpartition("-")[2].rpartition("jsonl.")[2]


@pytest.mark.parametrize("subject", FAULTS)
def test_each_planted_fault_is_found_with_its_remedy(found: Any, subject: str) -> None:
    fault = FAULTS[subject]
    seen = [each for each in not_ok(found[0]) if kind(each["subject"]) == subject]
    for each in seen:
        if fault.words in each["message"]:
            assert (each["check"], each["level"]) == (fault.check, fault.level)
            assert fault.remedy.removeprefix("pip ") in each["remedy"]
            assert "\n" not in each["remedy"]
            return
    pytest.fail(f"not found: {seen}")


def test_nothing_else_is_found(found: Any) -> None:
    assert {kind(each["subject"]) for each in not_ok(found[0])} == FAULTS.keys()


def test_after_all_remedies_doctor_is_content(found: Any) -> None:
    assert not_ok(found[1]) == []
    healthy = {each["subject"] for each in found[1] if each["check"] == "plugins" and each["remedy"] is None}
    assert healthy == {"twin", "old", "new", "needy", "thirsty", "threads"}
    assert [each["message"] for each in found[1] if each["check"] == "job"] == ["can run"]


def test_a_missing_backend_is_no_fault_and_says_how_to_get_it(found: Any) -> None:
    (missing,) = (each for each in found[0] if (each["check"], each["subject"]) == ("plugins", "asyncio"))
    assert (missing["level"], missing["message"]) == ("ok", "not installed")
    assert missing["remedy"].endswith("pip install manyhands-asyncio")


def test_both_start_methods_answer(found: Any) -> None:
    answers = {each["subject"]: each["message"] for each in found[0] if each["check"] == "processes"}
    for method in ("spawn", "forkserver"):
        assert answers[method].startswith("a worker answers after ")


def test_the_exit_code_and_the_table(tmp_path: Path) -> None:
    write_plugin(tmp_path / "site", "bad", "raise SystemExit(3)")
    done = manyhands("doctor", cwd=tmp_path, site=tmp_path / "site")
    lines = done.stdout.splitlines()
    (at,) = (number for number, line in enumerate(lines) if line.startswith("error"))
    assert done.returncode == 2
    assert lines[at].split()[:3] == ["error", "plugins", "bad"]
    assert lines[at + 1].strip().endswith("pip uninstall -y fake-bad")
    assert lines[-1].startswith("1 error, ")


@pytest.mark.parametrize(
    ("change", "words", "remedy"),
    [
        ("path = 'no/out.jsonl'", "the folder {folder}/no does not exist", "mkdir -p -- {folder}/no"),
        ("pth = 'out.jsonl'", "[output] path: is required", "${{EDITOR:-vi}} {job}"),
    ],
)
def test_a_wrong_job_is_found_with_what_to_do(tmp_path: Path, change: str, words: str, remedy: str) -> None:
    job = write_job(tmp_path, f"{JOB.partition('[errors]')[0].rpartition('path')[0]}{change}")
    problem = next(iter(check_job(job)))
    assert problem.level == "error"
    assert words.format(folder=tmp_path) in problem.message
    assert problem.remedy == remedy.format(folder=tmp_path, job=quote(str(job)))


def test_doctor_imports_no_plugin_into_itself(tmp_path: Path) -> None:
    write_plugin(tmp_path / "site", "one", plugin_code("one", GOOD))
    code = """
        import json, sys
        from manyhands.doctor.plugins import check
        found = {each.subject: each.level for each in check(None)}
        print(json.dumps([found["one"], [name for name in sys.modules if name.startswith(("fake", "manyhands_"))]]))
    """
    assert python(code, site=tmp_path / "site", cwd=tmp_path) == ["ok", []]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (plugin_code("bad", "types:SimpleNamespace"), "is no executor: it lacks start, submit, shutdown"),
        (plugin_code("bad", "json:Executor"), "has no attribute 'Executor'"),
        (plugin_code("bad", GOOD, prepare="json:prepare"), "has no attribute 'prepare'"),
        (plugin_code("bad", GOOD).replace('executor"', 'engine"'), "is no engine: it lacks wait"),
        (plugin_code("bad", GOOD).replace('executor"', 'robot"'), "'robot' is neither"),
        (NO_MODEL, "are no pydantic model"),
        ("def manyhands_backends(): ...", "its entry point is named 'bad', the backends that it describes: none"),
        (plugin_code("bad", GOOD, plugin_api="1"), "its plugin_api is '1', not an int"),
        (STRAY, "importing it leaves the thread 'stray' running, so that no command ends"),
        (CRASH, "it ended its process (SIGSEGV)"),
    ],
)
def test_what_else_can_be_wrong_with_a_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: str
) -> None:
    (finding,) = judged(tmp_path / "site", code, monkeypatch)
    assert finding.level == "error"
    assert words in finding.message
    assert finding.remedy is not None
    assert finding.remedy.endswith("pip uninstall -y fake-bad")


def judged(site: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What is found of a plugin named `bad`."""
    monkeypatch.syspath_prepend(write_plugin(site, "bad", code))
    point = next(point for point in plugins.backend_points() if point.name == "bad")
    return list(plugins._judge(point, plugins._ask(point)))


def test_a_plugin_that_hangs_does_not_hang_doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a process that it has started, which holds what it inherited."""
    code = "import subprocess, time\nsubprocess.Popen(['sleep', '60'])\nprint('noise', flush=True)\ntime.sleep(60)"
    monkeypatch.setattr(plugins, "_PATIENCE", 3.0)
    (finding,) = judged(tmp_path / "site", code, monkeypatch)
    assert "it did not end within 3 s" in finding.message


def test_threads_that_end_by_themselves_are_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = f"""
        import threading, time
        from concurrent.futures import ThreadPoolExecutor
        ThreadPoolExecutor(1).submit(int)
        threading.Thread(target=time.sleep, args=(0.1,)).start()
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
        {plugin_code("bad", GOOD)}
    """
    (finding,) = judged(tmp_path / "site", code, monkeypatch)
    assert finding.level == "ok"


@pytest.mark.parametrize(
    ("code", "words"),
    [("raise ValueError('one\\ntwo')", "ValueError: one two"), ("import os; os._exit(4)", "(exit code 4)")],
)
def test_what_is_asked_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: str) -> None:
    monkeypatch.syspath_prepend(write(tmp_path, asked__py=code))
    with pytest.raises(isolated.NoAnswer) as caught:
        isolated.ask("asked:nothing", seconds=30)
    assert words in str(caught.value)


def test_noise_and_threads_of_what_is_asked_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
        import threading, time
        def noisy(number):
            print("noise")
            threading.Thread(target=time.sleep, args=(60,)).start()
            return number + 1
    """
    monkeypatch.syspath_prepend(write(tmp_path, asked__py=code))
    assert isolated.ask("asked:noisy", 6, seconds=30) == 7


def test_a_check_that_crashes_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(job: Path | None) -> list[Finding]:
        raise ZeroDivisionError("by zero")

    for name in CHECKS:
        monkeypatch.setattr(f"manyhands.doctor.{name}.check", crash)
    found = list(examine())
    assert [each.check for each in found] == list(CHECKS)
    assert all(each.level == "error" and "ZeroDivisionError: by zero" in each.message and each.remedy for each in found)


@pytest.mark.parametrize(
    ("missing", "words"), [("rich.table", "install rich"), ("manyhands.gone", "--force-reinstall"), (None, "--force-")]
)
def test_a_check_that_lacks_a_module_says_which(
    monkeypatch: pytest.MonkeyPatch, missing: str | None, words: str
) -> None:
    def crash(job: Path | None) -> list[Finding]:
        raise ModuleNotFoundError("no module", name=missing)

    for name in CHECKS:
        monkeypatch.setattr(f"manyhands.doctor.{name}.check", crash)
    assert all(words in (each.remedy or "") for each in examine())


@pytest.mark.skipif(
    sys.version_info[:3] == (3, 13, 0), reason="it imports no extension where the current folder is gone"
)
def test_a_current_folder_that_was_removed_is_one_finding(tmp_path: Path) -> None:
    code = """
        import json, os, sys
        from pathlib import Path
        from manyhands.doctor.examine import _guarded
        os.chdir(sys.argv[1])
        os.rmdir(sys.argv[1])
        found = [each for name in ("environment", "plugins") for each in _guarded(name, Path("job.toml"))]
        print(json.dumps([[each.level, each.subject] for each in found if each.level == "error"]))
    """
    (tmp_path / "gone").mkdir()
    assert python(code, tmp_path / "gone", cwd=tmp_path) == [["error", "current folder"]]


def test_a_folder_that_may_not_be_looked_into_hides_nothing() -> None:
    with no_privileges(lambda folder: (folder / "closed").mkdir(mode=0o000)) as folder:
        assert [each for each in plugins._hidden([], folder / "closed/job.toml") if each.level == "error"] == []


@pytest.mark.parametrize(
    ("problem", "remedy"),
    [
        ("cannot read {job}: Permission denied", "chmod u+r -- {job}"),
        ("cannot read {job}: No such file or directory", "ls -l -- {folder}"),
        ("cannot read {folder}/no/such/rows.csv: No such file or directory", "ls -l -- {folder}"),
        ("cannot read {folder}: Is a directory", "ls -l -- {folder}"),
        ("cannot write {folder}/x/o: the folder {folder}/x does not exist; create it first", "mkdir -p -- {folder}/x"),
        ("cannot write {folder}/o: the folder {folder} is read-only", "chmod u+w -- {folder}"),
        (
            "cannot write {folder}/o: {folder}/o.partial is no regular file of its own; move or remove it",
            "mv -- {folder}/o.partial {folder}/o.partial.old",
        ),
        (
            "{job}: [executor] backend 'x' is not installed: pip install 'a @ file:///b c'",
            "pip install 'a @ file:///b c'",
        ),
        ("{job}: [run] has no key 'x'", "${{EDITOR:-vi}} {job}"),
    ],
)
def test_what_editing_does_not_mend_has_another_remedy(tmp_path: Path, problem: str, remedy: str) -> None:
    job = write(tmp_path, job__toml="") / "job.toml"
    about = {"job": job, "folder": tmp_path}
    assert _remedy(job, problem.format(**about)).endswith(remedy.format(**about))


def test_a_folder_on_the_way_that_may_not_be_looked_into_is_opened_first() -> None:
    with no_privileges(lambda folder: (folder / "closed").mkdir(mode=0o000)) as folder:
        file = folder / "closed/rows.csv"
        assert _remedy(Path("job.toml"), f"cannot read {file}: Permission denied") == f"chmod u+rx -- {file.parent}"


def test_a_missing_job_is_found_with_where_to_look(tmp_path: Path) -> None:
    (problem,) = check_job(tmp_path / "no.toml")
    assert (problem.level, problem.remedy) == ("error", f"ls -l -- {tmp_path}")


def test_a_command_of_another_python_is_found_and_the_path_put_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = write(tmp_path, manyhands="#!/elsewhere/bin/python3.12\n") / "manyhands"
    script.chmod(0o755)
    path = f"{tmp_path}:{environment()['PATH']}"
    code = """
        import json, dataclasses
        from manyhands.doctor.environment import _command
        print(json.dumps([dataclasses.asdict(each) for each in _command()]))
    """
    monkeypatch.setenv("PATH", path)
    (found,) = python(code, cwd=tmp_path)
    assert found["level"] == "warning"
    assert f"{script} belongs to /elsewhere/bin/python3.12" in found["message"]
    own, _, rest = found["remedy"].removeprefix("export PATH=").partition(":")
    assert rest == "$PATH"
    monkeypatch.setenv("PATH", f"{own}:{path}")
    assert python(code, cwd=tmp_path)[0]["level"] == "ok"
