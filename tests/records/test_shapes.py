"""A shape that kernels are checked and timed on."""

from __future__ import annotations

from nsa.records.schemas import CHECK_REPETITIONS
from nsa.records.shapes import AXES, CONSTANT, CheckShape, GridShape


def test_a_shape_is_named_by_its_axes_alone() -> None:
    """Its name is that of the five sizes that differ between shapes; all of its fields are columns of a record."""
    shape = CheckShape(256, 4, 64, 128, 8, 64, 4096, 4, "bfloat16")
    assert shape.sizes == (256, 4, 64, 128, 8)
    assert str(shape) == str(GridShape(*shape.sizes)) == "N=256 h=4 D=64 Dv=128 n=8"
    assert {*AXES, *CONSTANT} <= {*CHECK_REPETITIONS.names}
