"""FlashAttention-2 by the flash_attn package: blocks packed, then its decode kernel, which splits long rows.

Its paged caches would spare the copy, but a page holds a multiple of 256 tokens, and a selection block 16 to 128.
"""

from __future__ import annotations

import importlib

import torch

from nsa.errors import InputError
from nsa.kernels import varlen

flash_attn = importlib.import_module("flash_attn")  # untyped, and not installed where types are checked


def select_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    block_indices: torch.Tensor,
    seq_lens: torch.Tensor,
    block_size: int,
) -> torch.Tensor:
    """Pack whole blocks, then flash_attn_with_kvcache with their lengths. See contract.SelectAttention.

    Raises:
        InputError: see varlen.flash_refusal and varlen.packing_refusal.
    """
    if reason := varlen.flash_refusal(q, v):
        raise InputError(reason)
    return varlen.select(attend, q, k, v, block_indices, seq_lens, block_size)


def attend(packed: varlen.Packed) -> torch.Tensor:
    """Attention [N·h, 1, Dv] of one query with h heads a row, over one KV head; no token gives zeros."""
    q, k, v = varlen.one_width(packed)
    N, D, width = len(packed.lengths), packed.q.shape[-1], q.shape[-1]
    q = q.view(N, 1, packed.heads, width)
    k, v = (tensor.view(N, packed.tokens, 1, width) for tensor in (k, v))
    o: torch.Tensor = flash_attn.flash_attn_with_kvcache(
        q, k, v, cache_seqlens=packed.lengths, softmax_scale=D**-0.5
    )  # [N, 1, h, width]
    return o.reshape(N * packed.heads, 1, width)[..., : packed.v.shape[-1]]
