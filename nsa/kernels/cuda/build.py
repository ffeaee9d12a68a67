"""The CUDA build stage: says whether the extension could be built here, and writes down what came of it.

There is no kernel source yet, so there is nothing to compile; the compiler call belongs into `build`, where the
manifest says so.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nsa import nvcc, records
from nsa.errors import ConfigError

MODES = ("auto", "require", "skip")


def build(mode: str, out_dir: Path, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Run the stage and write its manifest to `out_dir/cuda.json`.

    Args:
        mode: auto (build where nvcc is found), require (a missing nvcc is a failure) or skip.
        out_dir: where the manifest, and later the extension, goes.
        environ: where CUDA_HOME, CUDA_PATH and PATH are read.

    Returns:
        The manifest: status ("skipped", "failed" or "nothing to build"), reason, mend, nvcc_path, nvcc_version,
        duration_s, log (the compiler's, null when none ran) and digest (the extension's, null when there is none).

    Raises:
        ConfigError: the mode is none of the three.
    """
    if mode not in MODES:
        raise ConfigError(f"build.cuda: got {mode!r}, expected one of {', '.join(MODES)}")
    start = time.perf_counter()
    compiler = None if mode == "skip" else nvcc.find(environ)
    mend: str | None = None
    if mode == "skip":
        status, reason = "skipped", "build.cuda is skip, or NSA_SEL_CUDA_BUILD is 0"
        mend = "set build.cuda to auto, or NSA_SEL_CUDA_BUILD=1"
    elif compiler is None:
        status = "failed" if mode == "require" else "skipped"
        reason = f"no working nvcc in {nvcc.SEARCHED}"
        mend = "install the CUDA toolkit and set CUDA_HOME, or set build.cuda to skip"
    else:
        status, reason = "nothing to build", "nsa/kernels/cuda has no kernel source yet"
    manifest = {
        "status": status,
        "reason": reason,
        "mend": mend,
        "nvcc_path": str(compiler.path) if compiler else None,
        "nvcc_version": compiler.version if compiler else None,
        "duration_s": round(time.perf_counter() - start, 3),
        "log": None,
        "digest": None,
    }
    records.write_text(Path(out_dir) / "cuda.json", json.dumps(manifest, indent=2) + "\n")
    return manifest
