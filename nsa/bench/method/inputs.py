"""Inputs for one call of a selection kernel: random, ragged, padded and poisoned, or as a benchmark times them."""

from __future__ import annotations

from typing import NamedTuple

import torch

from nsa.records.shapes import CheckShape


class Call(NamedTuple):
    """The arguments of SelectAttention, in its order."""

    q: torch.Tensor  # [B, G, h, D]
    k: torch.Tensor  # [B, G, S_max, D]
    v: torch.Tensor  # [B, G, S_max, Dv]
    block_indices: torch.Tensor  # [B, G, n] int32
    seq_lens: torch.Tensor  # [B] int32
    block_size: int


def full_case(shape: CheckShape, seed: int, device: torch.device) -> Call:
    """Every sequence at the full context and every row with n blocks, the current one among them: what is timed."""
    B, lengths = shape.rows // shape.groups, torch.full((shape.rows // shape.groups,), shape.context)
    generator = torch.Generator(device).manual_seed(seed)
    seq_lens = lengths.to(device, torch.int32)
    count = torch.full((B, shape.groups), shape.sel_count, device=device)
    return draw_call(shape, seq_lens, count, generator)


def ragged_case(shape: CheckShape, seed: int, device: torch.device) -> Call:
    """Ragged lengths (0, 1, partial and full blocks among them), rows with few or no blocks, NaN beyond the lengths."""
    B, edge, S = shape.rows // shape.groups, shape.sel_block, shape.context
    generator = torch.Generator(device).manual_seed(seed)
    seq_lens = torch.randint(1, S + 1, (B,), generator=generator, device=device, dtype=torch.int32)
    edges = torch.tensor([S, 0, 1, edge, edge + 1, S - 1][: max(1, B // 2)], dtype=torch.int32, device=device)
    seq_lens[: len(edges)] = edges.clamp(max=S)
    count = torch.randint(0, shape.sel_count + 1, (B, shape.groups), generator=generator, device=device)
    count[:, 0] = shape.sel_count  # at least one full row a sequence
    return draw_call(shape, seq_lens, count, generator)


def draw_call(shape: CheckShape, seq_lens: torch.Tensor, count: torch.Tensor, generator: torch.Generator) -> Call:
    """Draw q, k, v with NaN beyond the lengths, and for each row `count` distinct blocks, the current one first.

    Args:
        shape: of all tensors; the caches hold whole blocks.
        seq_lens: [B] int32.
        count: [B, G], blocks of each row, as far as it has so many.
        generator: on the device of both.
    """
    B, G, S, device = len(seq_lens), shape.groups, shape.context, seq_lens.device
    dtype: torch.dtype = getattr(torch, shape.dtype)

    def draw(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, generator=generator, device=device, dtype=dtype)

    q = draw(B, G, shape.heads_per_group, shape.head_dim)
    blocks = -(-S // shape.sel_block)
    capacity = blocks * shape.sel_block
    k, v = draw(B, G, capacity, shape.head_dim), draw(B, G, capacity, shape.value_dim)
    beyond = (torch.arange(capacity, device=device) >= seq_lens[:, None])[:, None, :, None]  # [B, 1, S_max, 1]
    k.masked_fill_(beyond, torch.nan)
    v.masked_fill_(beyond, torch.nan)

    block = torch.arange(blocks, device=device)
    existing = -(-seq_lens // shape.sel_block)[:, None, None]  # [B, 1, 1]
    rank = torch.rand(B, G, blocks, generator=generator, device=device, dtype=torch.float32)
    rank = torch.where(block == existing - 1, 2.0, rank)  # the current block is always selected
    rank = torch.where(block < existing, rank, -1.0)
    best = rank.topk(min(shape.sel_count, blocks), dim=-1)
    place = torch.arange(best.indices.shape[-1], device=device)
    kept = (best.values >= 0) & (place < count[..., None])
    indices = torch.where(kept, best.indices, blocks).sort(-1).values  # absent ones last
    indices = torch.where(indices < blocks, indices, -1).int()
    indices = torch.nn.functional.pad(indices, (0, shape.sel_count - indices.shape[-1]), value=-1)
    return Call(q, k, v, indices, seq_lens, shape.sel_block)
