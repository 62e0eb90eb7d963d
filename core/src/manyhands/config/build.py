"""From a job to a pipe: imports what the job names, and nothing else."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from manyhands.adapters.base import BaseInputAdapter, BaseOutputAdapter
from manyhands.adapters.names import obstacle, partial_name
from manyhands.config.adapters import INPUTS, OPTIONS, OUTPUTS
from manyhands.config.job import AdapterTable, EngineTable, Job
from manyhands.config.load import allowed, explain
from manyhands.cpus import cpus
from manyhands.driver.options import RunOptions
from manyhands.driver.watch import check_limits
from manyhands.errors import InputError, JobFileError, ManyhandsError, UnpicklableError, UsageError
from manyhands.events import Observer
from manyhands.hooks import BaseHook, check_hook
from manyhands.manager import PipeManager
from manyhands.pipe import Pipe
from manyhands.plugins.options import check_options
from manyhands.plugins.registry import find, get_engine, get_executor
from manyhands.worker.context import WorkerContext
from manyhands.worker.schema import check_schema

# Between the person's code and us; of no interest to them.
_OURS: Final = (__file__, importlib.__file__)


def build_pipe(path: Path, job: Job, *, observers: tuple[Observer, ...] = ()) -> Pipe:
    """The pipe that a job describes.

    Args:
        path: of the job file: its folder is where relative paths begin and where modules are looked for first.
        job: its content.
        observers: for the pipe.

    Raises:
        UsageError: something that it names does not exist or does not fit; says where.
    """
    return _Builder(path).pipe(job, observers)


def build_run(path: Path, job: Job, pipe: Pipe) -> Pipe | PipeManager:
    """What runs the job: the pipe itself, or where the job names an engine, a manager that runs it in shards.

    Args:
        path: of the job file.
        job: its content.
        pipe: that the job describes.

    Raises:
        UsageError: the engine cannot be had, or the pipe not be cut into shards, or time limits not be kept.
    """
    try:
        check_limits(pipe.executor, pipe.options, on_engine=job.engine is not None)
    except UsageError as error:
        raise type(error)(f"{path}: [run] {error}") from error
    if job.engine is None:
        return pipe
    try:
        return _in_shards(job.engine, pipe)
    except (InputError, UnpicklableError):  # it is not about the engine
        raise
    except UsageError as error:
        raise type(error)(f"{path}: [engine] {error}") from error


def check_code(pipe: Pipe) -> None:
    """See that what the person wrote can travel to workers.

    Raises:
        UnpicklableError: names what cannot.
    """
    WorkerContext(pipe.schema_model, pipe.pre_validation_hooks, pipe.post_validation_hooks).dumps()


def _in_shards(table: EngineTable, pipe: Pipe) -> PipeManager:
    backend = find(table.name, "engine")
    check_options(backend, table.options, beside=["workers"])
    engine = get_engine(table.name, **table.options)
    if backend.capabilities.crosses_process:
        check_code(pipe)
    return PipeManager.parallelize_pipe(pipe, table.workers or cpus(), engine)


class _Builder:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder = path.parent.absolute()
        folder = str(self._folder)
        if folder not in sys.path:
            sys.path.insert(0, folder)

    def pipe(self, job: Job, observers: tuple[Observer, ...]) -> Pipe:
        schema = self._schema(job)
        return Pipe(
            input_adapter=self._input(job.input),
            output_adapter=self._output("output", job.output),
            error_output_adapter=self._output("errors", job.errors),
            schema_model=schema,
            executor=self._executor(job),
            pre_validation_hooks=[self._hook("pre", name) for name in job.hooks.pre],
            post_validation_hooks=[self._hook("post", name) for name in job.hooks.post],
            max_hook_chunk_size=job.hooks.max_chunk_size,
            options=RunOptions(**job.run.model_dump()),
            observers=observers,
        )

    def _executor(self, job: Job) -> Any:
        try:
            return get_executor(job.executor.name, **job.executor.options)
        except UsageError as error:
            raise type(error)(f"{self._path}: [executor] {error}") from error

    def _schema(self, job: Job) -> Any:
        if job.schema_ is None:
            return None
        model = self._import("schema", "model", job.schema_.model)
        try:
            check_schema(model)
        except UsageError as error:
            raise self._wrong("schema", "model", str(error)) from error
        return model

    def _hook(self, key: str, reference: str) -> BaseHook:
        found = self._import("hooks", key, reference)
        if isinstance(found, type):
            if not issubclass(found, BaseHook):
                raise self._wrong("hooks", key, f"{reference} is no hook: derive it from manyhands.BaseHook")
            try:
                found = found()
            except (Exception, SystemExit) as error:
                raise self._wrong("hooks", key, f"{reference}() failed: {self._words(error)}") from error
        try:
            return check_hook(found)
        except UsageError as error:
            raise self._wrong("hooks", key, str(error)) from error

    def _input(self, table: AdapterTable) -> BaseInputAdapter:
        options = table.options
        if table.adapter == "python" and "iterable" in options:
            options["iterable"] = self._import("input", "iterable", str(options["iterable"]))
        adapter: BaseInputAdapter = self._adapter("input", INPUTS[table.adapter], table.adapter, options)
        return adapter

    def _output(self, name: str, table: AdapterTable | None) -> BaseOutputAdapter | None:
        if table is None:
            return None
        adapter: BaseOutputAdapter = self._adapter(name, OUTPUTS[table.adapter], table.adapter, table.options)
        if adapter.path is not None and os.path.realpath(adapter.path) == os.path.realpath(self._path):
            raise self._wrong(name, "path", "that is this job file")
        return adapter

    def _adapter(self, table: str, cls: type[Any], name: str, options: dict[str, Any]) -> Any:
        if name == "jsonl":
            options.setdefault("format", "lines")
        if isinstance(options.get("path"), str):
            options["path"] = self._folder / options["path"]
        model = OPTIONS.get(cls)
        try:
            if model is None:
                return TypeAdapter(cls).validate_python(options)
            return cls(**dict(model.model_validate(options)))
        except ValidationError as error:
            names = list(model.model_fields if model else cls.__dataclass_fields__)
            problems = [str(self._option(table, names, item)) for item in error.errors()]
            raise JobFileError("\n".join(problems)) from error
        except UsageError as error:
            raise JobFileError(f"{self._path}: [{table}] {error}") from error

    def _option(self, table: str, names: list[str], item: Any) -> JobFileError:
        key = ".".join(map(str, item["loc"]))
        if item["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            return self._wrong(table, key, f"no such option; {allowed(key, names)}")
        return self._wrong(table, key, explain(item))

    def _import(self, table: str, key: str, reference: str) -> Any:
        module, _, attribute = reference.partition(":")
        if not (module and attribute):
            raise self._wrong(table, key, f'write "module:attribute", not {reference!r}')
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise self._wrong(table, key, self._no_module(module, error)) from error
        except (Exception, SystemExit) as error:
            raise self._wrong(table, key, f"importing {module} failed: {self._words(error)}") from error
        if (other := self._hidden_by(module.partition(".")[0])) is not None:
            raise self._wrong(table, key, f"{module} is already imported from {other}; give yours another name")
        for name in attribute.split("."):
            if not hasattr(found, name):
                raise self._wrong(table, key, f"{module} has no {name!r}; {_near(name, dir(found))}")
            found = getattr(found, name)
        return found

    def _hidden_by(self, name: str) -> str | None:
        """The file of a module that was imported before, and so instead of one of this name next to the job file."""
        file = getattr(sys.modules[name], "__file__", None)
        own = (self._folder / f"{name}.py", self._folder / name / "__init__.py")
        theirs = [path for path in own if path.is_file()]
        if not theirs or (file is not None and any(path.samefile(file) for path in theirs)):
            return None
        return file or "Python itself"

    def _no_module(self, module: str, error: ModuleNotFoundError) -> str:
        if module.endswith(".py"):
            return f'leave out ".py": {module.removesuffix(".py")}'
        if module == error.name or module.startswith(f"{error.name}."):
            return f"there is no module {module!r}, neither in {self._folder} nor installed"
        return f"importing {module} failed: {self._words(error)}"

    def _words(self, error: BaseException) -> str:
        """What happened, on one line, and in which line of the person's code; a traceback would bury it."""
        words = " ".join(f"{type(error).__name__}: {error}".split())
        frames = traceback.extract_tb(error.__traceback__)
        foreign = [frame for frame in frames if frame.filename not in _OURS and not frame.filename.startswith("<")]
        theirs = [frame for frame in foreign if Path(frame.filename).is_relative_to(self._folder)] or foreign
        if not theirs or isinstance(error, ManyhandsError | SyntaxError):  # which say it themselves
            return words
        return f"{words} ({theirs[-1].filename}, line {theirs[-1].lineno})"

    def _wrong(self, table: str, key: str, what: str) -> JobFileError:
        return JobFileError(f"{self._path}: [{table}] {key}: {what}")


def check_files(pipe: Pipe) -> None:
    """Open the input, and see that the outputs could be created, without creating them.

    Raises:
        UsageError: one of them cannot be used.
    """
    pipe.check_files()
    if pipe.input_adapter.path is not None:  # an iterable is code of the person's, which must not run now
        pipe.input_adapter.open().close()
    for adapter in (pipe.output_adapter, pipe.error_output_adapter):
        if adapter is not None and adapter.path is not None:
            _check_output(adapter.path)


def _check_output(path: Path) -> None:
    folder = path.parent
    if not folder.is_dir():
        raise UsageError(f"cannot write {path}: the folder {folder} does not exist; create it first")
    if not os.access(folder, os.W_OK):
        raise UsageError(f"cannot write {path}: the folder {folder} is read-only")
    if path.exists() and not path.is_file():
        raise UsageError(f"cannot write {path}: it is not a regular file")
    if (reason := obstacle(partial_name(Path(os.path.realpath(path))))) is not None:
        raise UsageError(f"cannot write {path}: {reason}")


def _near(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, [other for other in names if not other.startswith("_")], n=3)
    return f"did you mean {' or '.join(map(repr, near))}?" if near else "see how it is spelled there"
