"""The commands and their options; what each one does is imported when it is called."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manyhands._version import __version__
from manyhands.cli.new import new

app: typer.Typer = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Write a record pipeline once; choose by name whose hands do it.",
)
app.add_typer(new, name="new")

JobFile = Annotated[Path, typer.Argument(metavar="JOB", help="The job file (TOML).")]
ExecutorName = Annotated[
    str | None, typer.Option("--executor", metavar="NAME", help="Another backend than the job names.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Replace a value of the job. May be given several times."),
]


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"manyhands {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def run(
    job: JobFile,
    *,
    executor: ExecutorName = None,
    settings: Settings = None,
    progress: Annotated[str, typer.Option(metavar="STYLE", help="auto, rich, plain, json or none.")] = "auto",
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the final report to this file, as JSON.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 when any record was rejected.")] = False,
) -> None:
    """Run a job."""
    from manyhands.cli.run import run_job

    code = run_job(
        job, executor=executor, settings=settings or [], progress=progress, report_file=report, strict=strict
    )
    raise typer.Exit(code)


@app.command()
def check(job: JobFile, executor: ExecutorName = None, settings: Settings = None) -> None:
    """Say what a job would run, and import everything it needs."""
    from manyhands.cli.check import check_job

    check_job(job, executor=executor, settings=settings or [])


@app.command()
def backends(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for machines.")] = False,
) -> None:
    """List the installed backends."""
    from manyhands.cli.backends import list_backends

    list_backends(as_json=as_json)


@app.command()
def doctor(
    job: Annotated[Path | None, typer.Argument(metavar="JOB", help="A job file to look at as well.")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON list of objects, for machines.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Remove what dead runs have left, without asking.")] = False,
) -> None:
    """Look for what is wrong with the installation, and say the line that puts it right.

    Exit code 0: no error, though there may be warnings. 2: the installation or the job is wrong.
    """
    from manyhands.cli.doctor import run_doctor

    code = run_doctor(job, as_json=as_json, fix=fix)
    raise typer.Exit(code)


@app.command()
def schema() -> None:
    """Print the JSON schema of job files, for editors: with the backends that are installed and their options."""
    from manyhands.cli.schema import print_schema

    print_schema()
