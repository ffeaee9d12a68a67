"""The figure of the bars that is a file of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from nsa.report.analysis.summary import ran
from nsa.report.page.plots import COLOURS, PALE, draw_bars

if TYPE_CHECKING:
    from tests.report.conftest import Lab


def test_parts_that_do_not_add_up_are_pale_and_said(lab: Lab) -> None:
    """A core's parts overlap, and their sum is beyond the step: its bar is not drawn as one."""
    cells = [lab.cell("sdpa", 128), lab.cell("fused", 128, parts={"overlap": -0.02})]
    figure = Figure()
    draw_bars(figure, ran(lab.summaries(cells)))
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["fused ≠", "sdpa"]
    assert [bar.get_facecolor()[3] for bar in axes.patches] == [PALE, 1.0] * len(COLOURS)
    assert "do not add up" in axes.get_title()


def test_parts_that_add_up_are_drawn_as_the_step(lab: Lab) -> None:
    """Nothing is said of parts whose sum is near the step."""
    figure = Figure()
    draw_bars(figure, ran(lab.summaries([lab.cell("sdpa", 128)])))
    assert "≠" not in figure.axes[0].get_title()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*COLOURS, "total, measured"]
