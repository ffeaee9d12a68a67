"""Changed inputs rerun the stages that they affect, and no other."""

from __future__ import annotations

import os
import shutil

import pytest
from pipeline import Project


def test_a_touched_source_runs_nothing(project: Project) -> None:
    """Without it, every checkout would measure everything again."""
    for source in (project.root / "nsa").rglob("*.py"):
        os.utime(source)
    assert project.planned() == {}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("nsa/report/figures.py", {"report": 1}),
        ("nsa/report/templates/gate_report.md.j2", {"report": 1}),
        ("nsa/report/summary.py", {"collect": 3, "report": 1}),
        ("nsa/kernels/triton/__init__.py", {"decode": 1, "collect": 1, "kernel_check": 1, "dram": 1, "report": 1}),
        ("nsa/kernels/sdpa/packed.py", {"decode": 1, "collect": 1, "kernel_check": 3, "dram": 1, "report": 1}),
        ("nsa/bench/arms.py", {"decode": 3, "collect": 3, "report": 1}),
        ("nsa/bench/contest.py", {"kernel_check": 3, "report": 1}),
        ("nsa/bench/dram_target.py", {"dram": 3, "report": 1}),
        ("nsa/console.py", {}),
    ],
)
def test_an_edited_source_reruns_its_stages(source: str, expected: dict[str, int], project: Project) -> None:
    """Without it, figures would be credited to code that did not make them."""
    project.append(source)
    assert project.planned() == expected


def test_a_reverted_edit_runs_nothing(project: Project) -> None:
    """Without it, trying something and taking it back would cost a measurement."""
    source = project.root / "nsa/bench/timing.py"
    original = source.read_bytes()
    project.append("nsa/bench/timing.py")
    assert project.planned()["decode"] == 3
    source.write_bytes(original)
    assert project.planned() == {}


def test_an_edit_with_an_old_date_is_seen(project: Project) -> None:
    """Without it, a file restored from an archive would change what runs and nothing would notice."""
    project.append("nsa/report/figures.py")
    os.utime(project.root / "nsa/report/figures.py", (0, 0))
    assert project.planned() == {"report": 1}


def test_an_edit_is_seen_without_metadata(project: Project) -> None:
    """Without it, results copied without .snakemake would stay, whatever became of their sources and settings."""
    shutil.rmtree(project.root / ".snakemake")
    assert project.planned() == {}
    project.configure(decode={"iters": 5})
    assert project.planned() == {"decode": 3, "collect": 3, "report": 1}


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("decode={iters: 5}", {"decode": 3, "collect": 3, "report": 1}),
        ("contexts=[128, 256]", {"decode": 3, "collect": 3, "report": 1}),
        ("candidates=[cuda, triton, fa2]", {"decode": 1, "collect": 1, "kernel_check": 1, "dram": 1, "report": 1}),
        ("check={seeds: 2}", {"kernel_check": 3, "report": 1}),
        ("gates={accept: {speedup: 1.5}}", {"report": 1}),
        ("dram={ncu: skip}", {"dram": 3, "report": 1}),
        ("build={cuda: auto}", {"build": 1, "decode": 1, "collect": 1, "kernel_check": 1, "dram": 1, "report": 1}),
    ],
)
def test_a_changed_setting_reruns_its_stages(setting: str, expected: dict[str, int], project: Project) -> None:
    """Without it, old figures would stand under new settings, or all be measured again for one."""
    assert project.planned("--config", setting) == expected
    assert project.planned() == {}  # the setting was for one run


def test_a_new_context_runs_alone(project: Project) -> None:
    """Without it, asking for one more S would measure every other again."""
    assert project.planned("results/decode/sdpa/S256.parquet") == {"decode": 1}


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        ("NSA_TRITON_SEL_FORCE", {"decode": 1, "collect": 1, "kernel_check": 1, "dram": 1, "report": 1}),
        ("NSA_SEL_CUDA_BUILD", {"build": 1, "decode": 1, "collect": 1, "kernel_check": 1, "dram": 1, "report": 1}),
        ("NSA_FA2_FORCE", {"decode": 1, "collect": 1, "kernel_check": 1, "dram": 1, "report": 1}),  # one backend more
        ("NSA_SEL_CUDA", {}),  # a candidate already
    ],
)
def test_a_flipped_flag_reruns_what_it_affects(flag: str, expected: dict[str, int], project: Project) -> None:
    """Without it, lifting a guard would show the refusal that was recorded before."""
    assert project.planned(**{flag: "1"}) == expected
