"""The build stage of an extension: compile it for this machine's GPUs, or say why not; never silently."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pynvml

from nsa.errors import ConfigError, RequiredBuildFailed
from nsa.kernels.extension import toolchain
from nsa.kernels.extension.manifest import Manifest, Step
from nsa.machine import nvcc, nvml
from nsa.machine.fingerprint import read_gpus
from nsa.machine.process import announce
from nsa.records import files
from nsa.records import stamp as stamps
from nsa.records.facts import Digests

MODES = ("auto", "require", "skip")
PORTABLE = ("80", "89", "90a", "120")  # what a required build without a GPU compiles for, where nvcc knows it


@dataclass(frozen=True)
class Extension:
    """A backend's extension.

    Attributes:
        name: the backend's.
        csrc: the folder of its sources and of its own headers.
    """

    name: str
    csrc: Path

    @property
    def library(self) -> str:
        """The file that is built."""
        return f"nsa_{self.name}.so"


def run(extension: Extension, stamp: Path, out: Path) -> None:
    """The stage: build as its stamp's settings say.

    Raises:
        RequiredBuildFailed: the settings require what cannot be built.
    """
    stamped = stamps.read(stamp)
    mode = str(stamped.settings["build"])
    made = build(extension, mode, out, stamp=stamped.carried)
    print("\n".join(said for said in (made.log, f"{made.status}: {made.reason}") if said is not None), flush=True)
    require_built(extension, mode, made)
    if made.status == "failed":
        announce(f"build {extension.name}: failed: {made.reason}; {made.fix}")


def require_built(extension: Extension, mode: str, made: Manifest) -> None:
    """Raise RequiredBuildFailed, with the compiler's first error, where a build is required and failed."""
    if mode == "require" and made.status == "failed":
        raise RequiredBuildFailed(
            f"the build of {extension.name} failed, and build.cuda or NSA_SEL_CUDA_BUILD=1 requires it: {made.reason}; "
            f"{made.fix}"
        )


def build(
    extension: Extension,
    mode: str,
    out: Path,
    environ: Mapping[str, str] = os.environ,
    archs: Sequence[str] | None = None,
    stamp: Digests | None = None,
) -> Manifest:
    """Build the extension and write its manifest to `out`; objects and the library lie beside it.

    Args:
        extension: what to build.
        mode: auto (build where there are nvcc and a GPU), require (build in any case; what is missing is a failure)
            or skip.
        out: where the manifest goes.
        environ: where CUDA_HOME, CUDA_PATH and PATH are read.
        archs: compile for these, such as "90a"; by default for this machine's GPUs, without one for PORTABLE.
        stamp: what the manifest carries of the stage's stamp.

    Raises:
        ConfigError: the mode is none of the three.
    """
    if mode not in MODES:
        raise ConfigError(f"build.cuda: got {mode!r}, expected one of {', '.join(MODES)}")
    start = time.perf_counter()
    compiler = None if mode == "skip" else nvcc.find(environ)
    made = _made(extension, mode, compiler, archs or native_archs(), out.parent)
    about = {
        "nvcc_path": str(compiler.path) if compiler else None,
        "nvcc_version": compiler.version if compiler else None,
        "nvcc_obeys": dict(compiler.obeys) if compiler else {},
        "duration_s": round(time.perf_counter() - start, 3),
        "stamp": stamp,
    }
    made = made.model_copy(update=about)
    files.write_model(out, made)
    return made


def native_archs() -> list[str]:
    """The architectures of this machine's GPUs that answer, as nvcc names them; none without a driver that answers.

    The stage's log names those that do not answer.
    """
    try:
        found, lost = nvml.ask_each(pynvml.nvmlDeviceGetCudaComputeCapability)
    except pynvml.NVMLError:  # no driver: nothing to build for
        return []
    for line in lost:
        print(f"{line}; nothing is built for it", flush=True)
    return sorted({arch_of(major, minor) for major, minor in found})


def arch_of(major: int, minor: int) -> str:
    """nvcc's name of a compute capability; Hopper's has the suffix that its own instructions need."""
    return f"{major}{minor}a" if (major, minor) == (9, 0) else f"{major}{minor}"


def _made(extension: Extension, mode: str, compiler: nvcc.Nvcc | None, wanted: Sequence[str], folder: Path) -> Manifest:
    if mode == "skip":
        return _skipped("build.cuda is skip, or NSA_SEL_CUDA_BUILD is 0")
    if compiler is None:
        return Manifest(
            status="failed" if mode == "require" else "skipped",
            reason=f"no working nvcc in {nvcc.SEARCHED}",
            fix="install the CUDA toolkit and set CUDA_HOME, or set build.cuda to skip",
        )
    if not wanted and mode == "auto":
        return _skipped("; ".join(("no CUDA device to build for", *read_gpus().lost)))
    return _compile(
        extension, compiler, tuple(arch for arch in wanted or PORTABLE if nvcc.knows(compiler, arch)), folder
    )


def _skipped(reason: str) -> Manifest:
    fix = "set build.cuda to require, or NSA_SEL_CUDA_BUILD=1, to build all the same"
    return Manifest(status="skipped", reason=reason, fix=fix)


def _compile(extension: Extension, compiler: nvcc.Nvcc, archs: tuple[str, ...], folder: Path) -> Manifest:
    """Compile and link; a failure keeps what the compiler said of it."""
    csrc, objects, library = extension.csrc, folder / "objects" / extension.name, folder / extension.library
    steps = toolchain.compile_all(compiler.path, compiler.identity, archs, csrc, objects)
    if all(step.ok for step in steps):
        steps.append(toolchain.link(compiler.path, archs, csrc, objects, library))
    log = "".join(step.log for step in steps)
    found = {
        "archs": archs,
        "digest": toolchain.digest(csrc, archs, compiler.identity),
        "objects": tuple(
            Step(source=step.source, command=tuple(step.command), reused=step.reused, duration_s=step.duration_s)
            for step in steps
        ),
        "kernels": toolchain.kernels(log),
        "warnings": toolchain.warnings(log),
    }
    if failed := [step for step in steps if not step.ok]:
        library.unlink(missing_ok=True)
        names = ", ".join(step.source for step in failed)
        made = Manifest(
            status="failed",
            reason=": ".join((f"nvcc could not build {names}", *toolchain.first_error(failed))),
            fix="mend what the compiler says, or set build.cuda to skip",
            log="\n".join(step.log for step in failed),
        )
    else:
        made = Manifest(status="built", library=str(library), library_sha256=files.sha256(library))
    return made.model_copy(update=found)
