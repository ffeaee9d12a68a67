"""Where a backend's extension was built, or why there is none that runs here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nsa.errors import BackendUnavailable
from nsa.kernels.extension import manifest
from nsa.machine.host import Artifact, Machine
from nsa.records import files


def library(name: str, machine: Machine, artifact: Artifact | None) -> Path:
    """The library of backend `name`, when it is there and has code for this machine's device.

    Raises:
        BackendUnavailable: with the reason and the fix.
        RecordError: the build's manifest is broken.
    """
    fix = f"run `snakemake {manifest.path(name)}` and read its manifest"
    if artifact is None:
        raise BackendUnavailable(name, "its extension has not been built", fix)
    made = manifest.of(name, artifact)
    if made.status != "built":
        raise BackendUnavailable(name, f"its build {made.status}: {made.reason}", made.fix or fix)
    assert machine.capability is not None  # the backend asks for a CUDA device first
    arch = "".join(map(str, machine.capability))
    if arch not in [built.rstrip("a") for built in made.archs]:
        built = ", ".join(made.archs)
        raise BackendUnavailable(name, f"its extension has no code for sm_{arch}, only for {built}", fix)
    if not made.built.is_file():
        raise BackendUnavailable(name, f"its library {made.built} is missing", rebuild(name))
    if files.sha256(made.built) != made.library_sha256:  # loading one that was cut short can kill the process
        raise BackendUnavailable(
            name, f"its library {made.built} is damaged: not the one that was built", rebuild(name)
        )
    return made.built


def load_library(name: str, machine: Machine, artifact: Artifact | None, load: Callable[[Path], object]) -> None:
    """Load the library of backend `name` by its operator's own function; raises as `library` does.

    Raises:
        BackendUnavailable: it does not load, too.
    """
    try:
        load(library(name, machine, artifact))
    except OSError as error:
        raise BackendUnavailable(name, f"its library does not load ({error})", rebuild(name)) from error


def rebuild(name: str) -> str:
    """How to build an extension again."""
    return f"delete {manifest.path(name)}, then run `snakemake`"
