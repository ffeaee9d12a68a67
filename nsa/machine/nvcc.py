"""Where NVIDIA's CUDA compiler is, and which version: the fingerprint, the probe and the CUDA build all ask here."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Variables that it and the host's compiler obey beside their arguments: each may make other code of the same sources.
OBEYED = (
    *("NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS", "NVCC_CCBIN"),
    *("CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH", "GCC_EXEC_PREFIX"),
)
ANSWER_S = 10.0  # in which a compiler states its version
SEARCHED = "CUDA_HOME, CUDA_PATH, PATH and the pip package nvidia-cuda-nvcc"


@dataclass(frozen=True)
class Nvcc:
    """A CUDA compiler that answers.

    Attributes:
        version: the full one, such as 13.0.88.
        obeys: the variables of OBEYED that are set, with their values.
    """

    path: Path
    version: str
    obeys: tuple[tuple[str, str], ...] = ()

    @property
    def identity(self) -> str:
        """What tells whether it makes the same code of the same sources and arguments."""
        return " ".join((self.version, *(f"{name}={value}" for name, value in self.obeys)))


def find(environ: Mapping[str, str]) -> Nvcc | None:
    """The first nvcc that answers `--version`, of CUDA_HOME, CUDA_PATH, PATH and the pip package; None without one."""
    obeys = tuple((name, environ[name]) for name in OBEYED if environ.get(name))
    homes = [Path(environ[name]) / "bin" for name in ("CUDA_HOME", "CUDA_PATH") if environ.get(name)]
    for folder in (*homes, *environ.get("PATH", "").split(os.pathsep), *_pip_folders()):
        path = shutil.which("nvcc", path=str(folder))
        version = _version(path) if path else None
        if path and version:
            return Nvcc(Path(path), version, obeys)
    return None


def knows(compiler: Nvcc, arch: str) -> bool:
    """Whether the compiler can build for an architecture, such as "90a" or "80+PTX"."""
    line = [str(compiler.path), "--list-gpu-code"]
    try:
        listed = subprocess.run(line, capture_output=True, text=True, check=False, timeout=ANSWER_S).stdout
    except subprocess.TimeoutExpired:
        return False
    return f"sm_{arch.removesuffix('+PTX').rstrip('a')}" in listed.split()


def _pip_folders() -> list[Path]:
    """Where the pip packages for CUDA 13 and 12 put their programs."""
    spec = importlib.util.find_spec("nvidia")  # a namespace package; finding it imports nothing
    roots = list(spec.submodule_search_locations or []) if spec else []
    return [Path(root) / package / "bin" for root in roots for package in ("cu13", "cuda_nvcc")]


def _version(path: str) -> str | None:
    """The version that a compiler states; None when it cannot be run, hangs or states none."""
    try:
        answer = subprocess.run(
            [path, "--version"], capture_output=True, text=True, check=False, timeout=ANSWER_S, stdin=subprocess.DEVNULL
        ).stdout
    except subprocess.TimeoutExpired:
        print(f"warning: {path} --version says nothing in {ANSWER_S:g} s; it is passed over", file=sys.stderr)
        return None
    except OSError:
        return None
    match = re.search(r"release [\d.]+, V([\d.]+)", answer)
    return match[1] if match else None
