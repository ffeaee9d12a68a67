"""The build stage: its status is what happened, with the reason, and its manifest is on disk."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from nsa.errors import ConfigError
from nsa.kernels.cuda import build as stage
from nsa.kernels.cuda import toolchain
from nsa.machine import nvcc

COMPILER = nvcc.Nvcc(Path("toolkit/bin/nvcc"), "13.0.88")
needs_nvcc = pytest.mark.skipif(nvcc.find(os.environ) is None, reason="no nvcc on this machine")


def run(monkeypatch: pytest.MonkeyPatch, mode: str, compiler: nvcc.Nvcc | None, out: Path) -> dict[str, Any]:
    """Run the stage where this compiler is the one found and no GPU is; nothing may be compiled."""
    monkeypatch.setattr(nvcc, "find", lambda environ: compiler)
    monkeypatch.setattr(stage, "native_archs", list)
    manifest = stage.build(mode, out / "build", {})
    assert json.loads((out / "build" / "cuda.json").read_text()) == manifest
    assert manifest["library"] is None and manifest["log"] is None and manifest["duration_s"] >= 0
    return manifest


@pytest.mark.parametrize("compiler", [COMPILER, None])
def test_skip_skips_whatever_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiler: nvcc.Nvcc | None
) -> None:
    """Breaks if a skipped build blames a missing compiler."""
    manifest = run(monkeypatch, "skip", compiler, tmp_path)
    assert manifest["status"] == "skipped" and "build.cuda is skip" in manifest["reason"]
    assert "NSA_SEL_CUDA_BUILD=1" in manifest["fix"] and manifest["nvcc_path"] is None


@pytest.mark.parametrize(("mode", "status"), [("auto", "skipped"), ("require", "failed")])
def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: str, status: str) -> None:
    """Breaks if a required build that cannot happen passes, or if an optional one stops the report."""
    manifest = run(monkeypatch, mode, None, tmp_path)
    assert manifest["status"] == status
    assert manifest["reason"].startswith("no working nvcc in CUDA_HOME, CUDA_PATH, PATH")
    assert "set CUDA_HOME" in manifest["fix"]


def test_without_a_gpu_an_automatic_build_is_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Breaks if a report on a CPU waits for a compiler whose library it cannot run."""
    manifest = run(monkeypatch, "auto", COMPILER, tmp_path)
    assert manifest["status"] == "skipped" and manifest["reason"] == "no CUDA device to build for"
    assert manifest["nvcc_version"] == "13.0.88"


def test_a_wrong_mode_is_named(tmp_path: Path) -> None:
    """Breaks if a misspelt mode builds, or skips, without a word."""
    with pytest.raises(ConfigError, match=r"build\.cuda: got 'yes', expected one of auto, require, skip"):
        stage.build("yes", tmp_path)


@pytest.mark.parametrize(("capability", "arch"), [((8, 0), "80"), ((8, 9), "89"), ((9, 0), "90a"), ((12, 0), "120")])
def test_architectures_have_nvccs_names(capability: tuple[int, int], arch: str) -> None:
    """Breaks if a GPU's code is built for another one."""
    assert stage.arch_of(*capability) == arch


KERNEL = """#include "scale.cuh"
__global__ void twice(float *x) { x[threadIdx.x] *= SCALE; }
extern "C" void launch_twice(float *x) { twice<<<1, 32>>>(x); }
"""


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An extension of one kernel and one header in place of ours."""
    csrc = tmp_path / "csrc"
    csrc.mkdir()
    (csrc / "scale.cuh").write_text("#define SCALE 2\n")
    (csrc / "twice.cu").write_text(KERNEL)
    (csrc / "other.cpp").write_text("int other() { return 1; }\n")
    monkeypatch.setattr(toolchain, "CSRC", csrc)
    return csrc


@needs_nvcc
def test_a_build_is_incremental_and_its_manifest_tells_all(tiny: Path, tmp_path: Path) -> None:
    """Breaks if an unchanged object is compiled again, a changed header is missed, or the manifest hides a figure."""
    first = stage.build("require", tmp_path / "out", archs=["90a"])
    assert first["status"] == "built" and Path(first["library"]).is_file() and first["archs"] == ["90a"]
    assert {step["source"]: step["reused"] for step in first["objects"]} == {
        "twice.cu": False,
        "other.cpp": False,
        "nsa_cuda.so": False,
    }
    (kernel,) = first["kernels"]
    assert "twice" in kernel["kernel"] and kernel["arch"] == "sm_90a"
    assert kernel["registers"] > 0 and kernel["spill_bytes"] == 0
    again = stage.build("require", tmp_path / "out", archs=["90a"])
    assert all(step["reused"] for step in again["objects"] if step["source"] != "nsa_cuda.so")
    assert again["digest"] == first["digest"] and again["kernels"] == first["kernels"]
    (tiny / "scale.cuh").write_text("#define SCALE 3\n")
    changed = stage.build("require", tmp_path / "out", archs=["90a"])
    assert not any(step["reused"] for step in changed["objects"]) and changed["digest"] != first["digest"]


@needs_nvcc
def test_a_failed_build_keeps_the_compilers_words_and_no_library(tiny: Path, tmp_path: Path) -> None:
    """Breaks if a kernel that does not compile is replaced by yesterday's library without a word."""
    stage.build("require", tmp_path / "out", archs=["90a"])
    (tiny / "twice.cu").write_text(KERNEL.replace("SCALE", "undeclared"))
    manifest = stage.build("auto", tmp_path / "out", archs=["90a"])
    assert manifest["status"] == "failed" and manifest["reason"] == "nvcc could not build twice.cu"
    assert 'identifier "undeclared" is undefined' in manifest["log"]
    assert manifest["library"] is None and not (tmp_path / "out" / stage.LIBRARY).exists()
