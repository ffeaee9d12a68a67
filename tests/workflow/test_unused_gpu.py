"""A machine with a GPU that torch cannot use, as a user meets it: the driver shows it, torch is built for the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from project import Project, machine


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has CUDA")
def test_the_gpu_is_the_headline(project: Project, tmp_path: Path) -> None:
    """The console, while it runs and at its end, and the report say which GPU, why not, and what to do."""
    project.configure(device="auto", candidates=[])
    result = project.run(environ=machine(tmp_path / "site", gpu="NVIDIA GeForce RTX 4090"))
    assert result.returncode == 0, result.stdout + result.stderr
    headline = f"the driver shows NVIDIA GeForce RTX 4090, which torch cannot use: torch {torch.__version__}"
    assert f"{headline} has no CUDA support; install a torch with CUDA" in result.stderr
    assert result.stdout.splitlines()[0].startswith(f"gpu: {headline}")
    assert result.stdout.splitlines()[1].startswith("invest: NOT MEASURED.")
    assert headline in (project.root / "results" / "gate_report.md").read_text()
