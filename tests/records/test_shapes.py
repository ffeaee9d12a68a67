"""The shapes of the acceptance grid and of the roofline."""

from __future__ import annotations

import pytest

from nsa.config import CheckSettings, RooflineSettings
from nsa.records.schemas import CHECK_REPETITIONS
from nsa.records.shapes import AXES, CONSTANT, CheckShape, GridShape, grid, roofline_grid


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


def test_a_shape_is_named_by_its_axes_alone() -> None:
    """Its name is that of the five sizes that differ between shapes; all of its fields are columns of a record."""
    shape = CheckShape(256, 4, 64, 128, 8, 64, 4096, 4, "bfloat16")
    assert shape.sizes == (256, 4, 64, 128, 8)
    assert str(shape) == str(GridShape(*shape.sizes)) == "N=256 h=4 D=64 Dv=128 n=8"
    assert {*AXES, *CONSTANT} <= {*CHECK_REPETITIONS.names}
