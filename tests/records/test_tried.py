"""The names of what a whole check tries are those that the bench tries: a verdict misses what a record lacks."""

from __future__ import annotations

import pytest
import torch

from nsa.bench.check.corners.cases import cases
from nsa.bench.check.corners.draw import Draw
from nsa.bench.core.corner_cases import CORNERS
from nsa.bench.core.dense import OF_PACKAGES, OF_TORCH
from nsa.config import CheckSettings
from nsa.kernels.sdpa.packed import CUDA_VARIANTS, VARIANTS
from nsa.records.grids import grid
from nsa.records.tried import DENSE_RIVALS, DTYPES, PACKED_RIVALS, check_corners, core_corners


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_corner_cases_of_a_kernel_check_are_the_benchs(dtype: str) -> None:
    """Each of them with as many calls as the bench makes, in every dtype of a grid."""
    base, device = grid(CheckSettings(), "cpu")[0], torch.device("cpu")
    made = {name: len(case.draw(Draw(base, 1, name, device))) for name, case in cases(dtype).items()}
    assert check_corners(dtype) == made


def test_the_corner_cases_of_a_core_check_are_the_benchs() -> None:
    """Each of them with as many calls as the bench makes."""
    assert core_corners() == {name: 2 if corner.again else 1 for name, corner in CORNERS.items()}


def test_the_rivals_are_the_benchs() -> None:
    """Kernels of dense attention, installed or not, and packed SDPA's variants, on every device or on CUDA alone."""
    assert {*DENSE_RIVALS} == {f"dense:{name}" for name in OF_TORCH | OF_PACKAGES}
    assert {*PACKED_RIVALS} == {f"sdpa:{name}" for name in VARIANTS | CUDA_VARIANTS}
