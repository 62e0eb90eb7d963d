"""`manyhands new`: folders to begin with."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

new: typer.Typer = typer.Typer(no_args_is_help=True, help="Write a job or a backend to begin with.")

Into = Annotated[Path, typer.Option("--into", metavar="DIR", help="The folder in which the new one is written.")]


@new.command()
def backend(
    name: Annotated[str, typer.Argument(metavar="NAME", help="By which jobs will choose it.")], into: Into = Path()
) -> None:
    """Write a distribution with a backend of your own, which installs and passes its tests as it is."""
    from manyhands.scaffold.backend import new_backend

    folder = new_backend(name, into)
    print(f"{folder} is written; what to make yours is marked CHANGE. Go on with")
    for command in (f"cd {shlex.quote(str(folder))}", 'pip install -e ".[test]"', "pytest"):
        print(f"  {command}")


@new.command()
def job(
    sample: Annotated[Path, typer.Argument(metavar="SAMPLE", help="Your data, or the beginning of it: CSV or JSON.")],
    *,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Of the new folder; left out, the sample's.")
    ] = None,
    into: Into = Path(),
) -> None:
    """Write a job for your data: its model has the columns and types that are found in the sample."""
    from manyhands.scaffold.job import new_job

    made = new_job(sample, name, into)
    for note in made.notes:
        print(f"manyhands: {sample}: {note}", file=sys.stderr)
    print(f"{made.folder} is written; its model is made of {made.read}. Go on with")
    for command in ("check", "run"):
        print(f"  manyhands {command} {shlex.quote(str(made.folder / 'job.toml'))}")
