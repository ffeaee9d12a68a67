"""The pages of decode cores: asked for by name, honest without a GPU, made again for what they need."""

from __future__ import annotations

import pytest
from project import Project

TARGET, CURVE = "results/paper_table4.md", "results/core_curve.md"
WITH_CORE = ("--config", "candidates=[fused]")
TABLE, FIGURE = "the paper's table 4: cores over dense attention", "core curve: the table and the figure"


@pytest.fixture(scope="module")
def drawn(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished project with both pages of the fused core."""
    project = finished.copy(tmp_path_factory.mktemp("core") / "project")
    result = project.run(TARGET, CURVE, *WITH_CORE)
    assert result.returncode == 0, result.stdout + result.stderr
    return project


def test_without_a_gpu_the_page_says_why(drawn: Project) -> None:
    """The core is unavailable, and no figure is shown that nobody measured."""
    reasons = {TARGET: "no CUDA device is visible", CURVE: "there is no CUDA device to time on"}
    for page, reason in reasons.items():
        text = (drawn.root / page).read_text()
        assert f"**NOT MEASURED**: unavailable ({reason})" in text and "µs" not in text
        assert all((drawn.root / page).with_suffix(kind).is_file() for kind in (".parquet", ".svg"))
    assert all((drawn.root / f"results/{stage}/fused.parquet").is_file() for stage in ("core", "core_curve"))
    assert drawn.planned(TARGET, CURVE, *WITH_CORE) == set()


CASES = {
    "nsa/report/page/paper_table.py": {TABLE},
    "nsa/bench/core/corners.py": {"core fused", "core curve: fused", TABLE, FIGURE},
    "nsa/bench/core_curve/stage.py": {"core curve: fused", FIGURE},
    "nsa/report/page/core_curve_plot.py": {FIGURE},
    "nsa/kernels/fused/plan.py": {"artifact fused", "core fused", "core curve: fused", TABLE, FIGURE},
    "nsa/bench/check/replicate.py": set(),
}


@pytest.mark.parametrize("source", CASES)
def test_an_edit_runs_what_it_affects(source: str, drawn: Project) -> None:
    """A new column measures nothing again; a new kernel does not keep the old one's times."""
    before = (drawn.root / source).read_bytes()
    drawn.append(source)
    assert drawn.planned(TARGET, CURVE, *WITH_CORE) == CASES[source]
    (drawn.root / source).write_bytes(before)
    assert drawn.planned(TARGET, CURVE, *WITH_CORE) == set()


def test_a_backend_without_a_core_has_no_core_check(drawn: Project) -> None:
    """Its record is no file that a rule makes."""
    result = drawn.run("--dry-run", "results/core/triton.parquet")
    assert result.returncode != 0 and "results/core/triton.parquet" in result.stdout + result.stderr
