"""Finding ncu: the order of the places."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsa.machine import ncu


def install(folder: Path) -> Path:
    """A program named ncu."""
    folder.mkdir(parents=True)
    path = folder / "ncu"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def only_these_installations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where NVIDIA's packages are installed below the test's own folder."""
    monkeypatch.setattr(ncu, "TOOLKIT", tmp_path / "cuda" / "bin")
    monkeypatch.setattr(ncu, "NSIGHT", tmp_path / "nsight-compute")


def test_the_places_are_asked_in_order(tmp_path: Path) -> None:
    """PATH comes first, then CUDA_HOME, the toolkit and the newest Nsight Compute."""
    environ = {"PATH": f"{tmp_path / 'empty'}:{tmp_path / 'path'}", "CUDA_HOME": str(tmp_path / "home")}
    install(tmp_path / "nsight-compute" / "2024.3.2")
    places = [
        install(tmp_path / "path"),
        install(tmp_path / "home" / "bin"),
        install(tmp_path / "cuda" / "bin"),
        install(tmp_path / "nsight-compute" / "2025.1.0"),
    ]
    for expected in places:
        assert ncu.find(environ) == expected
        expected.unlink()
    assert ncu.find(environ) == tmp_path / "nsight-compute" / "2024.3.2" / "ncu"


def test_no_profiler_anywhere() -> None:
    """Without Nsight Compute the answer is None, and no error."""
    assert ncu.find({}) is None
    assert ncu.find({"PATH": "", "CUDA_HOME": ""}) is None
