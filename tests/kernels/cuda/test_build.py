"""The build stage: its status is what happened, with the reason, and its manifest is on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nsa import nvcc
from nsa.errors import ConfigError
from nsa.kernels.cuda import build as stage
from nsa.kernels.cuda.build import build

COMPILER = nvcc.Nvcc(Path("toolkit/bin/nvcc"), "13.0.88")


def run(monkeypatch: pytest.MonkeyPatch, mode: str, compiler: nvcc.Nvcc | None, out: Path) -> dict[str, Any]:
    """Run the stage where this compiler is the one found; the manifest on disk must be the one returned."""
    monkeypatch.setattr(nvcc, "find", lambda environ: compiler)
    manifest = build(mode, out / "build", {})
    assert json.loads((out / "build" / "cuda.json").read_text()) == manifest
    assert manifest["digest"] is None  # nothing was built in any of the cases
    assert manifest["log"] is None
    assert manifest["duration_s"] >= 0
    return manifest


@pytest.mark.parametrize("compiler", [COMPILER, None])
def test_skip_skips_whatever_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, compiler: nvcc.Nvcc | None
) -> None:
    """A skipped build must say that the setting skipped it, not that a compiler is missing."""
    manifest = run(monkeypatch, "skip", compiler, tmp_path)
    assert manifest["status"] == "skipped"
    assert "build.cuda is skip" in manifest["reason"]
    assert "NSA_SEL_CUDA_BUILD=1" in manifest["mend"]
    assert manifest["nvcc_path"] is None


@pytest.mark.parametrize(("mode", "status"), [("auto", "skipped"), ("require", "failed")])
def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: str, status: str) -> None:
    """A required build that cannot happen must fail; an optional one is skipped, and both say how to mend it."""
    manifest = run(monkeypatch, mode, None, tmp_path)
    assert manifest["status"] == status
    assert manifest["reason"].startswith("no working nvcc in CUDA_HOME, CUDA_PATH, PATH")
    assert "set CUDA_HOME" in manifest["mend"]
    assert manifest["nvcc_path"] is manifest["nvcc_version"] is None


@pytest.mark.parametrize("mode", ["auto", "require"])
def test_with_a_compiler_there_is_nothing_to_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: str) -> None:
    """A status of success without a kernel would be a lie that the cuda backend then trips over."""
    manifest = run(monkeypatch, mode, COMPILER, tmp_path)
    assert manifest["status"] == "nothing to build"
    assert manifest["nvcc_path"] == str(COMPILER.path)
    assert manifest["nvcc_version"] == "13.0.88"


def test_there_is_indeed_no_source() -> None:
    """Kernel sources without a compiler call in the stage would be silently left out; goes when the call comes."""
    folder = Path(stage.__file__).parent
    assert [path for pattern in ("*.cu", "*.cuh", "*.cpp") for path in folder.rglob(pattern)] == []


def test_an_unknown_mode_is_named(tmp_path: Path) -> None:
    """A typo must not count as auto."""
    with pytest.raises(ConfigError, match=r"build\.cuda: got 'always', expected one of auto, require, skip"):
        build("always", tmp_path, {})
    assert not (tmp_path / "cuda.json").exists()
