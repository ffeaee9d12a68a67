"""The CUDA build stage: compile the extension for this machine's GPUs, or say why not; never silently."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pynvml

from nsa.errors import ConfigError
from nsa.kernels.cuda import sha256, toolchain
from nsa.machine import nvcc
from nsa.records import files

MODES = ("auto", "require", "skip")
LIBRARY = "nsa_cuda.so"
PORTABLE = ("80", "89", "90a", "120")  # what a required build without a GPU compiles for, where nvcc knows it


def build(
    mode: str,
    out_dir: Path,
    environ: Mapping[str, str] = os.environ,
    archs: Sequence[str] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run the stage and write its manifest to `out_dir/cuda.json`; objects and the library lie beside it.

    Args:
        mode: auto (build where there are nvcc and a GPU), require (build in any case; what is missing is a failure)
            or skip.
        out_dir: where the manifest and the extension go.
        environ: where CUDA_HOME, CUDA_PATH and PATH are read.
        archs: compile for these, such as "90a"; by default for this machine's GPUs, without one for PORTABLE.
        facts: what the manifest carries beside its own.

    Returns:
        The manifest: status ("built", "skipped" or "failed"), reason, fix, library (its path),
        library_sha256, archs, digest, nvcc_path, nvcc_version, duration_s, objects (command, duration, whether it was reused), kernels (registers,
        shared memory, spills of each), warnings and, of a failure, the compiler's log.

    Raises:
        ConfigError: the mode is none of the three.
    """
    if mode not in MODES:
        raise ConfigError(f"build.cuda: got {mode!r}, expected one of {', '.join(MODES)}")
    start, out_dir = time.perf_counter(), Path(out_dir)
    compiler = None if mode == "skip" else nvcc.find(environ)
    wanted = archs or native_archs()
    manifest: dict[str, Any] = {
        "reason": None,
        "fix": None,
        "library": None,
        "library_sha256": None,
        "archs": [],
        "digest": None,
        "nvcc_path": str(compiler.path) if compiler else None,
        "nvcc_version": compiler.version if compiler else None,
        "log": None,
    }
    if mode == "skip":
        manifest |= _skipped("build.cuda is skip, or NSA_SEL_CUDA_BUILD is 0")
    elif compiler is None:
        manifest |= {
            "status": "failed" if mode == "require" else "skipped",
            "reason": f"no working nvcc in {nvcc.SEARCHED}",
            "fix": "install the CUDA toolkit and set CUDA_HOME, or set build.cuda to skip",
        }
    elif not wanted and mode == "auto":
        manifest |= _skipped("no CUDA device to build for")
    else:
        manifest |= _compile(compiler, [arch for arch in wanted or PORTABLE if nvcc.knows(compiler, arch)], out_dir)
    manifest |= facts or {}
    manifest["duration_s"] = round(time.perf_counter() - start, 3)
    files.write_text(out_dir / "cuda.json", json.dumps(manifest, indent=2) + "\n")
    return manifest


def native_archs() -> list[str]:
    """The architectures of this machine's GPUs, as nvcc names them; none without a driver that answers."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver: nothing to build for
        return []
    try:
        gpus = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        found = [pynvml.nvmlDeviceGetCudaComputeCapability(gpu) for gpu in gpus]
    finally:
        pynvml.nvmlShutdown()
    return sorted({arch_of(major, minor) for major, minor in found})


def arch_of(major: int, minor: int) -> str:
    """nvcc's name of a compute capability; Hopper's has the suffix that its own instructions need."""
    return f"{major}{minor}a" if (major, minor) == (9, 0) else f"{major}{minor}"


def _skipped(reason: str) -> dict[str, Any]:
    fix = "set build.cuda to require, or NSA_SEL_CUDA_BUILD=1, to build all the same"
    return {"status": "skipped", "reason": reason, "fix": fix}


def _compile(compiler: nvcc.Nvcc, archs: list[str], out_dir: Path) -> dict[str, Any]:
    """Compile and link; a failure keeps what the compiler said of it."""
    folder, library = out_dir / "objects", out_dir / LIBRARY
    objects = toolchain.compile_all(compiler.path, compiler.version, archs, folder)
    steps = [*objects, toolchain.link(compiler.path, archs, folder, library)] if all(o.ok for o in objects) else objects
    log = "".join(step.log for step in steps)
    found = {
        "archs": archs,
        "digest": toolchain.digest(archs, compiler.version),
        "objects": [
            {"source": step.source, "command": step.command, "reused": step.reused, "duration_s": step.duration_s}
            for step in steps
        ],
        "kernels": toolchain.kernels(log),
        "warnings": toolchain.warnings(log),
    }
    failed = [step for step in steps if not step.ok]
    if failed:
        (out_dir / LIBRARY).unlink(missing_ok=True)
        text = "\n".join(step.log for step in failed)
        return {
            **found,
            "status": "failed",
            "reason": f"nvcc could not build {', '.join(step.source for step in failed)}",
            "fix": "read the compiler's log below, or set build.cuda to skip",
            "log": text,
        }
    return {**found, "status": "built", "library": str(library), "library_sha256": sha256(library)}
