"""The CUDA backend: an extension that cannot serve says why, and what `nsa doctor` finds wrong with one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import JsonValue

from nsa.config import Flags
from nsa.errors import BackendUnavailable, RecordError
from nsa.kernels import registry
from nsa.kernels.cuda import operator
from nsa.kernels.extension import examine as examination
from nsa.kernels.extension.examine import examine
from nsa.kernels.extension.manifest import Manifest
from nsa.machine.host import Artifact, Machine
from nsa.records import files

BUILT: Artifact = {"status": "built", "library": "absent.so", "library_sha256": "0", "archs": ["90a"]}


def hopper(artifact: Artifact | None) -> Machine:
    """A Hopper whose build stage has left this."""
    return Machine((9, 0), {"cuda": artifact} if artifact is not None else {})


@pytest.mark.parametrize(
    ("artifact", "reason", "fix"),
    [
        (None, "its extension has not been built", "run `snakemake results/build/cuda.json` and read its manifest"),
        (
            {"status": "failed", "reason": "nvcc could not build x.cu"},
            "its build failed: nvcc could not build",
            "run `",
        ),
        ({"status": "skipped", "reason": "no GPU", "fix": "get one"}, "its build skipped: no GPU", "get one"),
        ({**BUILT, "archs": ["80", "120"]}, "its extension has no code for sm_90, only for 80, 120", "run `snakemake"),
        (BUILT, "its library absent.so is missing", "delete results/build/cuda.json, then run `snakemake`"),
    ],
)
def test_an_extension_that_cannot_serve_says_why(artifact: Artifact | None, reason: str, fix: str) -> None:
    """A missing, failed or foreign build makes the backend unavailable, with the reason and the fix."""
    for ask in (registry.require, registry.load):
        with pytest.raises(BackendUnavailable) as caught:
            ask("cuda", hopper(artifact), Flags())
        assert caught.value.reason.startswith(reason) and caught.value.fix.startswith(fix)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"status": "done"},
        {"status": "built", "archs": ["90a"]},
        {**BUILT, "archs": "90a"},
        {**BUILT, "digits": 1},
    ],
)
def test_a_broken_manifest_is_one_line(broken: dict[str, JsonValue]) -> None:
    """A manifest that is none is an error with a fix."""
    with pytest.raises(RecordError, match=r"^results/build/cuda\.json: .*; delete it and rerun$") as caught:
        registry.require("cuda", hopper(broken), Flags())
    assert "\n" not in str(caught.value)


def test_a_damaged_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that does not load, or is not the one that was built, is not loaded."""
    monkeypatch.setattr(operator, "loaded", lambda: False)
    library = tmp_path / "nsa_cuda.so"
    library.write_bytes(b"\x7fELF")
    artifact = {**BUILT, "library": str(library), "library_sha256": files.sha256(library)}
    with pytest.raises(BackendUnavailable, match=r"its library does not load .* delete results/build/cuda\.json"):
        registry.load("cuda", hopper(artifact), Flags())
    library.write_bytes(b"\x7fEL")
    with pytest.raises(BackendUnavailable, match="is damaged: not the one that was built"):
        registry.load("cuda", hopper(artifact), Flags())


def test_doctor_is_told_what_is_wrong_with_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is gone, damaged, for other GPUs or does not load is named with the fix."""
    monkeypatch.setattr(examination, "native_archs", lambda: ["90a"])
    library, path = tmp_path / "nsa_cuda.so", tmp_path / "cuda.json"

    def found(**changes: JsonValue) -> list[str]:
        manifest = {**BUILT, "library": str(library), **changes}
        files.write_model(path, Manifest.model_validate_json(json.dumps(manifest)))
        findings = list(examine(path))
        assert all(where == library and fix.startswith(f"delete {path}") for where, _, fix in findings)
        return [what for _, what, _ in findings]

    assert found(status="skipped") == []
    assert found() == ["missing"]
    library.write_bytes(b"\x7fELF")
    assert found() == ["damaged: not the library that was built"]
    whole = files.sha256(library)
    assert found(library_sha256=whole, archs=["80"]) == ["has no code for sm_90a, only for 80"]
    (what,) = found(library_sha256=whole)
    assert what.startswith("does not load (")
