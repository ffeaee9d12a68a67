"""Reads counted from what a step was given: key tensors, masks, index tensor and lengths; never from the formula."""

from __future__ import annotations

import torch

from nsa.attention.layer import Keys, Step


def count(step: Step, seq_lens: torch.Tensor, sel_block: int) -> dict[str, float]:
    """KV tokens touched per (sequence, group), averaged over both: {"cmp", "sel", "win", "actual"}.

    Args:
        step: a full step's result.
        seq_lens: [B] int32, the lengths that the kernels were given.
        sel_block: l', tokens in a selection block.
    """
    tokens = {"cmp": visible(step.cmp), "sel": 0.0, "win": visible(step.win)}
    if step.block_indices is not None:
        start = step.block_indices * sel_block  # [B, G, n]
        held = (seq_lens[:, None, None] - start).clamp(0, sel_block)  # tokens of the block that exist
        tokens["sel"] = torch.where(step.block_indices >= 0, held, 0).sum(-1).double().mean().item()
    return {**tokens, "actual": sum(tokens.values())}


def visible(keys: Keys | None) -> float:
    """Key tokens that at least one query row of the group sees, averaged over sequences and groups."""
    if keys is None:
        return 0.0
    B, G, M, _ = keys.keys.shape
    if keys.mask is None:
        return float(M)
    seen = keys.mask.any(-2)  # [B or 1, G or 1, M]
    return seen.expand(B, G, M).sum(-1).double().mean().item()
