"""The composed core against the oracle: whichever parts run, ragged, with exact ties."""

from __future__ import annotations

import pytest
import torch
from cores import case, drawn

from nsa.attention.composition import compose
from nsa.bench.method.core_oracle import core_oracle, routing_fault
from nsa.kernels.sdpa.packed import gather

LIMIT = {torch.float16: 4e-3, torch.bfloat16: 3e-2}


@pytest.mark.parametrize("seed", range(40))
def test_the_composed_core_equals_the_oracle(seed: int) -> None:
    """Output and chosen blocks of random shapes are right; a part that is off is not read, NaN included."""
    made = drawn(seed, longest=400)
    call = case(made, seed, torch.device("cpu"))
    out = torch.full((*call.q.shape[:3], made.Dv), torch.nan, dtype=made.dtype)
    core = compose(gather)
    assert core(*call, out) is out
    judged = core_oracle(*call)
    torch.testing.assert_close(out.double(), judged.output, atol=LIMIT[made.dtype], rtol=0)
    if made.parts.route:
        assert routing_fault(call.block_indices, judged.importance, call.seq_lens, made.sizes) is None


def test_equal_keys_select_the_lowest_blocks() -> None:
    """With all keys alike inner blocks weigh the same, and the lowest of them are chosen."""
    made = drawn(3, longest=400)._replace(lengths=(400,), capacity=400)
    call = case(made, 0, torch.device("cpu"))
    call.k_cmp.fill_(1.0)
    call = call._replace(sizes=call.sizes._replace(cmp_block=32, cmp_stride=16, sel_block=32, sel_count=6))
    call = call._replace(block_indices=torch.zeros(1, made.groups, 6, dtype=torch.int32), parts=type(made.parts)())
    call.k.nan_to_num_(), call.v.nan_to_num_(), call.v_cmp.nan_to_num_()
    compose(gather)(*call)
    assert call.block_indices[0].tolist() == [[0, 1, 2, 3, 11, 12]] * made.groups
