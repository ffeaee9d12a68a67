"""The files that a stage executes or reads: what it imports, what it loads by name, and all of its backends' own."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

import grimp
from grimp.exceptions import SourceSyntaxError

from nsa import backends
from nsa.errors import ConfigError
from nsa.pipeline.stages import Stage

ROOT = "nsa"
# Every stage starts here; its command imports the stage. What users type (guide, verdict) changes no stage.
COMMAND_LINE = ("__main__.py", "cli/__init__.py", "cli/app.py", "cli/stages.py")

NO_PYTHON = (SourceSyntaxError, UnicodeError)  # what grimp raises of a source that it cannot read

Files = dict[str, Path]  # by names that do not depend on where a package is installed: "nsa/shapes.py"


class Unreadable(ConfigError):
    """The sources of an installed backend cannot be told.

    Attributes:
        backend: whose they are.
    """

    def __init__(self, backend: str, why: str) -> None:
        super().__init__(f"backend {backend!r}: {why}; {backends.FIX}")
        self.backend = backend


class Code:
    """This package and those of installed backends as they are now: who imports whom, and their files.

    Raises:
        ConfigError: a source of this package is no Python.
    """

    def __init__(self) -> None:
        self._unreadable: dict[str, str] = {}  # roots, and why
        roots = tuple(dict.fromkeys((ROOT, *map(_root, backends.names()))))
        try:
            self.imports = _graph(*roots)
        except NO_PYTHON:  # whose source it is
            for root in roots:
                try:
                    _graph(root)
                except NO_PYTHON as error:
                    if root == ROOT:
                        raise ConfigError(f"{_first(error)}; expected Python, mend it") from error
                    self._unreadable[root] = _first(error)
            self.imports = _graph(*(root for root in roots if root not in self._unreadable))
        self._files = {
            module: _file(module, root) for root in roots for module in self.imports.modules if _in(module, root)
        }
        self._contents = functools.cache(_contents)

    def sources(self, stage: Stage) -> Files:
        """The files of a stage.

        Raises:
            Unreadable: a source of a backend is no Python, or a pattern of its `files` matches nothing.
        """
        for name in stage.backends:
            if (why := self._unreadable.get(_root(name))) is not None:
                raise Unreadable(name, why)
        packages = (*stage.starts, *(backends.package(name) for name in stage.backends))
        below = tuple(f"{package}." for package in packages)
        starts = [module for module in self._files if module in packages or module.startswith(below)]
        found = dict(self._files[module] for module in self._closure(starts))
        for name in stage.backends:
            found |= self._contents(backends.package(name)) | _further(name)
        for package in stage.data:
            found |= {name: file for name, file in self._contents(package).items() if file.suffix != ".py"}
        found |= {f"{ROOT}/{name}": _folder(ROOT) / name for name in COMMAND_LINE}
        return dict(sorted(found.items()))

    def _closure(self, modules: Iterable[str]) -> set[str]:
        seen: set[str] = set()
        todo = list(modules)
        while todo:
            module = todo.pop()
            if module in seen or module not in self._files:
                continue
            seen.add(module)
            todo.extend(self.imports.find_modules_directly_imported_by(module))
            todo.append(module.rpartition(".")[0])  # importing a module first runs the __init__ of its packages
        return seen


def _graph(*roots: str) -> grimp.ImportGraph:
    return grimp.build_graph(*roots, exclude_type_checking_imports=True, cache_dir=None)


def _first(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(":")


def _root(backend: str) -> str:
    """The outermost package around a backend's that is no namespace, such as nsa of nsa.kernels.cuda."""
    backends.spec(backend)  # imports it
    parts = backends.package(backend).split(".")
    around = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return next((package for package in around if sys.modules[package].__file__ is not None), ".".join(parts))


def _in(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _file(module: str, root: str) -> tuple[str, Path]:
    """The name and the file of a module."""
    path = _folder(root).joinpath(*module.removeprefix(root).split(".")[1:])
    name = module.replace(".", "/")
    return (f"{name}/__init__.py", path / "__init__.py") if path.is_dir() else (f"{name}.py", path.with_suffix(".py"))


def _contents(package: str) -> Files:
    """Every file in a package's folder but hidden and compiled ones."""
    folder, name = _folder(package), package.replace(".", "/")
    inside = [(file.relative_to(folder), file) for file in folder.rglob("*") if file.is_file()]
    return {f"{name}/{path.as_posix()}": file for path, file in inside if not _ignored(path)}


def _further(backend: str) -> Files:
    """The files that a backend's spec names beside its package, perhaps outside its folder."""
    package = backends.package(backend)
    folder, name = _folder(package), package.replace(".", "/")
    found: Files = {}
    for pattern in backends.spec(backend).files:
        matches = [file for file in folder.glob(pattern) if file.is_file()]
        if not matches:
            raise Unreadable(
                backend,
                f"its `files` has {pattern!r}, which matches nothing in {folder}, expected a pattern of files that are "
                "there",
            )
        found |= {f"{name}/{file.relative_to(folder).as_posix()}": file for file in matches}
    return found


def _ignored(path: Path) -> bool:
    return path.suffix == ".pyc" or any(part.startswith(".") or part == "__pycache__" for part in path.parts)


@functools.cache
def _folder(package: str) -> Path:
    """Where a package lies, wherever it is installed; that of an editable one among its sources."""
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.submodule_search_locations, package  # it is imported, or a folder of ours
    return Path(next(iter(spec.submodule_search_locations)))
