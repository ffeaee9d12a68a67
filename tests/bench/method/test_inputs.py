"""Inputs of a check: every edge of the contract in the ragged ones, and full rows in those that are timed."""

from __future__ import annotations

import torch
from standins import CPU

from nsa.bench.method.inputs import full_case, ragged_case
from nsa.config import CheckSettings
from nsa.records.grids import grid
from nsa.records.shapes import CheckShape

SHAPE = CheckShape(24, 4, 32, 64, 6, 16, 200, 4, "float32")


def test_ragged_cases_hold_every_edge_of_the_contract() -> None:
    """Empty rows, partial blocks, padding at the end and NaN beyond the lengths are in each case."""
    call = ragged_case(SHAPE, 0, CPU)
    lengths, indices = call.seq_lens.tolist(), call.block_indices
    assert {200, 0, 1} <= set(lengths) and any(S % 16 for S in lengths)
    assert (indices == -1).all(-1).any() and (indices[..., -1] >= 0).any()
    for b, S in enumerate(lengths):
        for cache in (call.k, call.v):
            assert cache[b, :, S:].isnan().all() and cache[b, :, :S].isfinite().all()
        for g in range(4):
            chosen = [i for i in indices[b, g].tolist() if i >= 0]
            assert chosen == sorted(set(chosen)) and all(i * 16 < S for i in chosen)
            assert indices[b, g].tolist() == chosen + [-1] * (6 - len(chosen))


def test_what_is_timed_has_every_row_full() -> None:
    """Every sequence has the whole context, and every row n blocks with the current, partial one."""
    full = full_case(SHAPE, 1, CPU)
    assert full.q.shape == (6, 4, 4, 32) and full.k.shape == (6, 4, 208, 32) and full.v.shape == (6, 4, 208, 64)
    assert (full.seq_lens == 200).all() and (full.block_indices >= 0).all()
    assert (full.block_indices[..., -1] == 12).all()


def test_a_seed_is_a_draw() -> None:
    """The same seed gives the same inputs, another seed others, in each of the drawn tensors."""
    for case in (full_case, ragged_case):
        one, same, other = case(SHAPE, 1, CPU), case(SHAPE, 1, CPU), case(SHAPE, 2, CPU)
        for mine, again, theirs in zip(one[:4], same[:4], other[:4], strict=True):
            assert torch.equal(mine.view(torch.uint8), again.view(torch.uint8))
            assert not torch.equal(mine.nan_to_num(), theirs.nan_to_num())


def test_the_grid_is_the_guides() -> None:
    """32 shapes on CUDA; a CPU checks the 16 of them that differ in more than the rows."""
    assert len(set(grid(CheckSettings(), "cuda"))) == 32
    found = grid(CheckSettings(), "cpu")
    assert len(set(found)) == 16
    assert {(shape.rows, shape.context, shape.dtype) for shape in found} == {(16, 1088, "float32")}
