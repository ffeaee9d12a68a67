"""A backend of somebody else's, installed beside the project: it has its jobs, and no other runs again for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from project import Project

OUTSIDE = Path(__file__).parents[1] / "outside"
JOBS = {"artifact example", "decode example 128", "check example", "dram example", "report"}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of packages with the example in it, which a test may change."""
    return Path(shutil.copytree(OUTSIDE, tmp_path / "site", ignore=shutil.ignore_patterns("__pycache__")))


def test_an_installed_backend_is_a_candidate_like_any_other(project: Project, site: Path) -> None:
    """Its own stage, its cells, its check and its counts are made, and afterwards only what changed runs again."""
    environ = {"PYTHONPATH": str(site)}
    project.configure(candidates=["cuda", "triton", "fa2", "example"])
    assert project.planned(**environ) == JOBS
    result = project.run(environ=environ)
    assert result.returncode == 0, result.stdout + result.stderr
    assert project.planned(**environ) == set()
    with (site / "nsa_example" / "kernel.py").open("a") as kernel:
        kernel.write("\n# edited\n")
    assert project.planned(**environ) == JOBS
    assert project.nsa("doctor", environ=environ).returncode == 1


def test_installing_a_backend_measures_nothing(project: Project, site: Path) -> None:
    """A backend that nobody asked for changes no result."""
    assert project.planned(PYTHONPATH=str(site)) == set()


def test_two_backends_of_one_name_are_one_clear_line(project: Project, site: Path) -> None:
    """The run is refused before anything is written."""
    points = next(site.glob("*.dist-info")) / "entry_points.txt"
    points.write_text("[nsa.backends]\nsdpa = nsa_example.spec:SPEC\n")
    result = project.run("--dry-run", environ={"PYTHONPATH": str(site)})
    assert result.returncode != 0
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "backend 'sdpa' is declared twice" in line and "Traceback" not in result.stderr


@pytest.mark.parametrize("broken", ["spec.py", "kernel.py"])
def test_a_broken_backend_stops_only_who_asks(broken: str, project: Project, site: Path) -> None:
    """One that does not import, or whose kernel is half saved, is a warning, and an error for who names it."""
    (site / "nsa_example" / broken).write_text("def (")
    environ = {"PYTHONPATH": str(site)}
    assert project.planned(**environ) == set()
    said = project.run("--dry-run", environ=environ)
    (line,) = [line for line in said.stderr.splitlines() if line.startswith("warning: ")]
    assert f"{broken}, line 1" in line and line.endswith("; fix or uninstall its package; nothing of it is run")
    told = project.nsa("doctor", environ=environ)
    assert told.returncode == 0 and told.stdout.startswith("nsa.backends: backend 'example': ")
    asked = project.run("--dry-run", "--config", "candidates=[example]", environ=environ)
    (line,) = [line for line in asked.stderr.splitlines() if line.startswith("error: ")]
    assert asked.returncode != 0 and f"{broken}, line 1" in line and "Traceback" not in asked.stderr
