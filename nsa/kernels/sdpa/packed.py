"""Packed SDPA: the selected blocks packed into one contiguous sequence a row, then PyTorch's fused attention.

Each way of packing is a variant; the kernel check lets all of them compete and compares with the fastest. They differ
in what they copy (tokens or whole blocks) and in how tokens that a row does not have are kept out (a mask or a length).
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from nsa.errors import InputError
from nsa.kernels import varlen
from nsa.kernels.contract import SelectAttention, check_inputs, nothing_selected
from nsa.kernels.precision import without_autocast

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
    if (zeros := nothing_selected(q, k, v, block_indices)) is not None:
        return zeros
    token, inside = _tokens(block_indices, seq_lens, block_size, k.shape[2])

    def pack(cache: torch.Tensor) -> torch.Tensor:
        words = _words(cache)
        return words.gather(2, token[..., None].expand(-1, -1, -1, words.shape[-1])).view(cache.dtype)

    return _attend(q, pack(k), pack(v), inside)


def index_select(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    block_indices: torch.Tensor,
    seq_lens: torch.Tensor,
    block_size: int,
) -> torch.Tensor:
    """Copy token by token with index_select on the tokens of all rows, mask. See contract.SelectAttention.

    Raises:
        InputError: k or v is not contiguous.
    """
    check_inputs(q, k, v, block_indices, seq_lens, block_size)
    B, G, S_max, _ = k.shape
    if not (k.is_contiguous() and v.is_contiguous()):
        raise InputError(f"k, v: got strides {k.stride()} and {v.stride()}; expected contiguous caches")
    if (zeros := nothing_selected(q, k, v, block_indices)) is not None:
        return zeros
    token, inside = _tokens(block_indices, seq_lens, block_size, S_max)
    row = torch.arange(0, B * G * S_max, S_max, device=q.device).view(B, G, 1)
    index = (token + row).flatten()

    def pack(cache: torch.Tensor) -> torch.Tensor:
        X = cache.shape[-1]
        return cache.view(-1, X).index_select(0, index).view(B, G, -1, X)

    return _attend(q, pack(k), pack(v), inside)


def _tokens(
    block_indices: torch.Tensor, seq_lens: torch.Tensor, block_size: int, S_max: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens of each row [B, G, n*l'] int64, and which of them it has, the first ones.

    In the place of the others stands its first token again: all that is copied is finite where what is selected is. A
    mask alone would not do, for NaN + -inf and NaN times 0 are NaN. A row without a token gets any that is there.
    """
    offset = torch.arange(block_size, device=seq_lens.device)
    block = varlen.beyond_when_padded(block_indices, block_size)
    token = torch.add(offset, block[..., None], alpha=block_size).flatten(2)
    inside = token < seq_lens[:, None, None]
    return torch.where(inside, token, token[..., :1].clamp(max=S_max - 1)), inside


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


@without_autocast
def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Attention of q [B, G, h, D] over the tokens of packed k, v [B, G, n*l', ...] that are inside [B, G, n*l'].

    The mask is added, in q's dtype, as the kernels want it: SDPA would make that of a boolean mask, in more launches.
    """
    B, G, tokens = inside.shape
    mask = torch.log(inside[:, :, None], out=q.new_empty(B, G, 1, tokens))  # 0 and -inf, in one launch
    o = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return torch.where(inside[:, :, :1, None], o, 0)  # a row without a token; its first one is inside otherwise


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
