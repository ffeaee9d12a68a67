"""Which blocks the selected branch attends to (NSA paper, Eq. 9 to 12)."""

from __future__ import annotations

import torch

from nsa.kernels.core import Sizes
from nsa.shapes import NsaShape

ALWAYS = (1 << 31) - 1  # above the bits of any finite float32 score


def route(p_cmp: torch.Tensor | None, seq_lens: torch.Tensor, longest: int, shape: NsaShape) -> torch.Tensor:
    """Choose blocks from the compressed branch's probabilities.

    Args:
        p_cmp: [..., S_cmp] float32, summed over the heads of a group; None while there is no compressed token.
        seq_lens: [...] int32, p_cmp's leading dimensions: tokens that each row may see.
        longest: the largest of seq_lens, known to the host.
        shape: the layer's sizes.

    Returns:
        block_indices [..., n] int32, ascending, unique, -1 at the end where a row has fewer blocks.
    """
    num_blocks = shape.num_blocks(longest)
    if num_blocks <= shape.sel_count:  # every block is selected, whatever its score
        every = torch.arange(shape.sel_count, dtype=torch.int32, device=seq_lens.device)
        return torch.where(every * shape.sel_block < seq_lens[..., None], every, -1)
    if p_cmp is None:
        scores = torch.zeros(*seq_lens.shape, num_blocks, dtype=torch.float32, device=seq_lens.device)
    else:
        scores = block_importance(p_cmp, num_blocks, shape)
    return select_blocks(scores, seq_lens, shape.sel_block, shape.sel_count)


def block_importance(p_cmp: torch.Tensor, num_blocks: int, shape: NsaShape | Sizes) -> torch.Tensor:
    """Importance of each selection block: [..., S_cmp] -> [..., num_blocks] float32 (Eq. 9).

    A compressed token covers l/d cells of d tokens and a block l'/d of them, so the overlap sum is two box sums.
    They are written as additions of whole slices, in one order at every block: equal inputs give equal scores.
    """
    cover, cells = shape.cmp_block // shape.cmp_stride, shape.sel_block // shape.cmp_stride
    total = num_blocks * cells
    padded = torch.nn.functional.pad(p_cmp, (cover - 1, total - p_cmp.shape[-1]))  # [..., cover - 1 + total]
    mass = padded[..., cover - 1 :]
    for back in range(1, cover):
        mass = mass + padded[..., cover - 1 - back : cover - 1 - back + total]
    mass = mass.unflatten(-1, (num_blocks, cells))  # [..., num_blocks, l'/d]
    score = mass[..., 0]
    for cell in range(1, cells):
        score = score + mass[..., cell]
    return score * (shape.cmp_stride / shape.cmp_block)


def select_blocks(scores: torch.Tensor, seq_lens: torch.Tensor, sel_block: int, sel_count: int) -> torch.Tensor:
    """Block 0, the current block, its left neighbour, then the best by score; equal scores: the lower index wins.

    scores [..., S_blk] float32, not negative; seq_lens [...] int32 -> [..., n] int32 (Eq. 11 and 12).
    Score and index share one 64-bit key, so the order is total and ties are exact.
    """
    num_blocks = scores.shape[-1]
    block = torch.arange(num_blocks, device=scores.device)
    current = ((seq_lens - 1) // sel_block)[..., None]  # [..., 1]
    forced = (block == 0) | (block == current) | (block == current - 1)
    bits = scores.contiguous().view(torch.int32).long()  # non-negative floats order as their bits do
    key = torch.where(forced, ALWAYS, bits) * (1 << 32) + (num_blocks - 1 - block)
    key = torch.where(block <= current, key, -1)
    best = key.topk(min(sel_count, num_blocks), sorted=False).values
    index = torch.where(best >= 0, num_blocks - 1 - (best & 0xFFFFFFFF), num_blocks)
    index = index.sort().values  # ascending, absent ones last
    index = torch.where(index < num_blocks, index, -1).int()
    return torch.nn.functional.pad(index, (0, sel_count - index.shape[-1]), value=-1)
