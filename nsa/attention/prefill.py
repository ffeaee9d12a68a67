"""Prefill: many tokens at once, in chunks, so that memory grows with S and not with its square."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nsa.attention.branches import compressed_attention, gated_sum, window_attention
from nsa.attention.cache import CMP, SEL, WIN, KVCache
from nsa.attention.layer import NsaAttention
from nsa.attention.routing import route
from nsa.errors import InputError
from nsa.kernels.contract import SelectAttention
from nsa.kernels.precision import without_autocast

CHUNK_BYTES = 1 << 28  # what one chunk of queries may hold in scores and gathered keys


@torch.no_grad()
@without_autocast
def fill(layer: NsaAttention, x: torch.Tensor, cache: KVCache) -> None:
    """Append T tokens to every cache without computing outputs: x [B, T, dim], sequences of one length.

    Raises:
        InputError: the sequences differ in length.
        CapacityError: the tokens do not fit.
    """
    if not cache.uniform:
        raise InputError(f"cache.lengths: got {list(cache.lengths)}, expected one length for all in prefill")
    shape, start = layer.shape, cache.lengths[0]
    stop = start + x.shape[1]
    cache.require_room((stop,))
    _, k, v, _ = layer.project(x, *layer.angles(cache, slice(start, stop)))
    cache.write_chunk(k, v)
    old, new = shape.num_compressed(start), shape.num_compressed(stop)
    if new > old:
        tokens = slice(old * shape.cmp_stride, (new - 1) * shape.cmp_stride + shape.cmp_block)
        for source, target, phi in (
            (cache.k, cache.k_cmp, layer.compress_k),
            (cache.v, cache.v_cmp, layer.compress_v),
        ):
            blocks = source[CMP, :, :, tokens].unfold(2, shape.cmp_block, shape.cmp_stride)  # [B, G, new, D, l]
            target[:, :, old:new] = phi(blocks.transpose(-1, -2))
    cache.set_lengths((stop,) * cache.batch)


@torch.no_grad()
@without_autocast
def prefill(
    layer: NsaAttention,
    x: torch.Tensor,
    cache: KVCache,
    select: SelectAttention,
    lengths: Sequence[int] | None = None,
) -> torch.Tensor:
    """Append T tokens and attend from each: x [B, T, dim] -> outputs [B, T, dim], equal to T decode steps.

    `lengths` makes the batch ragged afterwards (right-padded x): sequence b then holds lengths[b] tokens.
    """
    start = cache.lengths[0]
    fill(layer, x, cache)
    chunk = chunk_tokens(layer, cache)
    output = torch.empty_like(x)
    for b in range(cache.batch):
        for first in range(0, x.shape[1], chunk):
            rows = slice(first, min(first + chunk, x.shape[1]))
            output[b, rows] = _attend(layer, x[b, rows], cache, b, start + first, select)
    if lengths is not None:
        cache.set_lengths(lengths)
    return output


def chunk_tokens(layer: NsaAttention, cache: KVCache) -> int:
    """Query tokens per chunk: float32 scores over the compressed tokens, gathered blocks, window scores."""
    shape = layer.shape
    scores = 3 * 4 * shape.heads * (cache.k_cmp.shape[2] + 2 * shape.window)
    gathered = 3 * 4 * shape.groups * shape.sel_count * shape.sel_block * (shape.head_dim + shape.value_dim)
    return max(1, min(1024, CHUNK_BYTES // (scores + gathered)))


def _attend(
    layer: NsaAttention, x: torch.Tensor, cache: KVCache, b: int, start: int, select: SelectAttention
) -> torch.Tensor:
    """Outputs [C, dim] of C consecutive tokens of sequence b, whose keys and values are in the caches already."""
    shape, h, device = layer.shape, layer.shape.heads_per_group, x.device
    C, stop = x.shape[0], start + x.shape[0]
    q, _, _, hidden = layer.project(x, *layer.angles(cache, slice(start, stop)))  # [C, G, h, D]
    seq_lens = torch.arange(start + 1, stop + 1, dtype=torch.int32, device=device)  # [C]
    rows = q.transpose(0, 1).flatten(1, 2)[None]  # [1, G, C*h, D]

    def per_token(o: torch.Tensor) -> torch.Tensor:  # [1, G, C*h, X] -> [C, G, h, X]
        return o[0].unflatten(1, (C, h)).transpose(0, 1)

    def per_row(mask: torch.Tensor) -> torch.Tensor:  # [C, M] -> [1, 1, C*h, M]
        return mask.repeat_interleave(h, 0)[None, None]

    outputs, p_group = {}, None
    if M := shape.num_compressed(stop):
        last = torch.arange(M, device=device) * shape.cmp_stride + shape.cmp_block
        mask = per_row(last <= seq_lens[:, None])
        o, p = compressed_attention(rows, cache.k_cmp[b, None, :, :M], cache.v_cmp[b, None, :, :M], mask)
        outputs[CMP], p_group = per_token(o), per_token(p).sum(2)  # [C, G, S_cmp]
    blocks = route(p_group, seq_lens[:, None].expand(C, shape.groups), stop, shape)  # [C, G, n]
    k, v = (tensor[SEL, b].expand(C, -1, -1, -1) for tensor in (cache.k, cache.v))  # each token is a row of its own
    outputs[SEL] = select(q, k, v, blocks, seq_lens, shape.sel_block)
    left = max(0, start + 1 - shape.window)
    token = torch.arange(left, stop, device=device)
    mask = per_row((token < seq_lens[:, None]) & (token >= seq_lens[:, None] - shape.window))
    k, v = (tensor[WIN, b, None, :, left:stop] for tensor in (cache.k, cache.v))
    outputs[WIN] = per_token(window_attention(rows, k, v, mask))

    total = gated_sum(layer.gates(hidden), outputs)
    assert total is not None
    return layer.out(total.flatten(1))
