"""Routing on this device: forced blocks, ragged lengths and exact ties, against the oracle's loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from nsa.attention import reference
from nsa.attention.routing import select_blocks
from nsa.kernels.core import Core, Parts, Sizes
from nsa.shapes import NsaShape

BLOCK, CONTEXTS, CASES, LEVELS = 16, 900, 24, 5  # few score levels: nearly every choice is a tie

Router = Callable[[torch.Tensor, torch.Tensor, int, int], torch.Tensor]


def routing_fault(device: torch.device, router: Router = select_blocks) -> str | None:
    """The first case in which the chosen blocks are not the oracle's, as one phrase; None when all agree."""
    generator = torch.Generator().manual_seed(0)
    for case in range(CASES):
        seq_lens = torch.randint(1, CONTEXTS, (3, 2), generator=generator, dtype=torch.int32)
        blocks = -(-int(seq_lens.max()) // BLOCK)
        scores = torch.randint(0, LEVELS, (3, 2, blocks), generator=generator).float() / LEVELS
        count = 3 + case % 14
        chosen = router(scores.to(device), seq_lens.to(device), BLOCK, count).cpu()
        for b in range(3):
            for g in range(2):
                S = int(seq_lens[b, g])
                want = reference.select_blocks(scores[b, g, : -(-S // BLOCK)].double().numpy(), S, BLOCK, count)
                got = [index for index in chosen[b, g].tolist() if index >= 0]
                if got != want or len(chosen[b, g]) != count:
                    return f"S = {S}, n = {count}: chose blocks {got}, expected {want}"
    return None


def core_routing_fault(core: Core, S: int, shape: NsaShape, like: torch.Tensor) -> str | None:
    """The same of a core, whose scores nobody sees: with keys of zero all compressed tokens weigh the same, so that all
    blocks but the outermost tie.

    Args:
        core: the core under test.
        S: tokens.
        shape: the layer's sizes.
        like: a tensor of the dtype and device to use.
    """
    G, h, D, Dv, M = shape.groups, shape.heads_per_group, shape.head_dim, shape.value_dim, shape.num_compressed(S)
    k, v = like.new_zeros(3, 1, G, S, D), like.new_zeros(3, 1, G, S, Dv)
    k_cmp, v_cmp = like.new_zeros(1, G, max(M, 1), D), like.new_zeros(1, G, max(M, 1), Dv)
    q, gates = like.new_ones(1, G, h, D), like.new_ones(1, G, h, 3)
    seq_lens = torch.tensor([S], dtype=torch.int32, device=like.device)
    blocks = torch.empty(1, G, shape.sel_count, dtype=torch.int32, device=like.device)
    core(q, gates, k, v, k_cmp, v_cmp, seq_lens, Sizes.of(shape), Parts(sel=False, win=False), blocks)
    alike = np.ones((h, M))
    scores = reference.block_importance(alike, S, shape.cmp_block, shape.cmp_stride, shape.sel_block)
    want = reference.select_blocks(scores, S, shape.sel_block, shape.sel_count)
    for got in blocks[0].tolist():
        if got != want + [-1] * (shape.sel_count - len(want)):
            return f"S = {S}, n = {shape.sel_count}: chose blocks {got}, expected {want}"
    return None
