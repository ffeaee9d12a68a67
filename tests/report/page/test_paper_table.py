"""results/paper_table4.md: cores over dense attention beside the paper's ratios, or in one sentence why not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from synthetic import CORES

from nsa.records import parquet
from nsa.records.made import PaperTableHeader
from nsa.report.analysis.stats import Estimate
from nsa.report.page.core_records import CorePage
from nsa.report.page.paper_table import COLUMNS, EXPECTED, report
from nsa.report.page.tables import bracketed

if TYPE_CHECKING:
    import pandas as pd

    from tests.report.conftest import Lab

SETTINGS = CorePage(core=CORES, error_ratio=2.0, confidence=0.95)


def made(lab: Lab, *backends: str, **record: object) -> tuple[str, pd.DataFrame]:
    """The page and its table, of records that differ from sound ones so."""
    paths = [lab.core(backend, **record) for backend in backends]  # type: ignore[arg-type]
    report(paths, lab.stamps, SETTINGS, lab.layout.paper_table, lab.layout.paper_figures, lab.layout.paper_drawing)
    table, _ = parquet.read(lab.layout.paper_figures, PaperTableHeader, COLUMNS)
    return lab.layout.paper_table.read_text(), table.to_pandas()


def test_the_ratio_stands_beside_the_papers(lab: Lab) -> None:
    """Every shape has the core's time, its floor, the fastest dense kernel, their ratio and the paper's."""
    text, table = made(lab, "fused", speedup=5.0)
    drawing = lab.layout.paper_drawing.read_text()
    assert "<svg" in drawing and drawing.count("errorbar") == 0 and "LineCollection" in drawing
    assert "NVIDIA Synthetic, H = 64, G = 4, l = 32, d = 16, l' = 64, n = 16, w = 512, bfloat16" in text
    assert "Not timed, with the reason: efficient: not installed (no module); fa3: not installed" in text
    first, *_, last = [line for line in text.splitlines() if line.startswith("| 128 / 128 |") and "cudnn" in line]
    assert first.split(" | ")[-3:-1] == ["4", last.split(" | ")[-2]] or "| 4 |" in first
    assert "| 11.6 |" in last and "| 65536 |" in last
    assert table["ratio"].tolist() == pytest.approx([5.0] * 4, rel=0.01)
    assert set(table["dense"]) == {"cudnn"} and table["floor_us"].tolist() == pytest.approx([1.0] * 4)
    assert table["expected"].tolist() == [EXPECTED[S] for _ in CORES.batch for S in CORES.contexts]
    assert table["core_us"].tolist() == pytest.approx([12.0] * 4, rel=0.01) and table["fault"].isna().all()


def test_a_wrong_core_has_no_ratio(lab: Lab) -> None:
    """Its fault stands where its time would, in the page and in the table, and nothing follows from that time."""
    text, table = made(lab, "fused", alter=({"backend": "fused", "case": "timed", "batch": 1}, {"fault": "a fault"}))
    assert text.count("WRONG: a fault") == 2
    wrong = [line.split(" | ") for line in text.splitlines() if "WRONG" in line]
    assert [line[4:8] for line in wrong] == [["1.00", "–", "–", "–"]] * 2
    assert table[table["batch"] == 1][["core_us", "bandwidth_share"]].isna().all(axis=None)
    assert table[table["batch"] == 1]["ratio"].isna().all() and table[table["batch"] == 32]["ratio"].notna().all()
    assert set(table[table["batch"] == 1]["fault"].str[:6]) == {"WRONG:"}


def test_wrong_dense_attention_is_shown_as_such(lab: Lab) -> None:
    """Each kernel of dense attention has its own column, and one that is wrong says so."""
    text, _ = made(lab, "fused", alter=({"backend": "dense:flash", "case": "timed"}, {"error": 0.5}))
    assert "### Every kernel of dense attention, µs" in text and text.count("WRONG: error 0.5 > 0.01") == 4


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"status": "unavailable"}, "**NOT MEASURED**: unavailable (fused is not here); run on a GPU."),
        ({"device": "cpu"}, "**NOT MEASURED**: nothing was timed on this grid"),
        ({"alter": ({"batch": 32}, {"batch": 16})}, "**NOT MEASURED**: nothing was timed on this grid"),
    ],
)
def test_what_was_not_measured_has_no_figures(record: dict[str, object], said: str, lab: Lab) -> None:
    """One sentence with the reason, and an empty table."""
    text, table = made(lab, "fused", **record)
    assert said in text and "µs" not in text and table.empty


def test_without_a_core_the_page_says_so(lab: Lab) -> None:
    """No candidate of config.yaml offers one."""
    text, table = made(lab)
    assert "no backend of config.yaml offers a decode core; add fused or triton_core to candidates" in text
    assert "`snakemake results/paper_table4.md --config candidates=[fused]`" in text and table.empty


def test_the_page_in_docs_has_the_figures_of_its_table() -> None:
    """What docs/ quotes of a run on one H100 is what that run left: every ratio, its interval and its time."""
    docs = Path(__file__).parents[3] / "docs"
    table, _ = parquet.read(docs / "paper_table4.parquet", PaperTableHeader, COLUMNS)
    lines = [line for line in (docs / "paper_table4.md").read_text().splitlines() if line.startswith("| 1")]
    found = table.to_pandas()
    assert len(found) == 24 and found["fault"].isna().all() and len(lines) == 48  # the second table is of dense kernels
    for line, row in zip(lines, found.itertuples(index=False), strict=False):
        time = bracketed(Estimate(row.core_us, row.core_us_lo, row.core_us_hi, 3))
        ratio = bracketed(Estimate(row.ratio, row.ratio_lo, row.ratio_hi, 3))
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[:4] == [f"{row.head_dim} / {row.value_dim}", str(row.batch), str(row.context), time]
        assert cells[10:12] == [ratio, f"{row.expected:g}"] and cells[9] == row.dense
