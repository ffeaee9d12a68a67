"""Routing against the oracle, with exact ties and ragged lengths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nsa.attention import reference
from nsa.attention.routing import block_importance, route, select_blocks
from nsa.shapes import NsaShape


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([1, 2, 4]), st.integers(1, 4), st.integers(1, 5), st.integers(1, 80), st.integers(0, 2**31))
def test_importance_equals_the_overlap_formula(stride: int, cover: int, cells: int, S: int, seed: int) -> None:
    """The two box sums are the token overlaps of Eq. 9, at either edge too."""
    shape = NsaShape(cmp_block=cover * stride, cmp_stride=stride, sel_block=cells * stride)
    p = torch.rand(2, shape.num_compressed(S), generator=torch.Generator().manual_seed(seed))
    want = reference.block_importance(p.double().numpy(), S, shape.cmp_block, stride, shape.sel_block)
    got = block_importance(p.sum(0), shape.num_blocks(S), shape)
    np.testing.assert_allclose(got.numpy(), want, atol=1e-5)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(3, 9), st.integers(1, 5), st.data())
def test_ties_are_exact_and_equal_to_the_oracle(levels: list[int], n: int, block: int, data: st.DataObject) -> None:
    """Equal scores go to the lower index, and each forced block is selected once."""
    S = data.draw(st.integers((len(levels) - 1) * block + 1, len(levels) * block))
    scores = torch.tensor(levels, dtype=torch.float32) / 3
    got = select_blocks(scores[None], torch.tensor([S], dtype=torch.int32), block, n)[0].tolist()
    want = reference.select_blocks(scores.double().numpy(), S, block, n)
    assert got == want + [-1] * (n - len(want))


def test_ragged_rows_see_only_their_own_blocks() -> None:
    """A row's choice does not depend on blocks beyond its length."""
    scores = torch.rand(3, 2, 20)
    scores[0, :, 4:] = 9.0  # tempting, but beyond the first row's length
    seq_lens = torch.tensor([13, 77, 80], dtype=torch.int32)
    got = select_blocks(scores, seq_lens[:, None].expand(3, 2), 4, 5)
    for b, S in enumerate(seq_lens.tolist()):
        for g in range(2):
            own = scores[b, g, : -(-S // 4)].double().numpy()
            want = reference.select_blocks(own, S, 4, 5)
            assert got[b, g].tolist() == want + [-1] * (5 - len(want))


@pytest.mark.parametrize(("S", "want"), [(5, [0, 1, -1]), (12, [0, 1, 2]), (16, [0, 2, 3])])
def test_route_without_compressed_tokens_takes_forced_blocks_and_the_lowest(S: int, want: list[int]) -> None:
    """A context shorter than l attends to the forced blocks and the lowest others."""
    shape = NsaShape(cmp_block=32, cmp_stride=4, sel_block=4, sel_count=3)
    assert route(None, torch.tensor([S], dtype=torch.int32), S, shape)[0].tolist() == want
