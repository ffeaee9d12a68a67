"""Reads counted from what a step was given, and from what reaches a kernel's output; never from the formula."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from nsa.kernels.contract import SelectAttention
from nsa.kernels.core import CMP, EVERY_PART, SEL, WIN, Core, Sizes
from nsa.kernels.step import Lengths, StepParts, WindowKernel
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
    (B, G, _), (h, D, Dv) = block_indices.shape, sizes
    counted = torch.zeros(B, G, dtype=torch.float64, device=like.device)
    for b in range(B):  # one sequence at a time: a batch's caches would not fit twice
        token = block_indices[b][..., None] * block_size + torch.arange(block_size, device=like.device)
        token = token.flatten(1).long()  # [G, n*l']
        exists = (token >= 0) & (block_indices[b] >= 0).repeat_interleave(block_size, -1) & (token < seq_lens[b])
        q, k = like.new_ones(1, G, h, D), like.new_zeros(1, G, capacity, D)

        def first_head(v: torch.Tensor, b: int = b, q: torch.Tensor = q, k: torch.Tensor = k) -> torch.Tensor:
            return kernel(q, k, v, block_indices[b : b + 1], seq_lens[b : b + 1], block_size)[0, :, 0].double()

        counted[b] = _reached(first_head, token, exists, (1, G, capacity, Dv), like)
    return counted


def window_by_kernel(
    kernel: WindowKernel, lengths: Lengths, shape: NsaShape, capacity: int, like: torch.Tensor
) -> torch.Tensor:
    """Tokens that reach the output of the window branch, counted likewise: [B, G] float64.

    Args:
        kernel: what computes the branch.
        lengths: of the caches.
        shape: the layer's sizes.
        capacity: S_max of the caches.
        like: a tensor of the dtype and device to use.
    """
    B, G, Dv = len(lengths.seq_lens), shape.groups, shape.value_dim
    counted = torch.zeros(B, G, dtype=torch.float64, device=like.device)
    q = like.new_ones(1, G, shape.heads_per_group, shape.head_dim)
    k = like.new_zeros(1, G, capacity, shape.head_dim)
    for b, S in enumerate(lengths.seq_lens.tolist()):
        own = Lengths(lengths.seq_lens[b : b + 1], lengths.longest, True)

        def first_head(v: torch.Tensor, own: Lengths = own) -> torch.Tensor:
            return kernel(q, k, v, own, shape.window)[0, :, 0].double()

        token = torch.arange(max(0, S - shape.window), S, device=like.device).expand(G, -1)
        counted[b] = _reached(first_head, token, token < S, (1, G, capacity, Dv), like)
    return counted


def read_by_core(
    core: Core, seq_lens: torch.Tensor, shape: NsaShape, capacities: tuple[int, int], like: torch.Tensor
) -> torch.Tensor:
    """Tokens that reach a core's output, counted likewise, one cache at a time: [3, B, G] float64, by CMP, SEL, WIN.

    All parts run; the other two caches hold zeros as values, and all gates are 1. The blocks are those that the core
    chooses among equal ones.

    Args:
        core: the core under test.
        seq_lens: [B] int32.
        shape: the layer's sizes.
        capacities: of the caches, in tokens and in compressed tokens.
        like: a tensor of the dtype and device to use.
    """
    (S_max, M_max), G, D, Dv = capacities, shape.groups, shape.head_dim, shape.value_dim
    counted = torch.zeros(3, len(seq_lens), G, dtype=torch.float64, device=like.device)
    q, gates = (like.new_ones(1, G, shape.heads_per_group, width) for width in (D, 3))
    k, k_cmp = like.new_zeros(1, G, S_max, D), like.new_zeros(1, G, M_max, D)
    zeros, zeros_cmp = like.new_zeros(1, G, S_max, Dv), like.new_zeros(1, G, M_max, Dv)
    blocks = torch.empty(1, G, shape.sel_count, dtype=torch.int32, device=like.device)
    for b, S in enumerate(seq_lens.tolist()):

        def first_head(values: torch.Tensor, branch: int, b: int = b) -> torch.Tensor:
            v = [values if each == branch else zeros for each in (CMP, SEL, WIN)]
            v_cmp = values if branch == CMP else zeros_cmp
            caches = ((k, k, k), (zeros, *v[1:]), k_cmp, v_cmp)
            o = core(q, gates, *caches, seq_lens[b : b + 1], Sizes.of(shape), EVERY_PART, blocks)
            return o[0, :, 0].double()

        first_head(zeros, SEL)  # writes the blocks
        selected = blocks[0, :, :, None] * shape.sel_block + torch.arange(shape.sel_block, device=like.device)
        named = {
            CMP: torch.arange(shape.num_compressed(S), device=like.device).expand(G, -1),
            SEL: torch.where(blocks[0, :, :, None] >= 0, selected, S_max).flatten(1).long(),
            WIN: torch.arange(max(0, S - shape.window), S, device=like.device).expand(G, -1),
        }
        for branch, token in named.items():
            size = (1, G, M_max if branch == CMP else S_max, Dv)
            counted[branch, b] = _reached(partial(first_head, branch=branch), token, token < S, size, like)
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


def _reached(
    first_head: Callable[[torch.Tensor], torch.Tensor],
    token: torch.Tensor,
    exists: torch.Tensor,
    size: tuple[int, ...],
    like: torch.Tensor,
) -> torch.Tensor:
    """How many of a sequence's tokens reach an output: [G] float64.

    Args:
        first_head: the output [G, Dv] of the first head of each group, for values of a size.
        token: [G, T], the tokens that are to be read, each at a place of its own.
        exists: [G, T], whether there is a token at the place.
        size: (1, G, capacity, Dv), of the values.
        like: a tensor of the dtype and device to use.
    """
    Dv = size[-1]
    group, place = exists.nonzero(as_tuple=True)
    where = token[group, place]
    v = like.new_full(size, FOREIGN)
    v[0, group, where] = 0
    foreign = first_head(v)[:, 0]  # [G]
    weights = [foreign.new_zeros(len(foreign), 1)]
    for start in range(0, token.shape[1], Dv):
        now = (place >= start) & (place < start + Dv)
        v = like.new_zeros(size)
        v[0, group[now], where[now], place[now] - start] = 1
        weights.append(first_head(v))
    return _count(torch.cat(weights, -1), foreign, exists.sum(-1))


def _count(weights: torch.Tensor, foreign: torch.Tensor, named: torch.Tensor) -> torch.Tensor:
    """Tokens behind the weights [..., tokens] of the named tokens and the sum [...] over foreign ones."""
    single = weights.where(weights > 0, torch.inf).min(-1, keepdim=True).values
    own = torch.where(weights > 0, (weights / single).round(), 0).sum(-1)
    strangers = (foreign * named / (FOREIGN - foreign)).round()
    return own + torch.where(foreign > 0, strangers.clamp(min=1), 0)
