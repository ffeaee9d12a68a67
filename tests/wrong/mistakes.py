"""Mistakes that layers are made of, each in the place of one function of nsa.attention.

A mistake in a method gets the right method first, and then its arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from nsa.attention import prefill, rope, routing
from nsa.attention.cache import CMP, WIN, KVCache
from nsa.attention.layer import NsaAttention
from nsa.attention.parts import TorchParts
from nsa.kernels.sdpa.packed import gather
from nsa.shapes import NsaShape

# As they are before a test replaces them
CHOICE, IMPORTANCE, FILL = routing.select_blocks, routing.block_importance, prefill.fill

# The branches


def moved_window(before: int, after: int) -> Callable[..., Any]:
    """A window that starts and ends so many tokens earlier."""

    def wrong(right: Callable[..., Any], layer: NsaAttention, cache: KVCache) -> Any:
        keys, _ = right(layer, cache)
        stop, width = cache.max_length, keys.keys.shape[2]
        tokens = slice(stop - width - before, stop - after)
        return keys._replace(keys=cache.k[WIN][:, :, tokens]), cache.v[WIN][:, :, tokens]

    return wrong


def one_compressed_token_more(
    right: Callable[..., Any], parts: TorchParts, q: Any, k: torch.Tensor, v: torch.Tensor, *rest: Any
) -> Any:
    """It sees the block that is not complete yet, where the caches have room for it."""
    shape = (*k.shape[:2], k.shape[2] + 1, k.shape[3])
    if k.stride(1) >= shape[2] * shape[3]:
        k, v = k.as_strided(shape, k.stride()), v.as_strided((*shape[:3], v.shape[3]), v.stride())
    return right(parts, q, k, v, *rest)


def sees_one_beyond(q: Any, k: Any, v: Any, block_indices: Any, seq_lens: torch.Tensor, block_size: int) -> Any:
    return gather(q, k, v, block_indices, seq_lens + 1, block_size)


# Routing


def worst_first(*arguments: Any) -> torch.Tensor:
    """Importance upside down: the least important blocks are chosen."""
    scores = IMPORTANCE(*arguments)
    return scores.amax(-1, keepdim=True) - scores


def by_other_probabilities(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., Any]:
    """Routing by other probabilities [B, G, h, M] than the compressed branch's own."""

    def wrong(right: Callable[..., Any], parts: TorchParts, kept: Any, *rest: Any) -> Any:
        return right(parts, kept and (change(kept[0]),), *rest)

    return wrong


def minus_signs(p_cmp: torch.Tensor, num_blocks: int, shape: NsaShape) -> torch.Tensor:
    """Eq. 9 as printed in early versions: p[l'/d j - m - n] in the place of p[l'/d j + m + n]."""
    cover, cells = shape.cmp_block // shape.cmp_stride, shape.sel_block // shape.cmp_stride
    padded = F.pad(p_cmp, (cells + cover, num_blocks * cells))
    place = torch.arange(num_blocks) * cells + cells + cover
    return sum(padded[..., place - m - n] for m in range(cells) for n in range(cover)) / cover


def without_forced(scores: torch.Tensor, seq_lens: torch.Tensor, sel_block: int, sel_count: int) -> torch.Tensor:
    """The best by score alone; equal scores: the lower index."""
    count = scores.shape[-1]
    exists = torch.arange(count) * sel_block < seq_lens[..., None]
    order = scores.masked_fill(~exists, -1).sort(dim=-1, descending=True, stable=True)
    index = torch.where(order.values >= 0, order.indices, count)[..., :sel_count].sort(-1).values
    return F.pad(torch.where(index < count, index, -1).int(), (0, sel_count - index.shape[-1]), value=-1)


def ties_upwards(scores: torch.Tensor, seq_lens: torch.Tensor, sel_block: int, sel_count: int) -> torch.Tensor:
    """Of equal scores the higher index, by the next larger float: right wherever no two are equal."""
    block = torch.arange(scores.shape[-1])
    equal = (scores[..., None] == scores[..., None, :]) & (block[:, None] > block)  # how many equal ones are lower
    bits = scores.contiguous().view(torch.int32) + equal.sum(-1, dtype=torch.int32)
    return CHOICE(bits.view(torch.float32), seq_lens, sel_block, sel_count)


def last_blocks(*arguments: Any) -> torch.Tensor:
    """A sliding window of blocks in the place of routing."""
    _, seq_lens, _, shape = arguments
    current = (seq_lens - 1) // shape.sel_block
    first = (current - shape.sel_count + 1)[..., None]
    return (first + torch.arange(shape.sel_count)).int()


# Positions and caches


def flat_rope(right: Callable[..., Any], layer: NsaAttention, x: Any, cos: torch.Tensor, sin: torch.Tensor) -> Any:
    """RoPE over the flat H*D vector of the query: i turns with i + H*D/2, and slower from head to head."""
    projected = right(layer, x, cos, sin)
    width = layer.shape.heads * layer.shape.head_dim
    flat = F.linear(x, layer.qkv.weight[:width])
    at = torch.atan2(sin[..., -1], cos[..., -1])  # the slowest angle, from which the position follows
    speed = rope.BASE ** (-(layer.shape.head_dim - 2) / layer.shape.head_dim)
    position = (at / speed).round()
    angle = position[..., None] * rope.BASE ** (-torch.arange(0, width, 2) / width)
    cos, sin = torch.cat((angle.cos(), angle.cos()), -1), torch.cat((-angle.sin(), angle.sin()), -1)
    return projected._replace(q=rope.rotate(flat, cos, sin).view_as(projected.q))


def dealt_out(right: Callable[..., Any], layer: NsaAttention, *arguments: Any) -> Any:
    """Head i belongs to group i modulo G."""
    projected = right(layer, *arguments)
    dealt = projected.q.flatten(-3, -2).unflatten(-2, (-1, layer.shape.groups)).transpose(-3, -2)
    return projected._replace(q=dealt)


def turned_values(right: Callable[..., Any], layer: NsaAttention, x: Any, cos: torch.Tensor, sin: torch.Tensor) -> Any:
    projected = right(layer, x, cos, sin)
    return projected._replace(v=rope.rotate(projected.v, cos[..., None, None, :], sin[..., None, None, :]))


def one_further(right: Callable[..., Any], layer: NsaAttention, cache: KVCache, position: Any) -> Any:
    """Angles of the next position, in prefill and in the step alike: no output changes."""
    if isinstance(position, slice):
        position = slice(position.start + 1, position.stop + 1)
        return right(layer, cache, position)
    return right(layer, cache, position + 1)


def one_further_in_the_step(right: Callable[..., Any], layer: NsaAttention, cache: KVCache, position: Any) -> Any:
    return right(layer, cache, position if isinstance(position, slice) else position + 1)


def appends_beside(right: Callable[..., Any], cache: KVCache, k: torch.Tensor, v: torch.Tensor) -> None:
    """The token lands at t + 1."""
    t = cache.lengths[0]
    cache.k[:, :, :, t], cache.v[:, :, :, t] = k.transpose(0, 1), v.transpose(0, 1)


def one_branch_for_all(right: Callable[..., Any], cache: KVCache, k: torch.Tensor, v: torch.Tensor) -> None:
    """The keys of the compressed branch are stored for all three."""
    right(cache, k[:, [CMP, CMP, CMP]], v)


def host_length_only(right: Callable[..., Any], cache: KVCache) -> None:
    """The length on the device stays behind."""
    seq_lens = cache.seq_lens.clone()
    right(cache)
    cache.seq_lens.copy_(seq_lens)


def shifted_block(right: Callable[..., Any], layer: NsaAttention, cache: KVCache) -> None:
    """The compressed token is of the tokens before: the newest is left out."""
    S, shape = cache.lengths[0], layer.shape
    if shape.emits(S):
        block, place = slice(S - shape.cmp_block - 1, S - 1), shape.num_compressed(S) - 1
        cache.k_cmp[:, :, place] = layer.compress_k(cache.k[CMP, :, :, block])
        cache.v_cmp[:, :, place] = layer.compress_v(cache.v[CMP, :, :, block])


def unroped(layer: NsaAttention, cache: KVCache, first: int, stop: int) -> None:
    """The compressed keys from `first` on, of keys that are turned back."""
    shape, S = layer.shape, cache.lengths[0]
    cos, sin = layer.angles(cache, slice(0, S))
    k = rope.rotate(cache.k[CMP, :, :, :S], cos, -sin)
    for i in range(first, stop):
        cache.k_cmp[:, :, i] = layer.compress_k(k[:, :, i * shape.cmp_stride : i * shape.cmp_stride + shape.cmp_block])


def filled_unroped(layer: NsaAttention, x: torch.Tensor, cache: KVCache) -> None:
    FILL(layer, x, cache)
    unroped(layer, cache, 0, layer.shape.num_compressed(cache.lengths[0]))


def emits_unroped(right: Callable[..., Any], layer: NsaAttention, cache: KVCache) -> None:
    right(layer, cache)
    if layer.shape.emits(cache.lengths[0]):
        M = layer.shape.num_compressed(cache.lengths[0])
        unroped(layer, cache, M - 1, M)


def never_compressed(layer: NsaAttention, x: torch.Tensor, cache: KVCache) -> None:
    FILL(layer, x, cache)
    cache.k_cmp.zero_()
    cache.v_cmp.zero_()


def starts_late(layer: NsaAttention, x: torch.Tensor, cache: KVCache) -> None:
    """Compressed tokens of the tokens d*i + 1 to d*i + l."""
    FILL(layer, x, cache)
    shape, S = layer.shape, cache.lengths[0]
    for i in range(shape.num_compressed(S - 1)):
        block = slice(i * shape.cmp_stride + 1, i * shape.cmp_stride + 1 + shape.cmp_block)
        cache.k_cmp[:, :, i] = layer.compress_k(cache.k[CMP, :, :, block])
        cache.v_cmp[:, :, i] = layer.compress_v(cache.v[CMP, :, :, block])
