"""An extension as tests build it: what has not changed since an earlier run of the tests is kept."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from filelock import FileLock

from nsa.kernels.extension import build as stage
from nsa.kernels.extension.manifest import Manifest


def built(extension: stage.Extension, archs: Sequence[str] | None, config: pytest.Config) -> Manifest:
    """Build it in pytest's cache: an object of the same sources, flags, compiler and torch is not compiled again.

    Args:
        extension: what to build.
        archs: for what; None for this machine's GPUs.
        config: whose cache (`pytest --cache-clear` empties it, and so does `make clean`).
    """
    assert config.cache is not None, "tests that build an extension need pytest's cache"
    folder = config.cache.mkdir(f"{extension.name}-torch-{torch.__version__}")
    with FileLock(folder / ".lock"):
        return stage.build(extension, "require", folder / f"{extension.name}.json", archs=archs)
