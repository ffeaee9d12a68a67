"""The oracle of a decode core against the loop reference, and the judge of its routing."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from cores import Case, case, drawn

from nsa.attention import reference
from nsa.bench.method.core_oracle import clear_rows, core_oracle, routing_fault
from nsa.kernels.core import Sizes


def loops(call: Case, b: int, g: int) -> tuple[reference.Array, reference.Array]:
    """One row by the reference's loops: output [h, Dv] and importance [S_blk]."""
    S, sizes = int(call.seq_lens[b]), call.sizes
    M = sizes.num_compressed(S)

    def array(tensor: torch.Tensor) -> reference.Array:
        return np.asarray(tensor.double().numpy())

    q, gates = array(call.q[b, g]), array(call.gates[b, g])
    o_cmp, p = reference.attend(q, array(call.k_cmp[b, g, :M]), array(call.v_cmp[b, g, :M]))
    importance = reference.block_importance(p, S, sizes.cmp_block, sizes.cmp_stride, sizes.sel_block)
    tokens = reference.block_tokens(call.block_indices[b, g].tolist(), sizes.sel_block, S)
    o_sel, _ = reference.attend(q, array(call.k[1, b, g, tokens]), array(call.v[1, b, g, tokens]))
    window = slice(S - min(sizes.window, S), S)
    o_win, _ = reference.attend(q, array(call.k[2, b, g, window]), array(call.v[2, b, g, window]))
    on = call.parts
    output = sum(
        gates[:, branch, None] * o
        for branch, (o, runs) in enumerate(((o_cmp, on.cmp), (o_sel, on.sel), (o_win, on.win)))
        if runs
    )
    return np.asarray(output) + np.zeros_like(o_cmp), importance


@pytest.mark.parametrize("seed", range(24))
def test_the_oracle_equals_the_loop_reference(seed: int) -> None:
    """Output and importance of random shapes equal the reference's, whichever parts run, with NaN beyond lengths."""
    made = drawn(seed, longest=200)
    call = case(made, seed, torch.device("cpu"))
    judged = core_oracle(*call)
    for b, S in enumerate(made.lengths):
        for g in range(made.groups):
            output, importance = loops(call, b, g)
            np.testing.assert_allclose(judged.output[b, g].numpy(), output, atol=1e-10)
            if made.parts.cmp:
                blocks = made.sizes.num_blocks(S)
                np.testing.assert_allclose(judged.importance[b, g, :blocks].numpy(), importance, atol=1e-10)


SIZES = Sizes(4, 2, 4, 4, 8)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ([0, 3, 6, 7], None),
        ([3, 0, 6, 7], "does not ascend"),
        ([0, 6, 7, -1], "expected 4 of 8 blocks"),
        ([0, 3, 4, 7], "lacks one of the forced blocks"),
        ([0, 2, 6, 7], "expected \\[0, 3, 6, 7\\]"),
        ([0, 3, 6, 8], "expected 4 of 8 blocks"),
    ],
)
def test_a_wrong_choice_of_blocks_is_named(row: list[int], fault: str | None) -> None:
    """The best block beside the forced ones must be there, once, in order; anything else is a fault in one line."""
    importance = torch.tensor([[[9.0, 1, 2, 3, 1, 2, 0, 0]]], dtype=torch.float64)
    said = routing_fault(torch.tensor([[row]], dtype=torch.int32), importance, torch.tensor([32]), SIZES)
    assert said is None if fault is None else said is not None and re.search(fault, said) is not None


def test_within_rounding_either_block_may_be_chosen() -> None:
    """A choice that loses less than rounding is right, one that loses more is not."""
    close = torch.tensor([[[9.0, 1, 2, 2 + 1e-9, 1, 2, 0, 0]]], dtype=torch.float64)
    row = torch.tensor([[[0, 2, 6, 7]]], dtype=torch.int32)
    assert routing_fault(row, close, torch.tensor([32]), SIZES) is None
    close[..., 3] = 2.001
    assert routing_fault(row, close, torch.tensor([32]), SIZES) is not None


def test_rows_whose_choice_rounding_may_decide_are_counted() -> None:
    """A row with few blocks is clear, one whose n-th and next importance are alike is not."""
    importance = torch.tensor([[[9.0, 1, 2, 3, 1, 2, 0, 0]], [[9.0, 1, 3, 3, 1, 2, 0, 0]]], dtype=torch.float64)
    assert clear_rows(importance, [32, 32], SIZES) == 1
    assert clear_rows(importance, [32, 16], SIZES) == 2
