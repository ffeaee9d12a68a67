"""The CUDA kernel as a backend: where its extension was built, and loading it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nsa.config import Flags
from nsa.errors import BackendUnavailable
from nsa.kernels.cuda import manifest
from nsa.kernels.cuda.manifest import PATH, REBUILD
from nsa.kernels.guards import require_cuda
from nsa.machine.host import Artifact, Machine
from nsa.records import files

if TYPE_CHECKING:
    from nsa.kernels.contract import Backend

FIX = f"run `snakemake {PATH}` and read its manifest"


def require(machine: Machine, flags: Flags) -> None:
    """Raise BackendUnavailable without a CUDA device, and without an extension that was built for it.

    Raises:
        RecordError: the build's manifest is broken.
    """
    require_cuda("cuda", machine)
    _library(machine, machine.artifacts.get("cuda"))


def load(machine: Machine, artifact: Artifact | None) -> Backend:
    """Load the extension that the build's manifest names."""
    from nsa.kernels.contract import Backend
    from nsa.kernels.cuda import operator

    try:
        operator.load(_library(machine, artifact))
    except OSError as error:
        raise BackendUnavailable("cuda", f"its library does not load ({error})", REBUILD) from error
    return Backend("cuda", operator.select_attention)


def _library(machine: Machine, artifact: Artifact | None) -> Path:
    """The library, when it is there and has code for this device."""
    if artifact is None:
        raise BackendUnavailable("cuda", "its extension has not been built", FIX)
    made = manifest.of(artifact)
    if made.status != "built":
        raise BackendUnavailable("cuda", f"its build {made.status}: {made.reason}", made.fix or FIX)
    assert machine.capability is not None  # require_cuda
    arch = "".join(map(str, machine.capability))
    if arch not in [built.rstrip("a") for built in made.archs]:
        built = ", ".join(made.archs)
        raise BackendUnavailable("cuda", f"its extension has no code for sm_{arch}, only for {built}", FIX)
    if not made.built.is_file():
        raise BackendUnavailable("cuda", f"its library {made.built} is missing", REBUILD)
    if files.sha256(made.built) != made.library_sha256:  # loading one that was cut short can kill the process
        raise BackendUnavailable("cuda", f"its library {made.built} is damaged: not the one that was built", REBUILD)
    return made.built
