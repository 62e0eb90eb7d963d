"""What the site has beside the pages of this folder. MkDocs calls the functions named `on_...`.

- Pages of the repository that are useful outside of it too, from where they stand.
- Names of code blocks, as titles.
- Tables made of the sources: options, commands, errors.
- Links lead, as they are written, from file to file of the repository; on the site, to where its pages are.
"""

from __future__ import annotations

import inspect
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from typer.main import get_command

import manyhands.errors
from manyhands.cli.commands import app
from manyhands.config.adapters import INPUTS, OPTIONS, OUTPUTS
from manyhands.config.schema import options_schema, table_schema
from manyhands.plugins.registry import installed

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PLUGINS = sorted(file.parent.name for file in ROOT.glob("plugins/*/README.md"))

# Where the site has the pages that stand outside of this folder.
OUTSIDE: Mapping[str, str] = {
    "README.md": "overview.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "benchmarks/README.md": "benchmarks.md",
    "examples/flights/README.md": "flights.md",
    **{f"plugins/{name}/README.md": f"backends/{name}.md" for name in PLUGINS},
}
HOMES = {place: path for path, place in OUTSIDE.items()}

# A block of code, in which nothing is a link, or a link to a file.
CODE_OR_LINK = re.compile(r"^```.*?^```|\[([^\]]*)\]\((?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?\)", re.MULTILINE | re.DOTALL)
NAMED_BLOCK = re.compile(r"^(```\w+) (\S+)$", re.MULTILINE)
GENERATED = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
FOREIGN = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"?(?:https?:)?//|<link\b[^>]*\bhref=\"?(?:https?:)?//"
)


def on_config(config: MkDocsConfig) -> None:
    """Name the pages that come and go with plugins and decisions."""
    proved = [file.name for file in DOCS.glob("capabilities.md")]  # by the conformance kit
    fill(config.nav, "Backends", [*proved, *(f"backends/{name}.md" for name in PLUGINS)])
    fill(config.nav, "Decisions", sorted(f"decisions/{file.name}" for file in DOCS.glob("decisions/*.md")))


def fill(nav: Any, title: str, pages: list[str]) -> None:
    """Put pages under this title, wherever it is."""
    for entry in nav:
        for name, below in entry.items() if isinstance(entry, dict) else ():
            if name == title:
                below.extend(page for page in pages if page not in below)
            elif isinstance(below, list):
                fill(below, title, pages)


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages from outside."""
    for path, place in OUTSIDE.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Fill in what is generated, and point links to the site's pages."""
    here = PurePosixPath(HOMES.get(page.file.src_uri, f"docs/{page.file.src_uri}")).parent
    there = PurePosixPath(page.file.src_uri).parent

    def on_the_site(match: re.Match[str]) -> str:
        text, link, part = match.groups()
        if link is None:
            return match[0]
        place = place_of(os.path.normpath(here / link))
        # What the site does not have, such as a module, is named there and not linked.
        return text if place is None else f"[{text}]({os.path.relpath(place, there)}{part or ''})"

    whole = GENERATED.sub(lambda match: "\n".join(TABLES[match[1]]()), markdown)
    return NAMED_BLOCK.sub(r'\1 title="\2"', CODE_OR_LINK.sub(on_the_site, whole))


def place_of(path: str) -> str | None:
    """Where the site has a file of the repository; None if it does not."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    return path.removeprefix("docs/") if path.startswith("docs/") and path.endswith(".md") else None


def on_post_page(output: str, page: Page, **_: Any) -> None:
    """Refuse what would be loaded from another server."""
    if found := FOREIGN.search(output):
        raise PluginError(f"{page.file.src_uri} would load something from another server: {found[0]}")


def options() -> Iterator[str]:
    """The options of each backend here."""
    for found in installed():
        if found.backend is not None and found.name in PLUGINS:
            title = found.name if found.backend.kind == "executor" else f"{found.name}, the engine"
            yield from (f"## {title}", "", *keys(options_schema(found.backend)))


def adapters() -> Iterator[str]:
    """The adapters that read and write files, whose options are those of a job file too."""
    for cls in dict.fromkeys((*INPUTS.values(), *OUTPUTS.values())):
        if cls not in OPTIONS:
            text = inspect.cleandoc(cls.__doc__ or "").partition("\nArgs:")[0]
            yield from (f"## {cls.__name__}", "", text, "", *keys(table_schema(cls)))


def keys(schema: Mapping[str, Any]) -> Iterator[str]:
    """A table of what a schema lets one say."""
    required = schema.get("required", ())
    yield from table(
        ("key", "value", "left out", "meaning"),
        [
            (f"`{key}`", kind(value), "is required" if key in required else default(value), value["description"])
            for key, value in schema["properties"].items()
        ],
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A table in Markdown."""
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def kind(value: Mapping[str, Any]) -> str:
    """What values a key may have, in words."""
    if choices := value.get("enum") or ([value["const"]] if "const" in value else None):
        return ", ".join(f"`{toml(choice)}`" for choice in choices)
    least = f" from {value['minimum']}" if "minimum" in value else ""
    named = "object" if "$ref" in value else "any"
    return f"{value.get('type', named)}{least}"


def default(value: Mapping[str, Any]) -> str:
    """What a key is when it is left out, where that is a value."""
    return f"`{toml(value['default'])}`" if "default" in value else ""


def toml(value: Any) -> str:
    """A value as a job file says it."""
    return json.dumps(value) if value != '"' else "'\"'"


def commands() -> Iterator[str]:
    """Each command with what it takes, as `--help` says it."""
    yield from command("manyhands", get_command(app))


def command(name: str, this: Any) -> Iterator[str]:
    """One command and those below it."""
    if below := getattr(this, "commands", None):
        for word, each in below.items():
            yield from command(f"{name} {word}", each)
        return
    yield from (f"## {name}", "", this.help, "")
    rows = [(f"`{words(parameter)}`", parameter.help or "") for parameter in this.params]
    yield from table(("argument", "meaning"), rows) if rows else ()


def words(parameter: Any) -> str:
    """An argument as it is typed."""
    named = [option for option in parameter.opts if option.startswith("-")]
    return " ".join([*named[:1], *([parameter.metavar] if parameter.metavar else [])])


def errors() -> Iterator[str]:
    """The tree that the module of errors draws."""
    doc = manyhands.errors.__doc__ or ""
    yield from ("```text", doc.partition("\n\n")[2].strip(), "```")


TABLES = {"adapters": adapters, "commands": commands, "errors": errors, "options": options}
