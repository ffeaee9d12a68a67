"""CUDA backend: one fused kernel over the selected blocks, in the extension that the build stage makes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from nsa.config import Flags
from nsa.errors import BackendUnavailable
from nsa.kernels.guards import require_cuda
from nsa.machine.host import Machine

if TYPE_CHECKING:
    from nsa.kernels.contract import Backend

FIX = "run `snakemake results/build/cuda.json` and read its manifest"
REBUILD = "delete results/build/cuda.json, then run `snakemake`"


def require(machine: Machine, flags: Flags) -> None:
    """Raise BackendUnavailable without a CUDA device, and without an extension that was built for it."""
    require_cuda("cuda", machine)
    _library(machine)


def load(machine: Machine) -> Backend:
    """Load the extension that the machine's manifest names."""
    from nsa.kernels.contract import Backend
    from nsa.kernels.cuda import operator

    try:
        operator.load(_library(machine))
    except OSError as error:
        raise BackendUnavailable("cuda", f"its library does not load ({error})", REBUILD) from error
    return Backend("cuda", operator.select_attention)


def sha256(library: Path) -> str:
    """The library's own digest: one that was cut short, or replaced, is known before it is loaded."""
    return hashlib.sha256(library.read_bytes()).hexdigest()


def _library(machine: Machine) -> Path:
    """The library, when it is there and has code for this device."""
    manifest = machine.artifacts.get("cuda")
    if manifest is None:
        raise BackendUnavailable("cuda", "its extension has not been built", FIX)
    if manifest["status"] != "built":
        raise BackendUnavailable(
            "cuda", f"its build {manifest['status']}: {manifest['reason']}", manifest["fix"] or FIX
        )
    assert machine.capability is not None  # require_cuda
    arch = "".join(map(str, machine.capability))
    if arch not in [built.rstrip("a") for built in manifest["archs"]]:
        built = ", ".join(manifest["archs"])
        raise BackendUnavailable("cuda", f"its extension has no code for sm_{arch}, only for {built}", FIX)
    library = Path(manifest["library"])
    if not library.is_file():
        raise BackendUnavailable("cuda", f"its library {library} is missing", REBUILD)
    if sha256(library) != manifest["library_sha256"]:  # loading one that was cut short can kill the process
        raise BackendUnavailable("cuda", f"its library {library} is damaged: not the one that was built", REBUILD)
    return library
