"""Reads counted from what a step was given, and from what reaches a kernel's output; never from the formula."""

from __future__ import annotations

import torch

from nsa.kernels.contract import SelectAttention
from nsa.kernels.step import Lengths, StepParts
from nsa.shapes import NsaShape

FOREIGN = 1024.0  # the value of tokens that must not be read: it shows even in one weight of a thousand


def selected_by_tensors(block_indices: torch.Tensor, seq_lens: torch.Tensor, block_size: int) -> torch.Tensor:
    """Tokens that the index tensor and the lengths name: [B, G, n], [B] -> [B, G] float64."""
    held = (seq_lens[:, None, None] - block_indices * block_size).clamp(0, block_size)  # of each block
    return torch.where(block_indices >= 0, held, 0).sum(-1).double()


def selected_by_kernel(
    kernel: SelectAttention,
    block_indices: torch.Tensor,
    seq_lens: torch.Tensor,
    block_size: int,
    capacity: int,
    sizes: tuple[int, int, int],
    like: torch.Tensor,
) -> torch.Tensor:
    """Tokens that reach the kernel's output, counted one by one: [B, G] float64.

    All keys are zero, so every token that is read weighs 1/T. In one call only the tokens that must not be read carry a
    value, and show if they are; in the others each selected token carries a 1 in a value dimension of its own, Dv
    tokens a call, and shows as often as it was read. No kernel reports a count: it is read off what the kernel returns.

    Args:
        kernel: the kernel under test.
        block_indices, seq_lens, block_size: as the contract has them, [B, G, n] int32, [B] int32.
        capacity: S_max of the caches.
        sizes: h, D, Dv.
        like: a tensor of the dtype and device to use.
    """
    B, G, n = block_indices.shape
    h, D, Dv = sizes
    counted = torch.zeros(B, G, dtype=torch.float64, device=like.device)
    for b in range(B):  # one sequence at a time: a batch's caches would not fit twice
        token = block_indices[b][..., None] * block_size + torch.arange(block_size, device=like.device)
        token = token.flatten(1).long()  # [G, n*l']
        exists = (token >= 0) & (block_indices[b] >= 0).repeat_interleave(block_size, -1) & (token < seq_lens[b])
        group, place = exists.nonzero(as_tuple=True)
        where = token[group, place]
        q, k = like.new_ones(1, G, h, D), like.new_zeros(1, G, capacity, D)

        def first_head(v: torch.Tensor, b: int = b, q: torch.Tensor = q, k: torch.Tensor = k) -> torch.Tensor:
            return kernel(q, k, v, block_indices[b : b + 1], seq_lens[b : b + 1], block_size)[0, :, 0].double()

        v = like.new_full((1, G, capacity, Dv), FOREIGN)
        v[0, group, where] = 0
        foreign = first_head(v)[:, 0]  # [G]
        weights = []
        for start in range(0, n * block_size, Dv):
            now = (place >= start) & (place < start + Dv)
            v = like.new_zeros(1, G, capacity, Dv)
            v[0, group[now], where[now], place[now] - start] = 1
            weights.append(first_head(v))
        counted[b] = _count(torch.cat(weights, -1), foreign, exists.sum(-1))
    return counted


def compressed_by_parts(computed_by: StepParts, lengths: Lengths, shape: NsaShape, like: torch.Tensor) -> torch.Tensor:
    """Compressed tokens that reach the output of the compressed branch, counted likewise: [B, G] float64.

    Args:
        computed_by: what computes the branch.
        lengths: of the caches.
        shape: the layer's sizes.
        like: a tensor of the dtype and device to use.
    """
    B, G, M, Dv = len(lengths.seq_lens), shape.groups, shape.num_compressed(lengths.longest), shape.value_dim
    if M == 0:
        return torch.zeros(B, G, dtype=torch.float64, device=like.device)
    q = like.new_ones(B, G, shape.heads_per_group, shape.head_dim)
    k = like.new_zeros(B, G, M, shape.head_dim)

    def first_head(v: torch.Tensor) -> torch.Tensor:
        return computed_by.compressed(q, k, v[:, :, :M], lengths, shape, False)[0][:, :, 0].double()

    beyond = like.new_full((B, G, M + 1, Dv), FOREIGN)
    beyond[:, :, :M] = 0
    foreign = first_head(beyond)[..., 0]  # [B, G]
    weights = []
    for start in range(0, M, Dv):
        v = like.new_zeros(B, G, M, Dv)
        width = min(Dv, M - start)
        v[:, :, range(start, start + width), range(width)] = 1
        weights.append(first_head(v)[..., :width])
    named = torch.full((B, G), M, device=like.device)
    return _count(torch.cat(weights, -1), foreign, named)


def _count(weights: torch.Tensor, foreign: torch.Tensor, named: torch.Tensor) -> torch.Tensor:
    """Tokens behind the weights [..., tokens] of the named tokens and the sum [...] over foreign ones."""
    single = weights.where(weights > 0, torch.inf).min(-1, keepdim=True).values
    own = torch.where(weights > 0, (weights / single).round(), 0).sum(-1)
    strangers = (foreign * named / (FOREIGN - foreign)).round()
    return own + torch.where(foreign > 0, strangers.clamp(min=1), 0)
