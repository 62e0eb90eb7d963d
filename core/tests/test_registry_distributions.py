"""What pip can install a distribution from, so that a remedy works where no index has it."""

import json
from pathlib import Path
from typing import Any

import pytest

from manyhands.errors import BackendNotInstalled
from manyhands.plugins.distributions import KNOWN, installable
from manyhands.plugins.registry import get_executor

FOLDER = {"dir_info": {}}
EDITABLE = {"dir_info": {"editable": True}}


def install(site: Path, name: str, *requires: str, origin: dict[str, Any] | str | None = None) -> None:
    info = site / f"{name.replace('-', '_')}-1.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1", *(f"Requires-Dist: {text}" for text in requires)]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    if origin is not None:
        (info / "direct_url.json").write_text(origin if isinstance(origin, str) else json.dumps(origin))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the distributions of a test are, in a folder whose name must be quoted in an URL."""
    folder = tmp_path / "a b"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def test_what_an_index_gave_is_asked_for_by_name(site: Path) -> None:
    install(site, "thing")
    assert installable("thing") == ("thing",)
    assert installable("missing-thing") == ("missing-thing",)


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (FOLDER, ("thing @ {url}",)),
        (FOLDER | {"subdirectory": "core"}, ("thing @ {url}#subdirectory=core",)),
        (EDITABLE, ("-e", "{url}")),
        ({"vcs_info": {"vcs": "git", "commit_id": "ab"}}, ("thing @ git+{url}",)),
        ({"vcs_info": {"vcs": "git", "commit_id": "ab", "requested_revision": "v1"}}, ("thing @ git+{url}@v1",)),
    ],
)
def test_what_came_from_a_place_comes_from_there_again(site: Path, origin: Any, expected: tuple[str, ...]) -> None:
    install(site, "thing", origin={"url": site.as_uri(), **origin})
    assert installable("thing") == tuple(part.format(url=site.as_uri()) for part in expected)


@pytest.mark.parametrize("origin", [EDITABLE, FOLDER, {"archive_info": {}}])
def test_a_place_that_has_gone_is_not_named(site: Path, origin: dict[str, Any]) -> None:
    install(site, "thing", origin={"url": f"{site.as_uri()}/gone", **origin})
    assert installable("thing") == ("thing",)


@pytest.mark.parametrize("origin", ["", "no json", "[]", "{}", '{"url": 5}'])
def test_a_damaged_note_of_the_place_is_none(site: Path, origin: str) -> None:
    install(site, "thing", origin=origin)
    assert installable("thing") == ("thing",)


def test_what_the_metapackage_names_with_a_place_comes_from_there(site: Path) -> None:
    place = site.as_uri()
    install(site, "manyhands", "no requirement @", f"Thing @ {place}", f"big @ {place} ; extra == 'all'", "other==1")
    install(site, "thing", origin={"url": "file:///elsewhere", **FOLDER})
    assert installable("thing") == (f"thing @ {place}",)
    assert installable("big") == (f"big @ {place}",)
    assert installable("other") == ("other",)


def test_a_missing_backend_is_answered_with_what_pip_can_install(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(site, "manyhands", f"manyhands-slow @ {site.as_uri()}")
    monkeypatch.setitem(KNOWN, "slow", "manyhands-slow")
    with pytest.raises(BackendNotInstalled, match=f"is not installed: pip install 'manyhands-slow @ {site.as_uri()}'$"):
        get_executor("slow")
