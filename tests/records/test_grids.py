"""The shapes of the acceptance grid, of the roofline and of decode cores."""

from __future__ import annotations

import pytest

from nsa.config import CheckSettings, CoreCurveSettings, CoreSettings, RooflineSettings
from nsa.records.grids import core_grid, grid, roofline_grid


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


def test_the_curve_of_cores_ends_where_the_caches_would_be_too_large() -> None:
    """Every B and S by doubling up to 2^23 tokens in all sequences together, on the geometry of the core check."""
    core = CoreSettings(groups=2, window=100)
    shapes = core_grid(CoreCurveSettings().cores(core), "cuda")
    assert len(set(shapes)) == len(shapes) == 8 * 8 - 1
    assert max(shape.batch * shape.context for shape in shapes) == 2**23
    assert {(shape.groups, shape.window, shape.head_dim) for shape in shapes} == {(2, 100, 128)}
    assert len(core_grid(core.model_copy(update={"max_tokens": 2**20}), "cuda")) == 24 - 2


def test_a_cpu_checks_its_own_shape_however_few_tokens_are_timed() -> None:
    """max_tokens is of what is timed, on a GPU."""
    few = CoreSettings(batch=(1,), contexts=(64,), max_tokens=64)
    assert len(core_grid(few, "cpu")) == len(core_grid(few, "cuda")) == 2
