"""Corner cases of sizes, dtypes and strides: one each, so that the case that fails names what is wrong."""

from __future__ import annotations

from dataclasses import replace

import torch

from nsa.bench.check.corners.draw import Draw, Drawn
from nsa.bench.method.inputs import Call
from nsa.kernels.limits import HEAD_DIMS

ODD_COUNTS = (3, 5, 7, 9, 11, 13, 15)
NEAR = 3  # shapes near the grid
MORE_BLOCKS = 256  # than 2^15, of which those that are selected are drawn
PADDING = 8  # numbers that keep strides apart; kernels may ask for multiples of 16 bytes


def wider_values(draw: Draw) -> list[Drawn]:
    """D < Dv, both drawn."""
    D, Dv = sorted(draw.random.sample(HEAD_DIMS, 2))
    return [draw.ragged(head_dim=D, value_dim=Dv)]


def wider_keys(draw: Draw) -> list[Drawn]:
    """D > Dv, both drawn."""
    Dv, D = sorted(draw.random.sample(HEAD_DIMS, 2))
    return [draw.ragged(head_dim=D, value_dim=Dv)]


def near_the_grid(draw: Draw) -> list[Drawn]:
    """Sizes that no list has: they are drawn."""
    found, base = list[Drawn](), draw.base
    for _ in range(NEAR):
        context = draw.random.randint(base.context // 2, base.context)
        found.append(
            draw.ragged(
                batch=draw.random.choice((2, 4, 5, 6)),
                groups=draw.random.choice((3, 4, 6)),
                heads_per_group=draw.random.choice((2, 4, 6, 7, 8, 9, 12)),
                sel_count=draw.random.choice((4, 6, 8, 10, 12, 14, 16, 18, 20)),
                context=context,
            )
        )
    return found


def strided_queries(draw: Draw) -> list[Drawn]:
    """The heads of q lie apart."""
    drawn = draw.ragged()
    return [drawn.changed(q=_apart(drawn.call.q))]


def strided_tokens(draw: Draw) -> list[Drawn]:
    """The tokens of k and of v lie apart."""
    drawn = draw.ragged()
    return [drawn.changed(k=_apart(drawn.call.k), v=_apart(drawn.call.v))]


def strided_values(draw: Draw) -> list[Drawn]:
    """The tokens of v lie apart, those of k do not."""
    drawn = draw.ragged()
    return [drawn.changed(v=_apart(drawn.call.v))]


def tokens_before_groups(draw: Draw) -> list[Drawn]:
    """Caches of the layout [B, S, G, D]."""
    drawn = draw.ragged()

    def laid(cache: torch.Tensor) -> torch.Tensor:
        return cache.transpose(1, 2).contiguous().transpose(1, 2)

    return [drawn.changed(k=laid(drawn.call.k), v=laid(drawn.call.v))]


def _apart(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers, the vectors of the last dimension in wider rows of NaN."""
    wide = tensor.new_full((*tensor.shape[:-1], 2 * tensor.shape[-1] + PADDING), torch.nan)
    view = wide[..., PADDING : PADDING + tensor.shape[-1]]
    view.copy_(tensor)
    return view


def many_numbers(draw: Draw) -> list[Drawn]:
    """Caches of more than 2³¹ numbers each.

    On CUDA the first and the last sequence have blocks, the others none, and nothing else is written. On a CPU one
    token stands for all of its row (stride 0): the sizes are the same, and no memory is.
    """
    base = draw.base
    of_token = base.groups * base.head_dim
    if draw.device.type != "cuda":
        tokens = (2**31 // (2 * of_token * base.sel_block) + 1) * base.sel_block
        few = draw.full(2)
        k, v = (cache[:, :, :1].expand(-1, -1, tokens, -1) for cache in (few.call.k, few.call.v))
        long = few.changed(k=k, v=v, seq_lens=torch.full_like(few.call.seq_lens, tokens))
        return [replace(long, shape=draw.shape(2, context=tokens))]
    tokens = 1 << 15
    batch = 2**31 // (of_token * tokens) + 2
    shape = draw.shape(batch, context=tokens, value_dim=base.head_dim)
    some = draw.full(2, context=tokens, value_dim=base.head_dim)
    ends = torch.tensor([0, batch - 1], device=draw.device)
    B, G = batch, base.groups
    q = some.call.q[:1].repeat(B, 1, 1, 1)
    k, v = (cache.new_empty(B, G, tokens, base.head_dim) for cache in (some.call.k, some.call.v))
    indices = torch.full((B, G, base.sel_count), -1, dtype=torch.int32, device=draw.device)
    for whole, part in ((q, some.call.q), (k, some.call.k), (v, some.call.v), (indices, some.call.block_indices)):
        whole[ends] = part
    seq_lens = torch.full((B,), tokens, dtype=torch.int32, device=draw.device)
    return [Drawn(shape, Call(q, k, v, indices, seq_lens, base.sel_block))]


def many_blocks(draw: Draw) -> list[Drawn]:
    """Blocks of 32 beyond the 2¹⁵th: only what is selected is written.

    On a CPU the rows share their caches (stride 0), which are then small enough.
    """
    base, block, blocks = draw.base, 32, (1 << 15) + MORE_BLOCKS
    tokens = blocks * block
    few = draw.full(2, sel_block=block, context=4 * base.sel_count * block)
    n = base.sel_count
    start = draw.random.randrange(1, 1 << 14)
    chosen = [start, *sorted(draw.random.sample(range(1 << 15, blocks), n - 1))] if n > 1 else [blocks - 1]
    indices = torch.tensor(chosen, dtype=torch.int32, device=draw.device).expand(2, base.groups, n).contiguous()
    place = (indices[0, 0].long()[:, None] * block + torch.arange(block, device=draw.device)).flatten()
    shared = (1, 1) if draw.device.type != "cuda" else (2, base.groups)

    def cache(width: int) -> torch.Tensor:
        held = few.call.q.new_empty(*shared, tokens, width)
        held[:, :, place] = draw.normal(*shared, n * block, width).to(held.dtype)
        return held.expand(2, base.groups, -1, -1)

    k, v = cache(base.head_dim), cache(base.value_dim)
    seq_lens = torch.full((2,), tokens, dtype=torch.int32, device=draw.device)
    shape = draw.shape(2, sel_block=block, context=tokens)
    return [Drawn(shape, Call(few.call.q, k, v, indices, seq_lens, block))]
