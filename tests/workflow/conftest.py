"""The project with a tiny configuration, after one run of the whole pipeline."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pipeline import Project

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "config.yaml", "nsa", "profiles", "pyproject.toml", "workflow")
TINY = {
    "contexts": [128],
    "candidates": ["cuda", "triton"],
    "device": "cpu",
    "build": {"cuda": "skip"},
    "decode": {"iters": 3, "warmup": 1, "processes": 1},
    "check": {
        "heads_per_group": [4],
        "head_dim": [64],
        "value_dim": [64],
        "sel_count": [8],
        "cpu_context": 512,
        "seeds": 1,
        "iters": 1,
        "processes": 1,
        "cpu_rows": 4,
    },
}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project after one run of the whole pipeline; read it, and change only a copy."""
    root = tmp_path_factory.mktemp("finished")
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        copy(ROOT / part, root / part)
    project = Project(root)
    project.configure(**TINY)
    for target in (["results/decode_cuda.parquet"], []):  # as the guide's users ask for them: without --cores
        result = project.snakemake(*target)
        assert result.returncode == 0, result.stdout + result.stderr
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished project, dates included, that a test may change."""
    root = tmp_path / "project"
    shutil.copytree(finished.root, root)
    return Project(root)
