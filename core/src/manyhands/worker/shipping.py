"""Code of the job for workers that run in another directory or on another machine, and cannot import it there.

    job = with_sources(context.dumps())     in the program
    WorkerContext.loads(job)                in the worker, which can import the modules from then on

Everything is pickled by name, but for what the program's own file defines. So the person's own modules travel as
source, once for each worker, before the job is unpickled there. Own is a module that was imported from a file of source
which no distribution has installed: it lies beside the job file or the program. What is installed goes by its name,
editable or not, so workers must have it too; so does a module that is compiled. A module that is imported only when a
function is called is not known before: import it at the top.

In the worker such a module comes before any other of its name. One that is there with the same source is left alone,
one with other source is replaced; what was made of it keeps its old classes. So jobs that run at the same time in one
process of a cluster must not have different modules of one name.
"""

from __future__ import annotations

import os
import pickle
import site
import sys
import sysconfig
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import cache
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from importlib.metadata import Distribution

_lock: Final = threading.Lock()
_verdicts: Final[WeakKeyDictionary[ModuleType, bool]] = WeakKeyDictionary()
_last: tuple[int, dict[str, ModuleType]] = (0, {})
_NEVER: Final = {*sys.stdlib_module_names, "__main__", "__mp_main__", "sitecustomize", "usercustomize"}


class Source(NamedTuple):
    """A module as it travels.

    Attributes:
        text: its file; None: it is a folder without `__init__.py`.
        file: name of the file, for tracebacks.
        is_package: it may have submodules.
    """

    text: bytes | None
    file: str
    is_package: bool


Sources = dict[str, Source]
"""By the names of the modules."""


def with_sources(dumped: bytes) -> bytes:
    """A pickle that makes the person's own modules importable, and then is what it was.

    Args:
        dumped: a pickle.
    """
    return pickle.dumps(_Carrier(own_sources(), dumped), pickle.HIGHEST_PROTOCOL)


def own_sources(but: Collection[str] = ()) -> Sources:
    """The sources of the modules that are the person's own.

    Args:
        but: names of modules that are not wanted.
    """
    found = {}
    for name, module in own_modules().items():
        if name not in but and (source := _source_of(module)) is not None:
            found[name] = source
            for parent in _parents(name):  # folders, which are not in the list where somebody made their modules
                if parent not in but and not getattr(sys.modules.get(parent), "__file__", None):
                    found.setdefault(parent, Source(None, "", is_package=True))
    return found


def own_modules() -> dict[str, ModuleType]:
    """Imported modules that are the person's own, by name: sources which no distribution has installed."""
    global _last  # noqa: PLW0603  # one pair, so that no thread sees half of it
    names = hash((*sys.modules,))
    if _last[0] != names:
        _last = names, _look()
    return _last[1]


def add(sources: Sources) -> None:
    """Make modules importable, in a worker.

    Args:
        sources: of them.
    """
    with _lock:
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)
        is_stale = any(_is_other(sys.modules.get(name), source) for name, source in sources.items())
        _finder.sources.update(sources)
        if is_stale:  # with all of them, as one may have imported what is stale from another
            _displace({name for name, source in sources.items() if source.text is not None})


def remove() -> None:
    """Let none of what came be left: what was replaced is there again. Idempotent."""
    with _lock:
        _finder.sources.clear()
        for name, module in [*sys.modules.items()]:
            if isinstance(_loader_of(module), _Loader):
                del sys.modules[name]
        sys.modules.update(_displaced)
        _displaced.clear()


class _Carrier:
    def __init__(self, sources: Sources, dumped: bytes) -> None:
        self._parts = {name: tuple(source) for name, source in sources.items()}, dumped

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _unpack, self._parts


def _unpack(sources: dict[str, tuple[Any, ...]], dumped: bytes) -> Any:
    add({name: Source(*parts) for name, parts in sources.items()})
    return pickle.loads(dumped)  # noqa: S301  # part of what is being unpickled


class _Loader(SourceLoader):
    """Of one module that came.

    Args:
        source: of it.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    def get_filename(self, fullname: str) -> str:  # noqa: ARG002  # it has one module
        return self.source.file

    def get_data(self, path: str | bytes) -> bytes:  # noqa: ARG002  # as above
        return self.source.text or b""

    def is_package(self, fullname: str) -> bool:  # noqa: ARG002  # as above
        return self.source.is_package


class _Finder(MetaPathFinder):
    """Finds what came before what is here."""

    def __init__(self) -> None:
        self.sources: Sources = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        source = self.sources.get(fullname)
        if source is None:
            return None
        if source.text is not None:
            return spec_from_loader(fullname, _Loader(source))
        # Of a folder there may be another part here.
        return PathFinder.find_spec(fullname, path, target) or ModuleSpec(fullname, _Loader(source), is_package=True)


_finder: Final = _Finder()
_displaced: Final[dict[str, ModuleType]] = {}


def _displace(names: set[str]) -> None:
    for name, module in [*sys.modules.items()]:
        if name in names or not names.isdisjoint(_parents(name)):
            del sys.modules[name]
            if not isinstance(_loader_of(module), _Loader):
                _displaced[name] = module


def _is_other(module: ModuleType | None, source: Source) -> bool:
    if module is None or source.text is None:
        return False
    loader = _loader_of(module)
    here = loader.source if isinstance(loader, _Loader) else _source_of(module)
    return here is None or here.text != source.text


def _source_of(module: ModuleType) -> Source | None:
    file, is_package = getattr(module, "__file__", None), hasattr(module, "__path__")
    if not isinstance(file, str):
        return Source(None, "", is_package) if is_package else None
    if not file.endswith(".py"):
        return None
    with suppress(OSError):
        return Source(Path(file).read_bytes(), file, is_package)
    with suppress(Exception):  # of a loader that may be anybody's
        return Source(_loader_of(module).get_data(file), file, is_package)
    return None


def _loader_of(module: Any) -> Any:
    return getattr(getattr(module, "__spec__", None), "loader", None)


def _parents(name: str) -> Iterator[str]:
    while name := name.rpartition(".")[0]:
        yield name


def _look() -> dict[str, ModuleType]:
    installed = _Installed()
    found = {}
    for name, module in sys.modules.copy().items():
        if isinstance(module, ModuleType):  # some programs put other things there
            if module not in _verdicts:
                _verdicts[module] = _is_own(name, module, installed)
            if _verdicts[module]:
                found[name] = module
    return found


class _Installed:
    """What distributions, and Python itself, have installed."""

    def __init__(self) -> None:
        paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
        folders = [Path(path) for path in (*paths, *site.getsitepackages(), site.getusersitepackages())]
        self._folders = {path for folder in folders for path in (folder, folder.resolve())}
        self._is_inside = cache(self._look_around)  # many modules lie in few folders
        self._names: set[str] | None = None

    def has(self, name: str, path: str) -> bool:
        """Whether the module of this name, which lies here, is among it."""
        folder = os.path.dirname(path)  # noqa: PTH120  # a `Path` for each of thousands of modules takes its time
        if self._is_inside(folder) or self._is_inside(os.path.dirname(os.path.realpath(path))):  # noqa: PTH120  # as above
            return True
        if self._names is None:
            self._find_others()
            self._is_inside.cache_clear()
        return name.partition(".")[0] in (self._names or ()) or self._is_inside(folder)

    def _look_around(self, folder: str) -> bool:
        path = Path(folder)
        return not self._folders.isdisjoint((path, *path.parents))

    def _find_others(self) -> None:
        """What is not where installers put things: editable distributions, and folders of the search path."""
        from importlib.metadata import distributions

        usual, self._names = set(self._folders), set()
        for folder in usual:
            for file in folder.glob("*.pth") if folder.is_dir() else ():
                self._folders.update(_paths_in(file))
        for dist in distributions():
            place = Path(str(dist.locate_file("")))
            if place not in usual or dist.read_text("direct_url.json"):
                self._names.update(_top_level(dist))


def _paths_in(file: Path) -> Iterator[Path]:
    with suppress(OSError, UnicodeDecodeError):
        for line in file.read_text().splitlines():
            if line and not line.startswith(("#", "import ", "import\t")):
                yield file.parent / line.strip()


def _top_level(dist: Distribution) -> Iterator[str]:
    text = dist.read_text("top_level.txt")
    if text is not None:
        yield from text.split()
        return
    for file in dist.files or ():
        name = file.parts[0]
        if file.suffix == ".py" and not name.startswith("__editable__"):
            yield name.removesuffix(".py")


def _is_own(name: str, module: ModuleType, installed: _Installed) -> bool:
    top = name.partition(".")[0]
    if getattr(module, "__name__", None) != name or top in _NEVER:
        return False
    if top == "manyhands" or top.startswith("manyhands_"):  # run from its sources, without being installed
        return False
    places = _places(module)
    return bool(places) and not any(installed.has(name, place) for place in places)


def _places(module: ModuleType) -> list[str]:
    """Where it is: its source, or the folders of a package without one; nothing for what is built in or compiled."""
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return [file] if file.endswith((".py", ".pyc")) else []
    spec = getattr(module, "__spec__", None)
    folders = getattr(spec, "submodule_search_locations", None)
    return [os.path.join(folder, "_") for folder in folders or ()]  # noqa: PTH118  # see `_Installed.has`
