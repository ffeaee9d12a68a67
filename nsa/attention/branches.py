"""The compressed and the window branch, and the gate that sums all three (NSA paper, Eq. 5, 8 and section 3.3.3)."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F


def compressed_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention over compressed tokens that keeps its probabilities for routing.

    q [B, G, R, D] with R query rows a group, k [B, G, M, D], v [B, G, M, Dv], mask broadcasting to [B, G, R, M]
    (True: visible) -> o [B, G, R, Dv] in q's dtype and p [B, G, R, M] float32. A row that sees nothing gives zeros.
    """
    scores = _matmul_fp32(q, k.transpose(-1, -2)) * (1 / math.sqrt(q.shape[-1]))  # [B, G, R, M]
    if mask is None:
        p = scores.softmax(-1)
    else:
        p = torch.where(mask, scores.masked_fill(~mask, -math.inf).softmax(-1), 0)
        seen = mask.any(-2, keepdim=True).transpose(-1, -2)  # [.., M, 1]
        v = torch.where(seen, v, 0)  # 0 times NaN is NaN: what nobody sees must not be multiplied
    return p.to(v.dtype) @ v, p


def window_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Attention over the window's tokens: q [B, G, R, D], k [B, G, L, D], v [B, G, L, Dv] -> [B, G, R, Dv].

    A group's heads are the rows of one attention, so keys are never repeated for them.
    """
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def gated_sum(gates: torch.Tensor, outputs: dict[int, torch.Tensor]) -> torch.Tensor | None:
    """Sum the branches that ran: gates [B, G, h, 3], outputs[branch] [B, G, h, Dv] -> [B, G, h, Dv]; None for none."""
    total: torch.Tensor | None = None
    for branch, output in outputs.items():
        gate = gates[..., branch, None]
        total = gate * output if total is None else torch.addcmul(total, gate, output)
    return total


def _matmul_fp32(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a @ b with float32 results: half-precision logits would round to 8 bits before the softmax."""
    if a.dtype == torch.float32:
        return a @ b
    if a.is_cuda:
        return torch.bmm(a.flatten(0, 1), b.flatten(0, 1), out_dtype=torch.float32).unflatten(0, a.shape[:2])
    return a.float() @ b.float()
