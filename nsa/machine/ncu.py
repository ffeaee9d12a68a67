"""Where NVIDIA's kernel profiler ncu (Nsight Compute) is: the fingerprint and the DRAM stage ask here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

TOOLKIT = Path("/usr/local/cuda/bin")  # where NVIDIA's own packages put it: CUDA's,
NSIGHT = Path("/opt/nvidia/nsight-compute")  # and Nsight Compute's, a folder for each version
SEARCHED = f"PATH, CUDA_HOME, {TOOLKIT} and {NSIGHT}"


def find(environ: Mapping[str, str]) -> Path | None:
    """The first ncu on PATH, in CUDA_HOME and where NVIDIA's packages put it, the newest first; None without one."""
    home = [Path(environ["CUDA_HOME"]) / "bin"] if environ.get("CUDA_HOME") else []
    versions = sorted(NSIGHT.glob("*"), reverse=True)
    for folder in (*environ.get("PATH", "").split(os.pathsep), *home, TOOLKIT, *versions):
        if path := shutil.which("ncu", path=str(folder)):
            return Path(path)
    return None
