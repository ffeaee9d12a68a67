"""The project with a tiny configuration, after one run of the whole pipeline."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from project import Project

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "config.yaml", "nsa", "profiles", "pyproject.toml", "workflow")
TINY = {
    "contexts": [128],
    "candidates": ["cuda", "triton", "fa2"],
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


def checkout(root: Path) -> Project:
    """The project's sources in a folder, as a clone brings them: every date is of now."""
    (root / "tmp").mkdir(parents=True)
    for part in PARTS:
        if (ROOT / part).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, root / part, copy_function=shutil.copy, ignore=ignored)
        else:
            shutil.copy(ROOT / part, root / part)
    return Project(root)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The project after one run of the whole pipeline; read it, and change only a copy.

    It is made once for all processes of pytest-xdist, and each has a copy.
    """
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "finished"
    with FileLock(shared.with_suffix(".lock")):
        if not shared.exists():
            made = checkout(tmp_path_factory.mktemp("making"))
            made.configure(**TINY)
            result = made.snakemake("all", "results/decode_cuda.parquet")  # as the guide's users do: without --cores
            assert result.returncode == 0, result.stdout + result.stderr
            made.root.rename(shared)
    return Project(shared).copy(own / "copy")


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished project, dates included, that a test may change."""
    return finished.copy(tmp_path / "project")


@pytest.fixture
def clone(tmp_path: Path) -> Project:
    """The sources alone, in a folder of their own, as a clone brings them."""
    return checkout(tmp_path / "clone")
