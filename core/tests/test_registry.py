"""Backends are found by name: each failure says what to do, and a broken plugin breaks no other."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from manyhands import get_engine, get_executor
from manyhands.errors import (
    BackendNotInstalled,
    BrokenPlugin,
    DuplicateBackend,
    IncompatiblePlugin,
    OptionsError,
    UnknownBackend,
)
from manyhands.executor import Capabilities
from manyhands.plugins import distributions, registry
from manyhands.plugins.options import check_options
from manyhands.plugins.spec import Backend, ExecutorOptions

from .jobs import manyhands, plugin_code, python, write_plugin

# Tries to get each backend that is named; prints the error or the class, and which plugin modules were imported.
GET = """
    import json, sys
    from manyhands import get_executor
    found = {}
    for name in sys.argv[1:]:
        try:
            found[name] = type(get_executor(name)).__name__
        except Exception as error:
            found[name] = [type(error).__name__, str(error)]
    found["modules"] = [name for name in sys.modules if name.startswith(("fake_", "manyhands_"))]
    print(json.dumps(found))
"""


def answer(expression: str) -> str:
    """A plugin module whose hook returns something."""
    return f"""
        from manyhands.plugins.spec import Backend, hookimpl

        @hookimpl
        def manyhands_backends():
            return {expression}
    """


# What can be wrong with a plugin: its code, the error, and what its message says.
FAULTS: dict[str, tuple[str, str, str]] = {
    "importerror": ("import no_such_library", "BrokenPlugin", "No module named 'no_such_library'"),
    "exits": ("raise SystemExit(3)", "BrokenPlugin", "SystemExit: 3"),
    "raises": ("raise ValueError('line one\\nline two')", "BrokenPlugin", "ValueError: line one line two"),
    "syntax": ("def (", "BrokenPlugin", "SyntaxError"),
    "tooold": (plugin_code("tooold", plugin_api=0), "IncompatiblePlugin", "interface 0, this is 1; upgrade it: pip"),
    "toonew": (plugin_code("toonew", plugin_api=99), "IncompatiblePlugin", "upgrade manyhands: pip"),
    "number": (answer("7"), "BrokenPlugin", "TypeError"),
    "single": (answer("Backend('single', 'executor', 'json:loads')"), "BrokenPlugin", "TypeError"),
    "strings": (answer("['strings']"), "BrokenPlugin", "gave str, not Backend"),
    "nothing": (answer("None"), "BrokenPlugin", "describes no backend named 'nothing'"),
    "empty": ("", "BrokenPlugin", "describes no backend named 'empty'"),
    "otherhook": (plugin_code("otherhook").replace("_backends", "_backend"), "BrokenPlugin", "manyhands_backend"),
    "misnamed": (plugin_code("another"), "BrokenPlugin", "describes no backend named 'misnamed'"),
    "noclass": (plugin_code("noclass", "json:Executor"), "BrokenPlugin", "has no attribute 'Executor'"),
    "nomodule": (plugin_code("nomodule", "no_such_module:X"), "BrokenPlugin", "No module named 'no_such_module'"),
    "noprotocol": (plugin_code("noprotocol", "types:SimpleNamespace"), "BrokenPlugin", "is no Executor: it lacks cap"),
    "textapi": (plugin_code("textapi", plugin_api="1"), "BrokenPlugin", "its plugin_api is '1', not an int"),
    "nomodel": (answer("[Backend('nomodel', 'executor', 'x:y', dict)]"), "BrokenPlugin", "are no pydantic model"),
    "nocapabilities": (plugin_code("nocapabilities", capabilities=()), "BrokenPlugin", "() are no Capabilities"),
    "noload": (plugin_code("noload", None), "BrokenPlugin", "its load is None, not"),  # type: ignore[arg-type]  # a fault
    "noprepare": (plugin_code("noprepare", prepare="json:prepare"), "BrokenPlugin", "has no attribute 'prepare'"),
    "noarguments": (plugin_code("noarguments", "threading:Lock"), "BrokenPlugin", "threading:Lock: TypeError"),
}
SEEN_WHEN_CHOSEN = {"noprepare", "noclass", "nomodule", "noprotocol", "noarguments"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with every fault at once, two distributions of one name, and a leftover without metadata."""
    folder = tmp_path_factory.mktemp("site")
    for name, (code, _, _) in FAULTS.items():
        write_plugin(folder, name, code)
    write_plugin(folder, "twin", plugin_code("twin"), dist="fake-twin-one", module="fake_twin_one")
    write_plugin(folder, "twin", plugin_code("twin"), dist="fake-twin-two", module="fake_twin_two")
    write_plugin(folder, "leftover", plugin_code("leftover"))
    (folder / "fake_leftover-1.5.dist-info" / "METADATA").unlink()
    return folder


@pytest.fixture(scope="module")
def got(site: Path) -> dict[str, Any]:
    found: dict[str, Any] = python(GET, "sync", *FAULTS, "twin", "leftover", site=site)
    return found


@pytest.fixture(scope="module")
def listed(site: Path) -> dict[str, Any]:
    return {each["name"]: each for each in json.loads(manyhands("backends", "--json", cwd=site, site=site).stdout)}


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_plugin_is_a_typed_error_with_its_distribution_and_remedy(got: dict[str, Any], name: str) -> None:
    kind, message = got[name]
    assert kind == FAULTS[name][1]
    for words in (f"'{name}'", f"fake-{name} 1.5", "pip ", FAULTS[name][2]):
        assert words in message
    assert "\n" not in message


def test_two_distributions_of_one_name_are_an_error_that_names_both(got: dict[str, Any]) -> None:
    kind, message = got["twin"]
    assert kind == "DuplicateBackend"
    for words in ("fake-twin-one (fake_twin_one)", "fake-twin-two (fake_twin_two)", "uninstall one"):
        assert words in message


def test_broken_plugins_break_no_other(got: dict[str, Any]) -> None:
    assert got["sync"] == "SyncFifoExecutor"


def test_the_listing_has_the_healthy_and_the_broken_with_their_reason(listed: dict[str, Any]) -> None:
    assert listed["sync"]["error"] is None
    assert listed["sync"]["capabilities"]["inline"] is True
    for name, (_, kind, _) in FAULTS.items():
        assert listed[name]["distribution"] == f"fake-{name}"
        error = listed[name]["error"]
        assert error is None if name in SEEN_WHEN_CHOSEN else error["type"] == kind, name
    assert listed["twin"]["error"]["type"] == "DuplicateBackend"


def test_a_distribution_without_metadata_is_listed_as_unknown(listed: dict[str, Any]) -> None:
    assert (listed["leftover"]["distribution"], listed["leftover"]["version"]) == ("unknown", "unknown")


def test_the_table_of_backends_shows_every_reason_in_full(site: Path) -> None:
    done = manyhands("backends", cwd=site, site=site, COLUMNS="40")
    lines = {line.split()[0]: line for line in reversed(done.stdout.splitlines())}
    assert done.returncode == 0
    assert lines["sync"].split() == ["sync", "executor", "manyhands-sync", lines["sync"].split()[3], "inline"]
    assert lines["tooold"].endswith("upgrade it: pip install -U fake-tooold")


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        ("json:prepare", "json:prepare: AttributeError"),
        ("json:loads", "json:loads: TypeError"),
        ("builtins:repr", "builtins:repr gave str, not a context manager"),
    ],
)
def test_a_wrong_preparation_is_a_broken_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: str, words: str
) -> None:
    monkeypatch.syspath_prepend(write_plugin(tmp_path / "site", "ill", plugin_code("ill", prepare=prepare)))
    monkeypatch.delitem(sys.modules, "fake_ill", raising=False)
    with pytest.raises(BrokenPlugin, match=f"'ill' of fake-ill 1.5 is broken \\({words}"):
        registry.prepared("ill", {})


def test_what_a_message_says_to_paste_is_quoted(tmp_path: Path) -> None:
    site = write_plugin(tmp_path / "site", "odd", "raise ValueError", dist="odd; name")
    assert python(GET, "odd", site=site)["odd"][1].endswith("upgrade it or: pip uninstall 'odd; name'")


def test_choosing_a_backend_imports_no_other_plugin(tmp_path: Path) -> None:
    site = write_plugin(tmp_path / "site", "bystander", plugin_code("bystander"))
    modules = python(GET, "sync", site=site)["modules"]
    assert set(modules) == {"manyhands_sync", "manyhands_sync.plugin", "manyhands_sync.executor"}


def test_listing_imports_the_descriptions_and_no_backend(tmp_path: Path) -> None:
    code = plugin_code("heavy", "fake_heavy_code:Executor")
    site = write_plugin(tmp_path / "site", "heavy", code, fake_heavy_code="raise SystemExit('imported')")
    seen = python(
        """
        import json, sys
        from manyhands.plugins.registry import installed
        names = sorted(found.name for found in installed() if found.error is None)
        print(json.dumps([names, "fake_heavy" in sys.modules, "fake_heavy_code" in sys.modules]))
        """,
        site=site,
    )
    names, described, imported = seen
    assert {"heavy", "sync"} <= set(names)
    assert (described, imported) == (True, False)


def test_a_stranger_gets_its_options_by_its_own_model(tmp_path: Path) -> None:
    """Only what was given is passed, and a class that takes no new attribute may keep its own name."""
    code = """
        from typing import Annotated
        from pydantic import Field
        from manyhands.executor import Capabilities
        from manyhands.plugins.spec import Backend, ExecutorOptions, hookimpl

        class Options(ExecutorOptions):
            speed: Annotated[int, Field(alias="velocity")] = 3

        class Stranger:
            __slots__ = ("given",)
            capabilities = Capabilities()
            def __init__(self, **given): self.given = given
            def start(self, context): ...
            def submit(self, chunk): ...
            def shutdown(self, *, cancel=False): ...
            def slots(self): ...
            def progress(self, future): ...
            def evict(self, future): ...

        @hookimpl
        def manyhands_backends():
            return [Backend("stranger", "executor", "fake_stranger:Stranger", options=Options)]
    """
    site = write_plugin(tmp_path / "site", "stranger", code)
    given = python(
        """
        import json
        from manyhands import get_executor
        print(json.dumps(get_executor("stranger", velocity="4").given))
        """,
        site=site,
    )
    assert given == {"schema_model": None, "speed": 4}


def test_a_known_name_that_is_missing_is_answered_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(distributions.KNOWN, "slurm", "manyhands-slurm")
    with pytest.raises(BackendNotInstalled, match=r"^backend 'slurm' is not installed: pip install manyhands-slurm$"):
        get_executor("slurm")


def test_a_misspelt_name_is_answered_with_near_ones() -> None:
    with pytest.raises(UnknownBackend, match="there is no executor 'synk'; did you mean 'sync'"):
        get_executor("synk")


@pytest.mark.parametrize("name", ["", "qqqqqq", "manyhands_sync.plugin"])
def test_a_name_like_no_other_is_answered_with_all(name: str) -> None:
    with pytest.raises(UnknownBackend, match=r"known are (\w+, )*sync(, \w+)*$"):
        get_executor(name)


def test_an_executor_is_no_engine() -> None:
    engines = "dask, multiprocessing, ray, sync, zoosync"
    with pytest.raises(UnknownBackend, match=f"'threads' is no engine but an executor; engines are {engines}$"):
        registry.find("threads", "engine")
    with pytest.raises(UnknownBackend, match=f"there is no engine 'qqqqqq'; known are {engines}$"):
        get_engine("qqqqqq")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"speed": 9}, "unknown option 'speed'; allowed are chunksize, use_batch_validation"),
        ({"chunksze": 9}, "unknown option 'chunksze'; did you mean 'chunksize'\\? allowed are"),
        ({"record_timeout": 9}, "'record_timeout' is no option of backends: it belongs into \\[run\\]"),
        ({"chunksize": True}, "option 'chunksize': .* not True"),
        ({"chunksize": 0}, "option 'chunksize': .* not 0"),
        ({"chunksize": "many"}, "option 'chunksize': .* not 'many'"),
        ({"chunksize": 1.5}, "option 'chunksize': .* not 1.5"),
        ({"chunksize": -1, "speed": 1}, "option 'chunksize'.*; unknown option 'speed'"),
        ({"use_batch_validation": "perhaps"}, "option 'use_batch_validation'"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionsError, match=f"^backend 'sync': .*{words}"):
        get_executor("sync", **options)


class Leaf(BaseModel):
    model_config = ConfigDict(extra="forbid")
    alpha: int = 0


class Tree(ExecutorOptions):
    one: Leaf | None = None
    many: list[Leaf] = []


def test_a_wrong_key_of_a_table_is_told_with_those_of_that_table() -> None:
    backend = Backend("trees", "executor", "trees:Trees", Tree, Capabilities())
    with pytest.raises(OptionsError, match=r"unknown option 'one\.alpa'; did you mean 'alpha'\? allowed are alpha$"):
        check_options(backend, {"one": {"alpa": 1}}, ["name"])
    with pytest.raises(OptionsError, match=r"unknown option 'many\.0\.alpa'$"):
        check_options(backend, {"many": [{"alpa": 1}]})


def test_every_refusal_is_of_a_type_of_its_own() -> None:
    kinds = (BackendNotInstalled, BrokenPlugin, DuplicateBackend, IncompatiblePlugin, UnknownBackend)
    assert not any(issubclass(one, other) for one in kinds for other in kinds if one is not other)


def test_a_description_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        registry.find("sync").name = "other"  # type: ignore[misc]
    assert isinstance(registry.find("sync"), Backend)


def test_a_backend_that_is_installed_while_the_program_runs_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("early", "late"):
        assert name not in {point.name for point in registry.backend_points()}
        write_plugin(tmp_path, name, plugin_code(name))
        assert name in {point.name for point in registry.backend_points()}
