"""The files that a stage executes or reads: what it imports, what it loads by name, and all that its backends consist of."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import grimp

from nsa import backends
from nsa.errors import ConfigError
from nsa.pipeline.stages import Stage

ROOT = "nsa"
# Every stage starts here; its command imports the stage. What users type (guide, verdict) changes no stage.
COMMAND_LINE = ("__main__.py", "cli/__init__.py", "cli/app.py", "cli/stages.py")


def graph() -> grimp.ImportGraph:
    """Who imports whom, within this package and within those of installed backends."""
    return grimp.build_graph(*_roots(), exclude_type_checking_imports=True, cache_dir=None)


def sources(stage: Stage, imports: grimp.ImportGraph) -> dict[str, Path]:
    """The files of a stage, by names that do not depend on where a package is installed: "nsa/shapes.py".

    Raises:
        ConfigError: a pattern of a backend's `files` matches nothing.
    """
    packages = (*stage.starts, *(backends.package(name) for name in stage.backends))
    starts = {module for module in imports.modules for package in packages if _inside(module, package)}
    found = dict(_named(module) for module in _closure(starts, imports))
    for name in stage.backends:
        found |= _contents(backends.package(name)) | _further(name)
    for package in stage.data:
        found |= {name: file for name, file in _contents(package).items() if file.suffix != ".py"}
    found |= {f"{ROOT}/{name}": _folder(ROOT) / name for name in COMMAND_LINE}
    return dict(sorted(found.items()))


def _roots() -> tuple[str, ...]:
    """The packages to look into: this one, and of an installed backend's the outermost that is no namespace."""
    packages = [ROOT, *(_root(name) for name in backends.names())]
    return tuple(dict.fromkeys(packages))


def _root(backend: str) -> str:
    backends.spec(backend)  # imported, so that its packages are
    parts = backends.package(backend).split(".")
    prefixes = [".".join(parts[: length + 1]) for length in range(len(parts))]
    return next((prefix for prefix in prefixes if sys.modules[prefix].__file__ is not None), prefixes[-1])


def _closure(modules: Iterable[str], imports: grimp.ImportGraph) -> set[str]:
    seen: set[str] = set()
    todo = list(modules)
    while todo:
        module = todo.pop()
        if module in seen or module not in imports.modules:
            continue
        seen.add(module)
        todo.extend(imports.find_modules_directly_imported_by(module))
        if parent := module.rpartition(".")[0]:
            todo.append(parent)  # importing a module first runs the __init__ of its packages
    return seen


def _inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _named(module: str) -> tuple[str, Path]:
    """The name and the file of a module."""
    outer = next(root for root in _roots() if _inside(module, root))
    inner = PurePosixPath(*module.removeprefix(outer).split("."))
    folder = _folder(outer) / inner
    name = PurePosixPath(*outer.split(".")) / inner
    if folder.is_dir():
        return str(name / "__init__.py"), folder / "__init__.py"
    return f"{name}.py", folder.with_name(f"{folder.name}.py")


def _contents(package: str) -> dict[str, Path]:
    """Every file in a package's folder but hidden and compiled ones."""
    folder, name = _folder(package), PurePosixPath(*package.split("."))
    inside = ((file.relative_to(folder), file) for file in folder.rglob("*") if file.is_file())
    return {str(name / path): file for path, file in inside if not _ignored(path)}


def _further(backend: str) -> dict[str, Path]:
    """The files that a backend's spec names beside its package, perhaps outside its folder."""
    package = backends.package(backend)
    folder, name = _folder(package), PurePosixPath(*package.split("."))
    found: dict[str, Path] = {}
    for pattern in backends.spec(backend).files:
        matches = [file for file in folder.glob(pattern) if file.is_file()]
        if not matches:
            raise ConfigError(
                f"backend {backend!r}: its `files` has {pattern!r}, which matches nothing in {folder}; "
                "expected a pattern of files that are there"
            )
        found |= {str(name / file.relative_to(folder)): file for file in matches}
    return found


def _ignored(path: Path) -> bool:
    return path.suffix == ".pyc" or any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def _folder(package: str) -> Path:
    """Where a package lies, wherever it is installed; an editable one in its sources."""
    return next(_folders(package))


def _folders(package: str) -> Iterator[Path]:
    spec = importlib.util.find_spec(package)
    yield from map(Path, (spec and spec.submodule_search_locations) or ())
