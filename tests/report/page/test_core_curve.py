"""results/core_curve.md: a core's time over S and B beside the floor and its targets, or in one sentence why not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from synthetic import CORES, CURVE

from nsa.records import parquet
from nsa.records.made import CoreCurveHeader
from nsa.report.analysis.stats import Estimate
from nsa.report.page.core_curve import COLUMNS, CoreCurve, report
from nsa.report.page.tables import bracketed

if TYPE_CHECKING:
    import pandas as pd

    from tests.report.conftest import Lab

SETTINGS = CoreCurve(core=CURVE.cores(CORES), targets=CURVE.targets, error_ratio=2.0, confidence=0.95)
SHAPES = [(1, 4096), (1, 8192), (1, 65536), (64, 4096), (64, 8192)]


def made(lab: Lab, *backends: str, **record: object) -> tuple[str, pd.DataFrame]:
    """The page and its table, of records that differ from sound ones so."""
    paths = [lab.core(backend, "core_curve", **record) for backend in backends]  # type: ignore[arg-type]
    report(paths, lab.stamps, SETTINGS, lab.layout.curve_page, lab.layout.curve_figures, lab.layout.curve_drawing)
    table, _ = parquet.read(lab.layout.curve_figures, CoreCurveHeader, COLUMNS)
    return lab.layout.curve_page.read_text(), table.to_pandas()


def test_every_shape_stands_beside_its_floor_and_target(lab: Lab) -> None:
    """12 µs at a floor of 1: within floor + 15, over 2 x floor + 10 by 0, and no target where none holds."""
    text, table = made(lab, "fused", speedup=4.0)  # 15 µs
    assert list(zip(table["batch"], table["context"], strict=True)) == SHAPES
    assert table["core_us"].tolist() == pytest.approx([15.0] * 5, rel=0.01)
    assert table["floor_us"].tolist() == pytest.approx([1.0] * 5)
    targets = table["target_us"]
    assert targets[:3].tolist() == pytest.approx([16.0] * 3) and targets[4] == pytest.approx(12.0)
    assert targets.isna().tolist() == [False, False, False, True, False]
    lines = [line for line in text.splitlines() if line.startswith(("| 1 |", "| 64 |")) and " met " in line]
    assert len(lines) == 3 and text.count("missed by 3.0") == 1
    assert "Within target: 3 of 4 shapes that have one." in text and "NVIDIA Synthetic, H = 64, G = 4" in text
    drawing = lab.layout.curve_drawing.read_text()
    assert "<svg" in drawing and "<!-- B = 64 -->" in drawing and "not measured" not in drawing


def test_growth_is_told_beside_that_of_the_floor(lab: Lab) -> None:
    """From 8192 to the longest context of each B; a B with one of these contexts has none."""
    longest = {"backend": "fused", "batch": 1, "context": 65536}
    text, _ = made(lab, "fused", alter=(longest, {"floor_bytes": 44_000_000}))
    (line,) = [line for line in text.splitlines() if line.startswith("| 1 | 8192 | 65536 |")]
    assert line.split(" | ")[4] == "10.0"
    growth = text.partition("### Growth")[2]
    assert "| 1 |" in growth and "| 64 |" not in growth


def test_a_wrong_core_has_no_time(lab: Lab) -> None:
    """Its fault stands where its time would, it is within no target, and is not drawn."""
    wrong = {"backend": "fused", "case": "timed", "batch": 64}
    text, table = made(lab, "fused", speedup=4.0, alter=(wrong, {"fault": "a fault"}))
    assert text.count("WRONG: a fault") == 2 and "Within target: 3 of 4" in text
    assert table[table["batch"] == 64]["core_us"].isna().all() and table[table["batch"] == 1]["core_us"].notna().all()
    assert "<!-- B = 64 -->" not in lab.layout.curve_drawing.read_text()


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"status": "unavailable"}, "**NOT MEASURED**: unavailable (fused is not here); run on a GPU."),
        ({"alter": ({"batch": 64}, {"batch": 16})}, "**NOT MEASURED**: nothing was timed on this grid"),
        ({"said": {"stage": "core"}}, "**NOT MEASURED**: INVALID"),
    ],
)
def test_what_was_not_measured_has_no_figures(record: dict[str, object], said: str, lab: Lab) -> None:
    """One sentence with the reason, an empty table, and a drawing that says so."""
    text, table = made(lab, "fused", **record)
    assert said in text and "µs" not in text and table.empty
    assert "not measured" in lab.layout.curve_drawing.read_text()


def test_without_a_core_the_page_says_so(lab: Lab) -> None:
    """No candidate of config.yaml offers one."""
    text, table = made(lab)
    assert "no backend of config.yaml offers a decode core; add fused or triton_core to candidates" in text
    assert "`snakemake results/core_curve.md --config candidates=[fused]`" in text and table.empty


def test_the_page_in_docs_has_the_figures_of_its_table() -> None:
    """What docs/ quotes of a run on one H100 is what that run left: every shape, its time and its interval."""
    docs = Path(__file__).parents[3] / "docs"
    table, _ = parquet.read(docs / "core_curve.parquet", CoreCurveHeader, COLUMNS)
    page, kernels = (docs / "core_curve.md").read_text(), (docs / "kernels.md").read_text()
    lines = [line for line in page.partition("### Growth")[0].splitlines() if line.startswith("| ")][2:]
    found = table.to_pandas()
    assert len(lines) == len(found) == 63 and found["fault"].isna().all()
    for line, row in zip(lines, found.itertuples(index=False), strict=True):
        time = bracketed(Estimate(row.core_us, row.core_us_lo, row.core_us_hi, 3))
        assert [cell.strip() for cell in line.strip("|").split("|")][:3] == [str(row.batch), str(row.context), time]
    met, aimed = int((found["core_us"] <= found["target_us"]).sum()), int(found["target_us"].notna().sum())
    assert f"Within target: {met} of {aimed} shapes" in page and f"Targets met on {met} of {aimed} shapes" in kernels
