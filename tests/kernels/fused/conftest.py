"""The extension as the tests of this folder have it: built once, and loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from built import built

from nsa.kernels.extension import build as stage
from nsa.kernels.extension.manifest import Manifest
from nsa.kernels.fused import operator
from nsa.kernels.fused.build import EXTENSION

SOME = ("library.cpp", "call.cpp", "instantiate_dv128.cu", "resident_d192_c8g2_fp16.cu", "ring_d128_c8g16_bf16.cu")


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Manifest:
    """The extension built for this machine's GPUs; without one, a unit of each kind, with and without clusters.

    That of the streaming kernel is few.cu.
    """
    extension, archs = EXTENSION, None
    if not stage.native_archs():
        extension, archs = stage.Extension("fused", tmp_path_factory.mktemp("csrc")), ["80", "90a"]
        for path in EXTENSION.csrc.iterdir():
            if path.suffix not in (".cu", ".cpp") or path.name in SOME:
                shutil.copy(path, extension.csrc)
        shutil.copy(Path(__file__).with_name("few.cu"), extension.csrc)
    return built(extension, archs, pytestconfig)


@pytest.fixture(scope="session")
def loaded(manifest: Manifest) -> None:
    """The operator, loaded."""
    assert manifest.status == "built", manifest.log
    operator.load(manifest.built)
