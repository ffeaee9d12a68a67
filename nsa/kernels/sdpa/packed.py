"""Packed SDPA: the selected blocks packed into one contiguous sequence a row, then scaled_dot_product_attention.

Each way of packing is a variant; the kernel check lets all of them compete and compares with the fastest.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from nsa.errors import InputError
from nsa.kernels.contract import SelectAttention, check_inputs


def gather(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    block_indices: torch.Tensor,
    seq_lens: torch.Tensor,
    block_size: int,
) -> torch.Tensor:
    """Pack token by token with advanced indexing; any strides, stride 0 included. See contract.SelectAttention."""
    check_inputs(q, k, v, block_indices, seq_lens, block_size)
    B, G = q.shape[:2]
    token, valid = _tokens(block_indices, seq_lens, block_size)
    token = torch.where(valid, token, 0)  # token 0 stands in: it is real wherever a row has tokens at all
    sequence = torch.arange(B, device=q.device)[:, None, None]
    group = torch.arange(G, device=q.device)[:, None]
    return _attend(q, k[sequence, group, token], v[sequence, group, token], valid)


def index_select(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    block_indices: torch.Tensor,
    seq_lens: torch.Tensor,
    block_size: int,
) -> torch.Tensor:
    """Pack whole blocks with index_select, then clear what lies beyond seq_lens. See contract.SelectAttention.

    Raises:
        InputError: the capacity is not a multiple of the block, or k or v is not contiguous.
    """
    check_inputs(q, k, v, block_indices, seq_lens, block_size)
    B, G, S_max, _ = k.shape
    if S_max % block_size or not (k.is_contiguous() and v.is_contiguous()):
        raise InputError(
            f"k, v: got capacity {S_max}, strides {k.stride()} and {v.stride()}; expected contiguous caches and a "
            f"capacity that is a multiple of block_size = {block_size}"
        )
    blocks = S_max // block_size
    row = torch.arange(B * G, dtype=torch.int32, device=q.device).view(B, G, 1)
    index = (row * blocks + block_indices.clamp(min=0)).flatten()
    _, valid = _tokens(block_indices, seq_lens, block_size)

    def pack(cache: torch.Tensor) -> torch.Tensor:
        packed = cache.view(B * G * blocks, -1).index_select(0, index).view(B, G, -1, cache.shape[-1])
        return packed.masked_fill_(~valid[..., None], 0)  # NaN times a probability of 0 would be NaN

    return _attend(q, pack(k), pack(v), valid)


def _tokens(block_indices: torch.Tensor, seq_lens: torch.Tensor, block_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token positions [B, G, n*l'] of the blocks and which of them exist; a padded block has none."""
    offset = torch.arange(block_size, dtype=torch.int32, device=block_indices.device)
    token = block_indices[..., None] * block_size + offset  # [B, G, n, l']
    valid = (token >= 0) & (token < seq_lens[:, None, None, None])
    return token.flatten(2), valid.flatten(2)


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Attention of q [B, G, h, D] over packed k, v [B, G, n*l', ...] where valid [B, G, n*l']; empty rows are zero."""
    mask = valid[:, :, None].expand(-1, -1, q.shape[2], -1)  # [B, G, h, n*l']
    o = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return torch.where(valid.any(-1)[..., None, None], o, 0)


VARIANTS: dict[str, SelectAttention] = {"gather": gather, "index_select": index_select}
