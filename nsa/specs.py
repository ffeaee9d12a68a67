"""What a backend says of itself: the types of a spec, each checked when it is made. See docs/backend.md."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, get_type_hints

from pydantic import AfterValidator, TypeAdapter, ValidationError

from nsa.errors import ConfigError
from nsa.settings import line, refuse

API = 1
Examine = Callable[[Path], Iterable[tuple[Path, str, str]]]  # see Stage.examine
RESERVED = ("empty",)  # how records call the empty graph, among backends (nsa.records.words.EMPTY)
OURS = ("NSA_SEL_CUDA_BUILD", "NSA_PARENT", "NSA_CONSOLE", "NSA_LOCKS")  # variables that are no backend's


def _words(pattern: str, expected: str, but: tuple[str, ...] = ()) -> AfterValidator:
    """Text of this form and none of those, or what was expected."""
    form = re.compile(pattern)

    def check(value: str) -> str:
        if value in but or not form.fullmatch(value):
            raise refuse(value, expected)
        return value

    return AfterValidator(check)


def _relative(value: str) -> str:
    """A path below a folder, in plain words: it becomes a file of the pipeline, whose wildcards and shell see it."""
    path = PurePosixPath(value)
    if (
        str(path) != value
        or not path.parts
        or not all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", part) for part in path.parts)
    ):
        raise refuse(value, "a path in the results folder of letters, digits, _, . and -, such as build/cuda.json")
    return value


def _pattern(value: str) -> str:
    if not value or PurePosixPath(value).is_absolute():
        raise refuse(value, "a pattern of files, from the package's folder on")
    return value


NAME = "[a-z][a-z0-9_]{0,63}"  # it is part of paths, and of the names of stages
NAMED = "a name of small letters, digits and _"
Name = Annotated[str, _words(NAME, f"{NAMED}, none that is reserved", RESERVED)]
Line = Annotated[str, _words(r"[A-Za-z_]\w*(\.\w+)*:[A-Za-z_]\w*", 'text of the form "module:function"')]
Variable = Annotated[str, _words("[A-Z][A-Z0-9_]*", "a variable of capitals, digits and _ that is not ours", OURS)]
Version = Annotated[str, _words(r"[A-Za-z0-9][A-Za-z0-9_.-]*", "the name of a package or a program")]


def checked(made: Part) -> None:
    """Check every field of a part of a spec by its type, and make a tuple of a list.

    Raises:
        ConfigError: a field is not of its type, with its name and its value.
    """
    types = _types(type(made).__name__)
    for field in fields(made):
        name = f"{type(made).__name__}.{field.name}"
        try:
            value: object = types[field.name].validate_python(getattr(made, field.name))
        except ValidationError as error:
            said = line(error, name)
            raise ConfigError(said if said.startswith(name) else f"{name}.{said}") from None
        object.__setattr__(made, field.name, value)


@functools.cache
def _types(part: str) -> dict[str, TypeAdapter[object]]:
    """What the fields of a part of a spec may hold."""
    hints = get_type_hints(globals()[part], include_extras=True)
    return {name: TypeAdapter(hint) for name, hint in hints.items()}


@dataclass(frozen=True)
class Flag:
    """An environment variable, 0 or 1, that concerns a backend; its value is part of the configuration.

    Attributes:
        variable: its name, such as NSA_SEL_CUDA.
        requests: 1 asks for the backend, whatever `candidates` says.
        affects: it changes what the backend does, so that flipping it runs again what was measured with the backend.
    """

    variable: Variable
    requests: bool = False
    affects: bool = False

    def __post_init__(self) -> None:
        checked(self)


@dataclass(frozen=True)
class Guard:
    """A compute capability on which the backend is refused unless a flag lifts the guard (docs/guide.md)."""

    capability: tuple[int, int]
    lifted_by: Variable  # the flag's; one that `affects`

    def __post_init__(self) -> None:
        checked(self)


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

    entry: Line
    artifact: Annotated[str, AfterValidator(_relative)]
    on_machine: bool = True
    reads: tuple[Literal["build", "sizes", "device", "flags"], ...] = ()
    uses: tuple[Version, ...] = ()
    examine: Line | None = None

    def __post_init__(self) -> None:
        checked(self)


@dataclass(frozen=True)
class BackendSpec:
    """One backend.

    Attributes:
        name: how config.yaml, records and pages call it.
        require: "module:function", called as function(machine, flags); raises BackendUnavailable with reason and fix
            where the backend cannot run. It imports neither torch nor anything heavy.
        load: "module:function", called as function(machine, artifact) -> nsa.kernels.contract.Backend; artifact is what
            the backend's own stage wrote, None without one.
        contracts: what it implements: "selection", "core" or both.
        packs: whether it packs blocks for a library's attention, as packed SDPA does; any other backend that launches
            what packed SDPA launches is packed SDPA under another name.
        files: further files that it executes or reads, as patterns in its package's folder. Every module of the package
            and every other file in its folder counts without being named.
        uses: packages whose version changes what it does, beside torch: another one makes its results stale.
        api: the version of this interface.

    Raises:
        ConfigError: a field is not of its type, or a guard is lifted by no flag of the backend.
    """

    name: Name
    require: Line
    load: Line
    contracts: frozenset[Literal["selection", "core"]] = frozenset({"selection"})
    flags: tuple[Flag, ...] = ()
    guards: tuple[Guard, ...] = ()
    packs: bool = False
    stage: Stage | None = None
    files: tuple[Annotated[str, AfterValidator(_pattern)], ...] = ()
    uses: tuple[Version, ...] = ()
    api: int = API

    def __post_init__(self) -> None:
        checked(self)
        if not self.contracts:
            raise ConfigError("BackendSpec.contracts: got {}, expected 'selection', 'core' or both")
        affecting = {flag.variable for flag in self.flags if flag.affects}
        for guard in self.guards:
            if guard.lifted_by not in affecting:
                raise ConfigError(
                    f"its guard is lifted by {guard.lifted_by!r}, expected one of its flags that `affects`: "
                    f"{', '.join(sorted(affecting)) or 'none'}"
                )


Part = BackendSpec | Stage | Guard | Flag
