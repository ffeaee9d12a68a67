"""The build stage: its status is what happened, with the reason, and its manifest is on disk."""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import pynvml
import pytest

from nsa.errors import ConfigError, RequiredBuildFailed
from nsa.kernels.cuda.build import EXTENSION
from nsa.kernels.cuda.build import run as run_stage
from nsa.kernels.extension import build as stage
from nsa.kernels.extension import toolchain
from nsa.kernels.extension.manifest import Kernel, Manifest
from nsa.machine import nvcc
from nsa.records import files
from nsa.records.facts import Digests
from nsa.records.stamp import Sources, Stamp

COMPILER = nvcc.Nvcc(Path("toolkit/bin/nvcc"), "13.0.88")
needs_nvcc = pytest.mark.skipif(nvcc.find(os.environ) is None, reason="no nvcc on this machine")


def run(monkeypatch: pytest.MonkeyPatch, mode: str, compiler: nvcc.Nvcc | None, out: Path) -> Manifest:
    """Run the stage where this compiler is the one found and no GPU is; nothing may be compiled."""
    monkeypatch.setattr(nvcc, "find", lambda environ: compiler)
    monkeypatch.setattr(stage, "native_archs", list)
    manifest = stage.build(EXTENSION, mode, out / "build" / "cuda.json", {})
    assert files.read_model(out / "build" / "cuda.json", Manifest) == manifest
    assert manifest.library is None and manifest.log is None and manifest.duration_s >= 0
    return manifest


@pytest.mark.parametrize("compiler", [COMPILER, None])
def test_skip_skips_whatever_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiler: nvcc.Nvcc | None
) -> None:
    """A build that is to be skipped is skipped, with or without a compiler, and says so."""
    manifest = run(monkeypatch, "skip", compiler, tmp_path)
    assert manifest.status == "skipped" and "build.cuda is skip" in str(manifest.reason)
    assert "NSA_SEL_CUDA_BUILD=1" in str(manifest.fix) and manifest.nvcc_path is None


@pytest.mark.parametrize(("mode", "status"), [("auto", "skipped"), ("require", "failed")])
def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: str, status: str) -> None:
    """Without a compiler a required build fails and an automatic one is skipped, both with the reason."""
    manifest = run(monkeypatch, mode, None, tmp_path)
    assert manifest.status == status
    assert str(manifest.reason).startswith("no working nvcc in CUDA_HOME, CUDA_PATH, PATH")
    assert "set CUDA_HOME" in str(manifest.fix)


def test_without_a_gpu_an_automatic_build_is_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a GPU an automatic build is skipped: its library could not run."""
    manifest = run(monkeypatch, "auto", COMPILER, tmp_path)
    assert manifest.status == "skipped" and manifest.reason == "no CUDA device to build for"
    assert manifest.nvcc_version == "13.0.88"


def test_a_wrong_mode_is_named(tmp_path: Path) -> None:
    """A mode that is none of the three is an error that lists them."""
    with pytest.raises(ConfigError, match=r"build\.cuda: got 'yes', expected one of auto, require, skip"):
        stage.build(EXTENSION, "yes", tmp_path / "cuda.json")


@pytest.mark.parametrize(("capability", "arch"), [((8, 0), "80"), ((8, 9), "89"), ((9, 0), "90a"), ((12, 0), "120")])
def test_architectures_have_nvccs_names(capability: tuple[int, int], arch: str) -> None:
    """A compute capability has nvcc's name, Hopper's with its suffix."""
    assert stage.arch_of(*capability) == arch


def test_a_lost_gpu_keeps_no_other_from_being_built_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The extension is built for the GPUs that answer; where none does, the reason names those that do not."""

    def capability(gpu: int) -> tuple[int, int]:
        if gpu == 0:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return 9, 0

    for name in ("nvmlInit", "nvmlShutdown"):
        monkeypatch.setattr(pynvml, name, lambda: None)
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "580.1")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", int)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCudaComputeCapability", capability)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", capability)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 2)
    assert stage.native_archs() == ["90a"]
    assert capsys.readouterr().out == "GPU 0 does not answer (GPU is lost); nothing is built for it\n"
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 1)
    assert stage.native_archs() == []
    monkeypatch.setattr(nvcc, "find", lambda environ: COMPILER)
    manifest = stage.build(EXTENSION, "auto", tmp_path / "cuda.json", {})
    assert manifest.reason == "no CUDA device to build for; GPU 0 does not answer (GPU is lost)"


@pytest.mark.parametrize("mode", ["skip", "require"])
def test_the_stage_builds_in_the_stamped_mode(
    mode: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stage reads its mode from its stamp, whose digests its manifest carries; what is required may not fail."""
    monkeypatch.setattr(nvcc, "find", lambda environ: None)
    monkeypatch.setattr(stage, "native_archs", list)
    stamp = Stamp(
        stage="artifact-cuda",
        sources=Sources(digest="s", files=()),
        settings={"build": mode},
        settings_digest="c",
        machine={},
        machine_digest="m",
    )
    files.write_model(tmp_path / "stamp.json", stamp)
    refused = pytest.raises(RequiredBuildFailed, match="no working nvcc") if mode == "require" else nullcontext()
    with refused:
        run_stage(tmp_path / "stamp.json", tmp_path / "environment.json", tmp_path / "build" / "cuda.json")
    manifest = files.read_model(tmp_path / "build" / "cuda.json", Manifest)
    assert manifest.status == ("skipped" if mode == "skip" else "failed")
    assert manifest.stamp == Digests(sources="s", settings="c", machine="m")
    assert capsys.readouterr().out == f"{manifest.status}: {manifest.reason}\n"


LOG = """ptxas info    : Compiling entry function 'twice' for 'sm_90a'
ptxas info    : Function properties for twice
    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 1024 bytes smem
x.cu(3): Warning #177-D: a variable
ptxas info    : Compiling entry function 'other' for 'sm_80'
ptxas info    : Used 10 registers, used 0 barriers
"""


def test_the_assemblers_words_are_read() -> None:
    """Registers, shared memory, stack and spills of each kernel, and the warnings, are in the manifest."""
    assert toolchain.kernels(LOG) == (
        Kernel(kernel="twice", arch="sm_90a", stack_bytes=8, spill_bytes=16, registers=40, smem_bytes=1024),
        Kernel(kernel="other", arch="sm_80", registers=10, smem_bytes=0),
    )
    assert toolchain.warnings(LOG) == ("x.cu(3): Warning #177-D: a variable",)


KERNEL = """#include "scale.cuh"
__global__ void twice(float *x) { x[threadIdx.x] *= SCALE; }
extern "C" void launch_twice(float *x) { twice<<<1, 32>>>(x); }
"""


def extension_of(csrc: Path) -> stage.Extension:
    """An extension of one kernel and one header in place of ours."""
    csrc.mkdir()
    (csrc / "scale.cuh").write_text("#define SCALE 2\n")
    (csrc / "twice.cu").write_text(KERNEL)
    (csrc / "other.cpp").write_text("int other() { return 1; }\n")
    return stage.Extension("cuda", csrc)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    """The folder that the tiny extension was built in, for each test to copy, and the manifest of that build."""
    folder = tmp_path_factory.mktemp("once")
    tiny = extension_of(folder / "csrc")
    return folder / "out", stage.build(tiny, "require", folder / "out" / "cuda.json", archs=["90a"])


@pytest.fixture
def tiny(tmp_path: Path, once: tuple[Path, Manifest]) -> stage.Extension:
    """The tiny extension, and in `out` what its first build left."""
    shutil.copytree(once[0], tmp_path / "out")
    return extension_of(tmp_path / "csrc")


@needs_nvcc
def test_a_build_is_incremental_and_its_manifest_tells_all(
    once: tuple[Path, Manifest], tiny: stage.Extension, tmp_path: Path
) -> None:
    """Unchanged objects are kept, a changed header compiles all again, and the manifest has each kernel's figures."""
    folder, first = once
    assert first.status == "built" and first.built.is_file() and first.archs == ("90a",)
    assert first.built.parent == folder
    assert {step.source: step.reused for step in first.objects} == {
        "twice.cu": False,
        "other.cpp": False,
        "nsa_cuda.so": False,
    }
    (kernel,) = first.kernels
    assert "twice" in kernel.kernel and kernel.arch == "sm_90a"
    assert (kernel.registers or 0) > 0 and kernel.spill_bytes == 0
    again = stage.build(tiny, "require", tmp_path / "out" / "cuda.json", archs=["90a"])
    assert all(step.reused for step in again.objects if step.source != "nsa_cuda.so")
    assert again.digest == first.digest and again.kernels == first.kernels
    (tiny.csrc / "scale.cuh").write_text("#define SCALE 3\n")
    changed = stage.build(tiny, "require", tmp_path / "out" / "cuda.json", archs=["90a"])
    assert not any(step.reused for step in changed.objects) and changed.digest != first.digest


STAND_IN = """#!/bin/sh
case "$1" in
--version) echo "Cuda compilation tools, release 13.0, V13.0.88" ;;
--list-gpu-code) echo sm_90 ;;
*) for last; do :; done; echo made > "$last" ;; # -o and the file come last
esac
"""


@pytest.mark.parametrize("variable", ["NVCC_APPEND_FLAGS", "NVCC_PREPEND_FLAGS", "CPATH"])
def test_what_the_compiler_obeys_is_part_of_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """With other flags in the environment nothing is reused, and digest and manifest say so."""
    compiler = tmp_path / "toolkit" / "bin" / "nvcc"  # what it makes does not count, when it is asked does
    compiler.parent.mkdir(parents=True)
    compiler.write_text(STAND_IN)
    compiler.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(compiler.parents[1]))
    tiny, out, value = extension_of(tmp_path / "csrc"), tmp_path / "out" / "cuda.json", "-DOTHER=1"
    first, again = (stage.build(tiny, "require", out, archs=["90a"]) for _ in range(2))
    assert first.nvcc_path == str(compiler) and [step.reused for step in again.objects] == [True, True, False]
    monkeypatch.setenv(variable, value)
    other = stage.build(tiny, "require", out, archs=["90a"])
    assert other.status == "built" and not any(step.reused for step in other.objects)
    assert other.digest != first.digest and other.nvcc_obeys == {**first.nvcc_obeys, variable: value}


@needs_nvcc
def test_a_failed_build_keeps_the_compilers_words_and_no_library(tiny: stage.Extension, tmp_path: Path) -> None:
    """A build that fails keeps the compiler's log and removes the library of the build before."""
    assert (tmp_path / "out" / tiny.library).exists()
    (tiny.csrc / "twice.cu").write_text(KERNEL.replace("SCALE", "undeclared"))
    manifest = stage.build(tiny, "auto", tmp_path / "out" / "cuda.json", archs=["90a"])
    assert manifest.status == "failed" and str(manifest.reason).startswith("nvcc could not build twice.cu: ")
    assert 'error: identifier "undeclared" is undefined' in str(manifest.reason)
    assert 'identifier "undeclared" is undefined' in str(manifest.log)
    assert manifest.library is None and not (tmp_path / "out" / tiny.library).exists()


@pytest.mark.parametrize(
    ("log", "first"),
    [
        ("note: x\nx.cu(2): error: y\nx.cu(3): error: z\n", ("x.cu(2): error: y",)),
        ("x.cu:2:10: fatal error: a.h: No such file\n", ("x.cu:2:10: fatal error: a.h: No such file",)),
        ("killed\n\n", ("killed",)),
        ("", ()),
    ],
)
def test_the_compilers_first_error_is_its_reason(log: str, first: tuple[str, ...]) -> None:
    """Who reads the verdict reads what is wrong with the source."""
    failed = toolchain.Built("x.cu", [], ok=False, reused=False, duration_s=0.1, log=log)
    assert toolchain.first_error([failed]) == first
