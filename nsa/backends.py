"""Which backends there are: those of this repository, and installed ones.

A backend is one folder and one line. Inside the repository the line is in BUILT_IN; a package of somebody else's has it
as an entry point of the group `nsa.backends`. A spec imports nothing heavy: what it names is imported when it is used.
An installed one that is broken is left out with a warning; to ask for it is an error. See docs/backend.md.
"""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nsa.errors import ConfigError
from nsa.layout import Layout
from nsa.specs import API, NAME, NAMED, BackendSpec, Examine, Flag, Guard, Stage

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["BackendSpec", "Examine", "Flag", "Guard", "Stage"]

GROUP = "nsa.backends"
Resolved = Callable[..., object]  # type: ignore[explicit-any]  # what a line names takes what its kind of function takes
FIX = "fix or uninstall its package"
BUILT_IN = {
    "sdpa": "nsa.kernels.sdpa.spec:SPEC",
    "triton": "nsa.kernels.triton.spec:SPEC",
    "cuda": "nsa.kernels.cuda.spec:SPEC",
    "fa2": "nsa.kernels.fa2.spec:SPEC",
    "fused": "nsa.kernels.fused.spec:SPEC",
    "triton_core": "nsa.kernels.triton_core.spec:SPEC",
}


@dataclass(frozen=True)
class Broken:
    """An installed backend that cannot be used.

    Attributes:
        why: in one line, with the fix.
        requests: the variables that ask for it; None where its spec does not even say that.
    """

    why: str
    requests: tuple[str, ...] | None = None


def names() -> tuple[str, ...]:
    """Every backend that can be asked for, those of this repository first."""
    return tuple(_lines().good)


def offering(contract: str) -> tuple[str, ...]:
    """Those that offer a contract."""
    return tuple(name for name in names() if contract in spec(name).contracts)


def broken() -> Mapping[str, Broken]:
    """The installed ones that cannot, by the names of their entry points."""
    return _lines().broken


def warnings() -> tuple[str, ...]:
    """A line for each broken one: those who did not ask for it go on without it."""
    return tuple(each.why for each in broken().values())


def spec(name: str) -> BackendSpec:
    """The spec of a backend.

    Raises:
        ConfigError: no backend has this name, or its line does not lead to a spec of this interface.
    """
    lines = _lines()
    if name in lines.broken:
        raise ConfigError(lines.broken[name].why)
    if name not in lines.good:
        raise ConfigError(f"backend: got {name!r}, expected one of {', '.join(lines.good)}")
    return _load(name, lines.good[name])


def package(name: str) -> str:
    """The package of a backend, whose modules and files are its sources."""
    return _package(_lines().good[name])


def maker(artifact: Path) -> str | None:
    """The backend whose own stage makes this artifact, in whatever results folder; None of any other file."""
    found = {name: Path(own.artifact).parts for name in names() if (own := spec(name).stage) is not None}
    ends = {name: parts for name, parts in found.items() if artifact.parts[-len(parts) :] == parts}
    return max(ends, key=lambda name: len(ends[name]), default=None)


def resolve(line: str) -> Resolved:
    """What "module:function" names, imported now.

    Raises:
        ConfigError: it cannot be imported.
    """
    module, _, attribute = line.partition(":")
    try:
        found: Resolved = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ConfigError(f"{line} cannot be imported ({error}); {FIX}") from error
    return found


@dataclass(frozen=True)
class _Lines:
    """The lines of the backends that can be asked for, and those that cannot, by name."""

    good: dict[str, str] = field(default_factory=lambda: dict(BUILT_IN))
    broken: dict[str, Broken] = field(default_factory=dict)


@functools.cache
def _lines() -> _Lines:
    from importlib.metadata import entry_points  # here: most of what imports this module asks for no backend

    installed: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        installed.setdefault(point.name, {})[point.value] = point
    found = _Lines()
    for name, points in installed.items():
        values = [*points, *([BUILT_IN[name]] if name in BUILT_IN else [])]
        if len(set(values)) > 1:
            both = " and ".join(reversed(values))
            twice = f"backend {name!r} is declared twice: {both}; expected one, uninstall or rename the other"
            if name in BUILT_IN:
                raise ConfigError(twice)
            found.broken[name] = Broken(twice)
        elif name not in BUILT_IN:
            _try(name, next(iter(points.values())), found)
    return found


def _try(name: str, point: EntryPoint, found: _Lines) -> None:
    """Put an installed backend where it belongs."""
    match, made = point.pattern.match(point.value), None
    line = f"{match['module']}:{match['attr']}" if match and match["attr"] else ""
    try:
        if not re.fullmatch(NAME, name):
            raise ConfigError(f"backend {name!r} ({point.value}): expected {NAMED}; {FIX}")
        if not _package(line):
            told = f"got {point.value!r}, expected 'package.module:NAME' in its entry point"
            raise ConfigError(f"backend {name!r}: {told}; {FIX}")
        made = _load(name, line)
        for fault in _collisions(made, found):
            raise ConfigError(f"backend {name!r}: {fault}; {FIX}")
    except ConfigError as error:
        requests = None if made is None else tuple(flag.variable for flag in made.flags if flag.requests)
        found.broken[name] = Broken(str(error), requests)
    else:
        found.good[name] = line


def _collisions(made: BackendSpec, found: _Lines) -> Iterator[str]:
    """Why a backend cannot write its artifact where its spec says."""
    if made.stage is None:
        return
    path = Path(made.stage.artifact)
    if Layout().taken(made.stage.artifact):
        yield f"its artifact is {path}, where results of the pipeline lie; expected a folder of its own"
    for name, line in found.good.items():
        other = _load(name, line).stage
        if other is not None and (path.is_relative_to(other.artifact) or Path(other.artifact).is_relative_to(path)):
            yield f"its artifact is {path}, and that of {name} is {other.artifact}; expected a folder of its own"


@functools.cache
def _load(name: str, line: str) -> BackendSpec:
    try:
        module, _, attribute = line.partition(":")
        found: object = getattr(importlib.import_module(module), attribute)
    except (TypeError, ConfigError) as error:  # a field that this interface does not have, or another value in it
        raise ConfigError(f"backend {name!r}: {line} is no spec of api {API} ({_first(error)}); {FIX}") from error
    except (Exception, SystemExit) as error:  # whatever somebody else's module does
        kind = "" if isinstance(error, ImportError | AttributeError | SyntaxError) else f"{type(error).__name__}: "
        raise ConfigError(f"backend {name!r}: {line} cannot be imported ({kind}{_first(error)}); {FIX}") from error
    if not isinstance(found, BackendSpec) or found.name != name or found.api != API:
        said = f"{type(found).__name__} {getattr(found, 'name', '')!r}, api {getattr(found, 'api', None)}"
        raise ConfigError(f"backend {name!r}: {line} is {said}, expected its BackendSpec of api {API}; {FIX}")
    start = sys.modules[_package(line)].__file__
    if start is None or not Path(start).is_file():  # a namespace, or inside of a zip file
        raise ConfigError(
            f"backend {name!r}: its package {_package(line)} is no folder with an __init__.py, whose files could be "
            f"its sources; {FIX}"
        )
    return found


def _package(line: str) -> str:
    return line.partition(":")[0].rpartition(".")[0]


def _first(error: BaseException) -> str:
    """The first line of an error."""
    return (str(error).strip().splitlines() or [""])[0]
