"""Sources: every one belongs to a stage, and a backend's are its own wherever its package lies."""

from __future__ import annotations

import itertools
import posixpath
from pathlib import Path
from typing import Any

import pytest

from nsa import backends
from nsa.config import Config
from nsa.errors import ConfigError
from nsa.pipeline.sources import Code
from nsa.pipeline.stages import Stage, stages
from nsa.records.stamp import Sources, digest

ROOT = Path(__file__).parents[2]
NAMES = tuple(backends.BUILT_IN)
SELECTING = tuple(name for name in NAMES if "selection" in backends.spec(name).contracts)
KINDS = ("check", "dram")  # a stage for each selection kernel
UNCLAIMED = {
    "nsa/config/__main__.py": "writes the schema that editors read",
    "nsa/config/reference.py": "writes docs/config.md",
    "nsa/pipeline/__init__.py": "as stamps.py",
    "nsa/pipeline/stages.py": "as stamps.py",
    "nsa/pipeline/sources.py": "as stamps.py",
    "nsa/pipeline/stamps.py": "makes the stamps; what it changes is their content",
    "nsa/pipeline/finished.py": "says what is gone of a report, which is part of the stamp",
    "nsa/pipeline/findings.py": "as doctor.py",
    "nsa/pipeline/shown.py": "as doctor.py",
    "nsa/pipeline/doctor.py": "examines a results folder; no rule runs it",
    "nsa/pipeline/progress.py": "what the console shows of a run",
    "nsa/cli/destination.py": "whether a file can be written where a user asks for it",
    "nsa/pipeline/bundle.py": "packs a finished run; no rule runs it",
    "nsa/cli/guide.py": "the guide's commands; no rule runs them",
    "nsa/cli/verdict.py": "reads what the report left; no rule runs it",
    "nsa/cli/history.py": "runs over commits at the console; no rule runs it",
    "nsa/cli/console.py": "the guide's benchmark on the console; no rule runs it",
    "nsa/report/verdict/exit.py": "the verdict as an exit status; no rule runs it",
    "nsa/report/page/guide.py": "the guide's summary on the console; no rule runs it",
    "nsa/kernels/extension/examine.py": "as doctor.py",
}


@pytest.fixture(scope="module")
def code() -> Code:
    return Code()


def all_stages(raw: dict[str, Any]) -> dict[str, Stage]:
    return {stage.name: stage for stage in stages(Config.parse(raw, {}))}


def claimed(stage: str, code: Code, raw: dict[str, Any]) -> set[str]:
    return set(code.sources(all_stages(raw)[stage]))


def test_every_source_belongs_to_a_stage(code: Code, raw: dict[str, Any]) -> None:
    """No module can change while its old results stay: each is in a stamp, or named here with the reason."""
    known = {posixpath.normpath(name) for stage in all_stages(raw) for name in claimed(stage, code, raw)}
    package = (file for file in (ROOT / "nsa").rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    unclaimed = {file.relative_to(ROOT).as_posix() for file in package} - known
    assert unclaimed == set(UNCLAIMED)


def test_a_stage_claims_what_it_loads_by_name(code: Code, raw: dict[str, Any]) -> None:
    """What no import statement shows counts all the same: backends, replicates, programs, templates, tables."""
    for backend in NAMES:
        assert f"nsa/kernels/{backend}/backend.py" in claimed(f"decode-{backend}", code, raw)
        assert "nsa/bench/decode/replicate.py" in claimed(f"decode-{backend}", code, raw)
    for backend in SELECTING:
        assert "nsa/kernels/sdpa/packed.py" in claimed(f"check-{backend}", code, raw)
        assert "nsa/bench/check/replicate.py" in claimed(f"check-{backend}", code, raw)
        assert "nsa/bench/dram/target.py" in claimed(f"dram-{backend}", code, raw)  # a program of its own
    assert {"nsa/kernels/triton/kernel.py", "nsa/bench/tune/replicate.py"} <= claimed("artifact-triton", code, raw)
    packings = {"nsa/kernels/sdpa/packed.py", "nsa/kernels/varlen.py"}  # the baseline's cells time them all
    assert packings <= claimed("decode-sdpa", code, raw)
    assert "nsa/kernels/cuda/../extension/csrc/tile.cuh" in claimed("artifact-cuda", code, raw)
    assert "nsa/report/page/templates/gate_report.md.j2" in claimed("report", code, raw)
    cored = {"nsa/kernels/fused/operator.py", "nsa/bench/core/corners.py", "nsa/attention/composition.py"}
    assert {*cored, "nsa/bench/method/core_oracle.py", "nsa/kernels/sdpa/packed.py"} <= claimed("core-fused", code, raw)
    assert {*cored, "nsa/bench/core_curve/stage.py"} <= claimed("core_curve-fused", code, raw)
    assert "nsa/bench/core_curve/stage.py" not in claimed("core-fused", code, raw)
    raced = {f"nsa/kernels/{backend}/backend.py" for backend in SELECTING}
    assert {"nsa/bench/roofline/replicate.py", *raced} <= claimed("roofline", code, raw)
    assert "nsa/report/analysis/public_kernels/h200.csv" in claimed("roofline-report", code, raw)


def test_a_backend_does_not_claim_another(code: Code, raw: dict[str, Any]) -> None:
    """An edit of one backend measures no other again."""
    for one, other in itertools.permutations(NAMES, 2):
        stages = [f"{kind}-{one}" for kind in ("decode", "dram") if one in SELECTING or kind == "decode"]
        files = set().union(*(claimed(stage, code, raw) for stage in stages))
        assert not any(file.startswith(f"nsa/kernels/{other}/") for file in files), (one, other)


def test_measuring_does_not_claim_the_report(code: Code, raw: dict[str, Any]) -> None:
    """A new column in the report measures nothing again."""
    measured = [f"{kind}-{backend}" for kind in KINDS for backend in SELECTING]
    measured += [f"decode-{backend}" for backend in NAMES]
    for stage in (
        *measured,
        "environment",
        "artifact-cuda",
        "artifact-triton",
        "roofline",
        "core-fused",
        "core_curve-fused",
    ):
        assert not any(file.startswith("nsa/report/") for file in claimed(stage, code, raw)), stage


@pytest.mark.parametrize("stage", ["check-triton", "decode-acme", "artifact-cuda", "artifact-triton"])
def test_a_stages_sources_are_found_again_by_their_names(stage: str, acme: Path, raw: dict[str, Any]) -> None:
    """After a run the files are looked at once more, those of an installed backend included: none has changed."""
    found = Code().sources(all_stages(raw)[stage])
    Sources(digest=digest(found), files=tuple(found)).require_unchanged()


def test_an_installed_backend_claims_its_package_and_what_it_imports(acme: Path, raw: dict[str, Any]) -> None:
    """Its modules, its other files, those that its spec names, and what it imports from here or around it."""
    code = Code()
    files = code.sources(all_stages(raw)["decode-acme"])
    own = {name for name in files if name.startswith("acme/")}
    assert own == {
        "acme/__init__.py",
        "acme/helper.py",  # imported by its kernel
        "acme/selection/../shared/tile.cuh",  # named by its spec
        *(f"acme/selection/{name}" for name in ("__init__.py", "backend.py", "kernel.py", "prepare.py", "spec.py")),
        "acme/selection/kernel.cu",
    }
    assert "nsa/kernels/varlen.py" in files and "nsa/bench/decode/replicate.py" in files
    assert files["acme/selection/kernel.cu"] == acme / "acme/selection/kernel.cu"
    assert "acme/selection/kernel.cu" not in code.sources(all_stages(raw)["decode-sdpa"])


def test_an_installed_backend_has_its_own_stage(acme: Path, raw: dict[str, Any]) -> None:
    """It gets what its spec says that it reads, and the versions of what it uses."""
    own = {stage.name: stage for stage in stages(Config.parse(raw, {"ACME_FAST": "1"}))}["artifact-acme"]
    assert set(own.settings) == {"sizes", "flags"}
    assert own.settings["flags"] == {"ACME_FAST": True}
    assert own.uses == ("nvcc",)
    assert "acme/selection/prepare.py" in Code().sources(own)


def test_a_pattern_that_matches_nothing_is_one_clear_line(acme: Path, raw: dict[str, Any]) -> None:
    """A misspelt pattern is said, instead of leaving a file out of every stamp."""
    (acme / "acme/shared/tile.cuh").unlink()
    with pytest.raises(ConfigError, match=r"backend 'acme': its `files` has '\.\./shared/\*\.cuh'.*expected a pattern"):
        Code().sources(all_stages(raw)["decode-acme"])
