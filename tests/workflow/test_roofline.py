"""results/roofline.md is asked for by name, is made without a GPU, and runs again for what it depends on."""

from __future__ import annotations

import pytest
from project import Project

TARGET = "results/roofline.md"
MEASURE, TABLE = "roofline: every backend on every shape", "roofline: the table"


@pytest.fixture(scope="module")
def drawn(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The finished project with its roofline."""
    project = finished.copy(tmp_path_factory.mktemp("roofline") / "project")
    result = project.run(TARGET)
    assert result.returncode == 0, result.stdout + result.stderr
    return project


def test_without_a_gpu_the_target_is_made_and_is_honest(drawn: Project) -> None:
    """On a laptop the target is made, and shows no figure that nobody measured."""
    text = (drawn.root / TARGET).read_text()
    assert "**NOT MEASURED**: unavailable (there is no CUDA device to time on)" in text and "µs" not in text
    assert (drawn.root / "results" / "roofline.parquet").is_file()
    assert drawn.planned(TARGET) == set()


CASES = {
    "nsa/report/page/roofline.py": {TABLE},
    "nsa/report/analysis/public_kernels/h200.csv": {TABLE},
    "nsa/bench/roofline/replicate.py": {MEASURE, TABLE},
    "nsa/kernels/fa2/package.py": {MEASURE, TABLE},
    "nsa/bench/check/replicate.py": set(),
}


@pytest.mark.parametrize("source", CASES)
def test_an_edit_runs_what_it_affects(source: str, drawn: Project) -> None:
    """Another column measures nothing again, and a new kernel does not keep the old one's times."""
    before = (drawn.root / source).read_bytes()
    drawn.append(source)
    assert drawn.planned(TARGET) == CASES[source]
    (drawn.root / source).write_bytes(before)
    assert drawn.planned(TARGET) == set()


def test_a_target_is_no_reason_to_measure(drawn: Project) -> None:
    """Asking for more does not throw the times away."""
    easier = "{cuda: {ratio: 1.1, plus_us: 9.0}}"
    assert drawn.planned(TARGET, "--config", f"roofline={{targets: {easier}}}") == {TABLE}
    assert drawn.planned(TARGET, "--config", "roofline={iters: 7}") == {MEASURE, TABLE}


def test_the_gate_report_does_without_it(drawn: Project, finished: Project) -> None:
    """No run of the pipeline waits for a table that no gate looks at."""
    assert not (finished.root / TARGET).exists()
    drawn.append("nsa/bench/roofline/replicate.py")
    assert drawn.planned() == set()
