"""The contract's door, for every backend: how many blocks a row may name, and what strides mean."""

from __future__ import annotations

import pytest
import torch
from kernels.sdpa.calls import require_oracle
from strategies import CPU

from nsa.bench.method.inputs import full_case, ragged_case
from nsa.errors import InputError
from nsa.kernels.contract import check_inputs, dense, strides
from nsa.kernels.limits import MAX_SEL_COUNT
from nsa.kernels.sdpa.packed import VARIANTS
from nsa.records.shapes import CheckShape

MANY = CheckShape(4, 2, 32, 32, MAX_SEL_COUNT, 16, 16 * (MAX_SEL_COUNT + 3), 2, "float32")


def test_a_row_may_name_as_many_blocks_as_the_settings_allow() -> None:
    """128 blocks a row pass the door, one more is refused with a line that says so."""
    call = full_case(MANY, 0, CPU)
    check_inputs(*call)
    more = torch.cat((call.block_indices, torch.full((2, 2, 1), -1, dtype=torch.int32)), -1)
    with pytest.raises(InputError, match="block_indices: got n = 129 blocks a row, expected at most 128"):
        check_inputs(*call._replace(block_indices=more))


@pytest.mark.parametrize("variant", VARIANTS)
def test_packed_sdpa_takes_that_many_blocks(variant: str) -> None:
    """With 128 blocks a row a variant's output is the oracle's."""
    require_oracle(VARIANTS[variant], full_case(MANY, 0, CPU))
    require_oracle(VARIANTS[variant], ragged_case(MANY, 1, CPU))


def test_a_stride_of_a_dimension_of_size_one_counts_as_zero() -> None:
    """Only what there is to step over has a stride, and one number lies side by side with nothing."""
    tensor = torch.zeros(8).as_strided((1, 2, 1, 2), (7, 3, 5, 1))
    assert strides(tensor) == (0, 3, 0, 1) and dense(tensor)
    assert dense(tensor[..., :1].as_strided((2, 1), (3, 9)))
    assert not dense(tensor.as_strided((2, 2), (1, 3))) and not dense(torch.zeros(1).expand(2, 2))
