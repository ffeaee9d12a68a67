"""Corner cases of lengths, of blocks that are not there, and of what lies where nobody may read."""

from __future__ import annotations

import torch

from nsa.bench.check.corners.draw import Draw, Drawn

NEWEST = 16  # times an ordinary value: what the newest token's is, so that it shows in any output


def infinity_beyond(draw: Draw) -> list[Drawn]:
    """Infinity in place of NaN at and beyond the lengths."""
    drawn = draw.ragged()
    k, v = (torch.where(cache.isnan(), torch.inf, cache) for cache in (drawn.call.k, drawn.call.v))
    return [drawn.changed(k=k, v=v)]


def poison_between(draw: Draw) -> list[Drawn]:
    """NaN and infinity in the blocks that are not selected; the first, the current and the one before it are.

    The packed variants copy masked tokens of those three blocks in the place of padding, and routing selects them.
    """
    block, n = draw.base.sel_block, max(4, draw.base.sel_count)
    least = 2 * block + 1
    lengths = [draw.base.context, *(draw.random.randint(least, draw.base.context - 1) for _ in range(2))]
    drawn = draw.of_lengths(lengths, sel_count=n)
    call = drawn.call
    B, G, _ = call.block_indices.shape
    blocks = -(-call.k.shape[2] // block)
    index = torch.arange(blocks, device=draw.device)
    current = ((call.seq_lens - 1) // block)[:, None, None]
    forced = (index == 0) | (index == current) | (index == current - 1)
    rank = torch.rand(B, G, blocks, generator=draw.generator, device=draw.device) + 2 * forced
    rank = torch.where(index <= current, rank, -1.0)
    best = rank.topk(min(n, blocks), dim=-1)
    indices = torch.where(best.values >= 0, best.indices, blocks).sort(-1).values
    indices = torch.where(indices < blocks, indices, -1).int()
    indices = torch.nn.functional.pad(indices, (0, n - indices.shape[-1]), value=-1)
    token = torch.arange(call.k.shape[2], device=draw.device) // block
    selected = (indices[..., None] == token).any(2)[..., None]  # [B, G, S, 1]
    k = torch.where(selected, call.k, torch.nan)
    v = torch.where(selected, call.v, torch.where(token[:, None] % 2 == 0, torch.nan, torch.inf).to(call.v.dtype))
    return [drawn.changed(k=k, v=v, block_indices=indices)]


def no_blocks(draw: Draw) -> list[Drawn]:
    """No row has a block: all of the output is zero."""
    drawn = draw.ragged()
    return [drawn.changed(block_indices=torch.full_like(drawn.call.block_indices, -1))]


def single_tokens(draw: Draw) -> list[Drawn]:
    """Every sequence has one token."""
    return [draw.of_lengths([1, 1, 1])]


def unlike_lengths(draw: Draw) -> list[Drawn]:
    """A sequence of one token, one without any, one of a few blocks; the longest comes last."""
    few = draw.random.randint(draw.base.sel_block // 2, 3 * draw.base.sel_block)
    return [draw.of_lengths([1, 0, few, draw.base.context])]


def borders_of_blocks(draw: Draw) -> list[Drawn]:
    """Lengths one token below, at and above a few borders, of blocks and of what is read at once; the longest first."""
    block, n, S = draw.base.sel_block, draw.base.sel_count, draw.base.context
    near = {each + by for each in (8, 16, 32, block, 2 * block, n * block) for by in (-1, 0, 1)}
    return [draw.of_lengths([S, *sorted(each for each in near if each < S)])]


def one_token_in_the_last_block(draw: Draw) -> list[Drawn]:
    """Every sequence ends with a block of one token, which decides."""
    whole = (draw.base.context - 1) // draw.base.sel_block
    blocks = [whole, *(draw.random.randint(min(2, whole), whole) for _ in range(2))]
    drawn = draw.of_lengths([each * draw.base.sel_block + 1 for each in blocks])
    v = drawn.call.v.clone()
    v[torch.arange(3, device=draw.device), :, drawn.call.seq_lens.long() - 1] *= NEWEST
    return [drawn.changed(v=v)]
