"""Packed SDPA: the selected blocks packed into one contiguous sequence a row, then PyTorch's fused attention.

Each way of packing is a variant; the kernel check lets all of them compete and compares with the fastest. They differ
in what they copy (tokens or whole blocks) and in how tokens beyond a length are kept out (a mask or a length).
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from nsa.errors import InputError
from nsa.kernels import varlen
from nsa.kernels.contract import SelectAttention, check_inputs

WORDS = (torch.complex128, torch.int64, torch.int32)  # 16, 8 and 4 bytes


def gather(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    block_indices: torch.Tensor,
    seq_lens: torch.Tensor,
    block_size: int,
) -> torch.Tensor:
    """Copy token by token with torch.gather, mask; any strides, stride 0 included. See contract.SelectAttention."""
    check_inputs(q, k, v, block_indices, seq_lens, block_size)
    offset = torch.arange(block_size, device=q.device)
    block = varlen.beyond_when_padded(block_indices, block_size)
    token = torch.add(offset, block[..., None], alpha=block_size).flatten(2)  # [B, G, n*l'] int64
    outside = token >= seq_lens[:, None, None]
    token.masked_fill_(outside, 0)  # token 0 is copied instead: it is real wherever a row has tokens at all

    def pack(cache: torch.Tensor) -> torch.Tensor:
        words = _words(cache)
        return words.gather(2, token[..., None].expand(-1, -1, -1, words.shape[-1])).view(cache.dtype)

    return _attend(q, pack(k), pack(v), outside, empty=outside[..., 0])


def index_select(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    block_indices: torch.Tensor,
    seq_lens: torch.Tensor,
    block_size: int,
) -> torch.Tensor:
    """Copy whole blocks with index_select, mask. See contract.SelectAttention.

    A block that crosses seq_lens is copied as the window of l' tokens that ends there, so that nothing beyond is: no
    pass over K and V clears them afterwards. Padding copies such a window too, and is masked. A sequence shorter than a
    block has no such window, but has one block only, which `gather` attends to apart.

    Raises:
        InputError: k or v is not contiguous, or holds less than one block.
    """
    check_inputs(q, k, v, block_indices, seq_lens, block_size)
    B, G, S_max, _ = k.shape
    if S_max < block_size or not (k.is_contiguous() and v.is_contiguous()):
        raise InputError(
            f"k, v: got capacity {S_max}, strides {k.stride()} and {v.stride()}; expected contiguous caches of at "
            f"least block_size = {block_size} tokens"
        )
    start = varlen.beyond_when_padded(block_indices, block_size) * block_size  # [B, G, n]
    last = (seq_lens - block_size).clamp_(min=0)
    window = torch.minimum(start, last[:, None, None])  # [B, G, n], the window's first token
    row = torch.arange(0, B * G * S_max, S_max, device=q.device).view(B, G, 1)
    index = (window + row).flatten()
    offset = torch.arange(block_size, dtype=torch.int32, device=q.device)
    outside = offset < (start - window)[..., None]  # [B, G, n, l']

    def pack(cache: torch.Tensor) -> torch.Tensor:
        X = cache.shape[-1]
        windows = cache.as_strided((B * G * S_max - block_size + 1, block_size * X), (X, 1))  # one at each token
        return windows.index_select(0, index).view(B, G, -1, X)

    o = _attend(q, pack(k), pack(v), outside.flatten(2), empty=outside[..., 0, -1])
    short = gather(q, k, v, block_indices[..., :1], seq_lens, block_size)
    return torch.where((seq_lens < block_size)[:, None, None, None], short, o)


def blocks(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    block_indices: torch.Tensor,
    seq_lens: torch.Tensor,
    block_size: int,
) -> torch.Tensor:
    """Copy whole blocks; SDPA's memory-efficient kernel, given lengths and no mask. See contract.SelectAttention.

    The kernel is called as PyTorch's own nested-tensor SDPA calls it: scaled_dot_product_attention takes no lengths.
    It takes what FlashAttention refuses, float32, and D ≠ Dv without padding.

    Raises:
        InputError: not on CUDA, or see varlen.packing_refusal.
    """
    if not q.is_cuda:
        raise InputError(f"q: on {q.device}, expected a CUDA device: the memory-efficient kernel has no other")
    return varlen.select(_memory_efficient, q, k, v, block_indices, seq_lens, block_size)


def _memory_efficient(packed: varlen.Packed) -> torch.Tensor:
    """Attention [N*h, 1, Dv] by aten's memory-efficient kernel, which divides zero by zero where there is no token."""
    cu_q, cu_k = varlen.boundaries(packed)
    q, k, v = packed.q[None], packed.k[None], packed.v[None]
    forward = torch.ops.aten._efficient_attention_forward
    o = forward(q, k, v, None, cu_q, cu_k, packed.heads, packed.tokens, 0.0, 0)[0]  # [1, N*h, 1, Dv]
    return o.view(len(packed.lengths), -1).masked_fill_((packed.lengths == 0)[:, None], 0)


def _attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, outside: torch.Tensor, empty: torch.Tensor
) -> torch.Tensor:
    """Attention of q [B, G, h, D] over packed k, v [B, G, n*l', ...] but for outside [B, G, n*l']; empty [B, G]: zero.

    The mask is added, in q's dtype, as the kernels want it: SDPA would make that of a boolean mask, in more launches.
    """
    B, G, tokens = outside.shape
    mask = q.new_zeros(B, G, 1, tokens).masked_fill_(outside[:, :, None], -torch.inf)
    o = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return o.masked_fill_(empty[..., None, None], 0)


def _words(cache: torch.Tensor) -> torch.Tensor:
    """The cache viewed as the widest words that its sizes and strides allow: a copy moves words, not numbers."""
    for word in WORDS:
        numbers = word.itemsize // cache.itemsize
        places = (cache.shape[-1], cache.storage_offset(), *cache.stride()[:-1])
        if numbers > 1 and cache.stride(-1) == 1 and all(place % numbers == 0 for place in places):
            return cache.view(word)
    return cache


VARIANTS: dict[str, SelectAttention] = {"gather": gather, "index_select": index_select}  # on every device
CUDA_VARIANTS: dict[str, SelectAttention] = {"blocks": blocks, "varlen": varlen.flash}
