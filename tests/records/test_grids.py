"""The shapes of the acceptance grid and of the roofline."""

from __future__ import annotations

import pytest

from nsa.config import CheckSettings, RooflineSettings
from nsa.records.grids import grid, roofline_grid


@pytest.mark.parametrize(("device", "count", "context"), [("cuda", 32, 4096), ("cpu", 16, 1088)])
def test_the_grid_is_every_combination_of_its_axes(device: str, count: int, context: int) -> None:
    """Each combination stands once; a CPU has a few rows at a short context."""
    shapes = grid(CheckSettings(), device)
    assert len(set(shapes)) == len(shapes) == count
    assert {shape.context for shape in shapes} == {context}


def test_the_roofline_has_values_as_wide_as_keys() -> None:
    """Each combination stands once, with Dv = D."""
    shapes = roofline_grid(RooflineSettings())
    assert len(set(shapes)) == len(shapes) == 4 * 3 * 2 * 2
    assert all(shape.value_dim == shape.head_dim for shape in shapes)
