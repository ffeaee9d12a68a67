"""What a backend says of itself, and which backends there are: those of this repository and installed ones.

A backend is one folder and one line. Inside the repository the line is in BUILT_IN; a package of somebody else's has it
as an entry point of the group `nsa.backends`. A spec imports nothing heavy: what it names is imported when it is used.
See docs/backend.md.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from nsa.errors import ConfigError

GROUP = "nsa.backends"
API = 1
Examine = Callable[[Path], Iterable[tuple[Path, str, str]]]  # see Stage.examine
Named = Callable[..., object]  # type: ignore[explicit-any]  # what a line names takes what its kind of function takes
NAME = re.compile("[a-z][a-z0-9_]*")  # it is part of paths, and of the names of stages
FIX = "fix or uninstall its package"
BUILT_IN = {
    "sdpa": "nsa.kernels.sdpa.spec:SPEC",
    "triton": "nsa.kernels.triton.spec:SPEC",
    "cuda": "nsa.kernels.cuda.spec:SPEC",
    "fa2": "nsa.kernels.fa2.spec:SPEC",
}


@dataclass(frozen=True)
class Flag:
    """An environment variable, 0 or 1, that concerns a backend; its value is part of the configuration.

    Attributes:
        variable: its name, such as NSA_SEL_CUDA.
        requests: 1 asks for the backend, whatever `candidates` says.
        affects: it changes what the backend does, so that flipping it runs again what was measured with the backend.
    """

    variable: str
    requests: bool = False
    affects: bool = False


@dataclass(frozen=True)
class Guard:
    """A compute capability on which the backend is refused unless a flag lifts the guard (docs/method.md#the-guide)."""

    capability: tuple[int, int]
    lifted_by: str  # the flag's variable; one that `affects`


@dataclass(frozen=True)
class Stage:
    """The backend's own stage, which makes its artifact before anything is measured: a build, a tuning.

    Attributes:
        entry: "module:function", called as function(stamp, environment, out): the stage's stamp, the environment's
            record, and where to write a JSON object with at least `status`, `reason` and `fix`.
        artifact: where that is, in the results folder: "build/cuda.json".
        on_machine: whether another machine gives another artifact.
        reads: what of the configuration it depends on: any of "build", "sizes" (all shapes that will be measured),
            "device" and "flags" (those of the backend that `affect`).
        uses: programs and packages whose version changes the artifact, beside those of the backend: "nvcc".
        examine: "module:function", called as function(artifact) with the artifact's path; yields (path, what, fix) for
            whatever is wrong with what the artifact names, such as a library that is gone. For `nsa doctor`.
    """

    entry: str
    artifact: str
    on_machine: bool = True
    reads: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    examine: str | None = None


@dataclass(frozen=True)
class BackendSpec:
    """One backend.

    Attributes:
        name: how config.yaml, records and pages call it.
        require: "module:function", called as function(machine, flags); raises BackendUnavailable with reason and fix
            where the backend cannot run. It imports neither torch nor anything heavy.
        load: "module:function", called as function(machine, artifact) -> nsa.kernels.contract.Backend; artifact is what
            the backend's own stage wrote, None without one.
        contracts: what it implements: "selection", "core".
        packs: whether it packs blocks for a library's attention, as packed SDPA does; any other backend that launches
            what packed SDPA launches is packed SDPA under another name.
        files: further files that it executes or reads, as patterns in its package's folder. Every module of the package
            and every other file in its folder counts without being named.
        uses: packages whose version changes what it does, beside torch: another one makes its results stale.
        api: the version of this interface.
    """

    name: str
    require: str
    load: str
    contracts: frozenset[str] = frozenset({"selection"})
    flags: tuple[Flag, ...] = ()
    guards: tuple[Guard, ...] = ()
    packs: bool = False
    stage: Stage | None = None
    files: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    api: int = API


def names() -> tuple[str, ...]:
    """Every known backend, those of this repository first."""
    return tuple(_lines())


def spec(name: str) -> BackendSpec:
    """The spec of a backend.

    Raises:
        ConfigError: no backend has this name, or its line does not lead to a spec of this interface.
    """
    lines = _lines()
    if name not in lines:
        raise ConfigError(f"backend: got {name!r}, expected one of {', '.join(lines)}")
    return _load(name, lines[name])


def package(name: str) -> str:
    """The package of a backend, whose modules and files are its sources."""
    return _lines()[name].partition(":")[0].rpartition(".")[0]


def resolve(line: str) -> Named:
    """What "module:function" names, imported now.

    Raises:
        ConfigError: it cannot be imported.
    """
    module, _, attribute = line.partition(":")
    try:
        found: Named = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ConfigError(f"{line} cannot be imported ({error}); {FIX}") from error
    return found


@functools.cache
def _lines() -> dict[str, str]:
    from importlib.metadata import entry_points  # here: most of what imports this module asks for no backend

    lines = dict(BUILT_IN)
    for point in entry_points(group=GROUP):
        if lines.get(point.name, point.value) != point.value:
            raise ConfigError(
                f"backend {point.name!r} is declared twice: {lines[point.name]} and {point.value}; "
                "expected one, uninstall or rename the other"
            )
        if not NAME.fullmatch(point.name):
            raise ConfigError(
                f"backend {point.name!r} ({point.value}): expected a name of small letters, digits and _; {FIX}"
            )
        lines[point.name] = point.value
    return lines


@functools.cache
def _load(name: str, line: str) -> BackendSpec:
    if not package(name):
        raise ConfigError(f"backend {name!r}: got {line!r}, expected 'package.module:NAME' in its entry point; {FIX}")
    try:
        found: object = resolve(line)
    except TypeError as error:  # a field that this interface does not have
        raise ConfigError(f"backend {name!r}: {line} is no spec of api {API} ({error}); {FIX}") from error
    if not isinstance(found, BackendSpec) or found.name != name or found.api != API:
        said = f"{type(found).__name__} {getattr(found, 'name', '')!r}, api {getattr(found, 'api', None)}"
        raise ConfigError(f"backend {name!r}: {line} is {said}, expected its BackendSpec of api {API}; {FIX}")
    affecting = {flag.variable for flag in found.flags if flag.affects}
    for guard in found.guards:
        if guard.lifted_by not in affecting:
            raise ConfigError(
                f"backend {name!r}: its guard is lifted by {guard.lifted_by!r}, expected one of its flags that "
                f"`affects`: {', '.join(sorted(affecting)) or 'none'}; {FIX}"
            )
    return found
