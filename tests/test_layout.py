"""Where results lie, and where no backend's own stage may write."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsa.layout import Layout


@pytest.mark.parametrize("root", [Path("results"), Path("/tmp/elsewhere/results")])
def test_what_is_ours_is_taken(root: Path) -> None:
    """Every result, log and stamp, and all that is beside or below them by pattern, in whatever folder."""
    layout = Layout(root)
    ours = [
        layout.environment,
        layout.cell("acme", 128),
        layout.check("acme"),
        layout.dram("acme"),
        layout.roofline,
        layout.core("acme"),
        layout.core_curve("acme"),
    ]
    ours += [
        layout.summary("acme"),
        layout.report,
        layout.html,
        layout.previous_report,
        layout.kept_report,
        layout.gate,
    ]
    ours += [
        layout.csv,
        layout.checks,
        layout.figures / "a.png",
        layout.roofline_page,
        layout.paper_table,
        layout.paper_figures,
        layout.paper_drawing,
        layout.curve_page,
        layout.curve_figures,
        layout.curve_drawing,
        layout.stamp("decode-acme"),
    ]
    ours += [layout.lock, layout.bench_build, layout.log("decode/acme/S128"), root / "decode/acme.json"]
    assert [str(path) for path in ours if not layout.taken(path.relative_to(root).as_posix())] == []
    assert not any(map(layout.taken, ("build/cuda.json", "tune/triton.json", "acme/way.json", "acme.json", "checks/a")))
