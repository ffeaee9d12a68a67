"""Selected attention in plain PyTorch: a copy of the selected tokens, then attention over them in float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from nsa.kernels.contract import check_inputs

Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # [B, G, h, X] and [B, G, X, Y] -> [B, G, h, Y]


def select_attention(
    product: Product,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    block_indices: torch.Tensor,
    seq_lens: torch.Tensor,
    block_size: int,
) -> torch.Tensor:
    """See nsa.kernels.contract.SelectAttention."""
    check_inputs(q, k, v, block_indices, seq_lens, block_size)
    offset = torch.arange(block_size, device=q.device)
    token = (block_indices[..., None] * block_size + offset).flatten(2)  # [B, G, n·l'], negative where padded
    outside = (token < 0) | (token >= seq_lens[:, None, None])
    token = token.masked_fill(outside, 0)[..., None]  # [B, G, n·l', 1]
    k_sel, v_sel = (
        cache.gather(2, token.expand(-1, -1, -1, cache.shape[-1])).double().masked_fill(outside[..., None], 0)
        for cache in (k, v)
    )  # [B, G, n·l', D] and [B, G, n·l', Dv]: nothing of what lies beyond a length, which may be NaN
    scores = product(q.double(), k_sel.transpose(2, 3)) * q.shape[-1] ** -0.5  # [B, G, h, n·l']
    share = scores.masked_fill(outside[:, :, None], -torch.inf).softmax(-1)
    share = share.masked_fill(outside.all(-1)[..., None, None], 0)  # a row without tokens gives zero
    return product(share, v_sel).to(q.dtype)  # [B, G, h, Dv]


def by_sum(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The product as a sum over broadcast factors."""
    return (a[..., None] * b[..., None, :, :]).sum(-2)


WAYS = {"matmul": partial(select_attention, torch.matmul), "sum": partial(select_attention, by_sum)}
