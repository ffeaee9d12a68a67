"""The acceptance grid as the report sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from synthetic import CONFIG, GRID

from nsa.bench.method.shapes import grid
from nsa.config import CheckSettings
from nsa.report.analysis.kernel import off_grid, shapes
from nsa.report.analysis.read import read_check

if TYPE_CHECKING:
    from tests.report.conftest import Lab


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_report_and_the_bench_have_the_same_shapes_by_the_same_names(device: str) -> None:
    """What is left out of a shape, and why, is found by the shape's name."""
    settings = CheckSettings()
    assert [str(shape) for shape in shapes(settings, device)] == [str(shape) for shape in grid(settings, device)]
    assert len(shapes(settings, device)) == (32 if device == "cuda" else 16)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_check_of_the_settings_is_on_the_grid(lab: Lab, device: str) -> None:
    """A record's dtype, context, groups and block size are those of the settings on its device."""
    record = read_check(lab.check("cuda", device=device))
    assert off_grid(record, CONFIG.check) is None
    other = GRID.model_copy(update={"context": 2048, "cpu_context": 2048})
    assert str(off_grid(record, other)).endswith("and the settings ask for 2048")
