"""For `nsa doctor`: whether the extension that a manifest names is there, whole, for these GPUs, and loads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from nsa.kernels.extension.build import native_archs
from nsa.kernels.extension.manifest import Manifest
from nsa.records import files


def examine(artifact: Path) -> Iterator[tuple[Path, str, str]]:
    """What is wrong with the library of a manifest: where, what, and how to fix it; torch is asked last, in a process.

    Raises:
        RecordError: the manifest cannot be read.
    """
    made = files.read_model(artifact, Manifest)
    if made.status != "built":
        return
    library, rebuild = made.built, f"delete {artifact}, then run `snakemake`"
    lacking = sorted(set(native_archs()) - set(made.archs))
    if not library.is_file():
        yield library, "missing", rebuild
    elif files.sha256(library) != made.library_sha256:
        yield library, "damaged: not the library that was built", rebuild
    elif lacking:
        yield library, f"has no code for sm_{', sm_'.join(lacking)}, only for {', '.join(made.archs)}", rebuild
    else:
        load = [sys.executable, "-c", "import sys, torch; torch.ops.load_library(sys.argv[1])", str(library)]
        said = subprocess.run(load, capture_output=True, text=True, check=False)
        if said.returncode != 0:
            why = (said.stderr.strip().splitlines() or [f"exit status {said.returncode}"])[-1]
            yield library, f"does not load ({why})", rebuild
