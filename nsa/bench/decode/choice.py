"""Whether routing chose the blocks of highest importance, where rounding cannot have decided."""

from __future__ import annotations

from typing import NamedTuple

import torch

from nsa.shapes import NsaShape

MARGIN = 1e-5  # relative; of the n-th and the next importance, and of what a choice within it may lose


class Choices(NamedTuple):
    """Of some rows: how many are judged by their blocks, and how many are wrong."""

    rows: int
    clear: int
    wrong: int


def judge_choice(importance: torch.Tensor, blocks: torch.Tensor, S: int, shape: NsaShape) -> Choices:
    """Judge chosen blocks [N, B, G, n] by the importance [N, B, G, S_blk] in float64.

    A row is clear where the last importance that is chosen and the next one differ by more than MARGIN: then the blocks
    must be those. In the others they must be well formed, and their importance at least 1 - MARGIN of the best.
    """
    importance, blocks = importance.flatten(0, 2), blocks.flatten(0, 2)
    n, count = shape.sel_count, importance.shape[-1]
    block = torch.arange(count, device=importance.device)
    always = (block == 0) | (block >= count - 2)
    if count <= n:
        right = torch.nn.functional.pad(block, (0, n - count), value=-1)
        same = (blocks == right).all(-1)
        return Choices(len(blocks), len(blocks), int((~same).sum()))
    order = importance.masked_fill(always, torch.inf).sort(dim=-1, descending=True, stable=True)
    right = order.indices[:, :n].sort(-1).values
    same = (blocks == right).all(-1)
    if n == int(always.sum()):
        return Choices(len(blocks), len(blocks), int((~same).sum()))
    last, following = order.values[:, n - 1], order.values[:, n]
    clear = last - following > MARGIN * last
    known = blocks.long().clamp(0, count - 1)
    formed = (blocks >= 0).all(-1) & (blocks < count).all(-1) & (blocks.diff(dim=-1) > 0).all(-1)
    formed &= always[known].sum(-1) == always.sum()
    sums = [importance.gather(-1, chosen).sum(-1) for chosen in (known, right)]
    as_good = formed & (sums[0] >= (1 - MARGIN) * sums[1])
    return Choices(len(blocks), int(clear.sum()), int((~torch.where(clear, same, as_good)).sum()))
