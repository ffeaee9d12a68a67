"""Selected blocks packed for attention over sequences of unequal length, and PyTorch's FlashAttention on them.

Blocks ascend and -1 stands at the end, so that of a row's n blocks only the last can be partial: packed, the tokens
that count are the first of the row, and a length does what a mask and two passes over K and V would have to do. A mask
could not: NaN + -inf is NaN, so every masked token would have to be finite, and a sequence shorter than one block has
no finite block to copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn import functional as F

from nsa.errors import InputError
from nsa.kernels.contract import check_inputs, nothing_selected

INT32_MAX = 2**31 - 1
FLASH_CAPABILITY = (8, 0)  # compute capability that FlashAttention-2 needs
MAX_ROWS = 2**15 - 1  # CUDA's grids have 65535 places in y and z; a row takes two, see boundaries


class Packed(NamedTuple):
    """N = B·G rows of h queries, each over the first `lengths` of its L = n·l' packed tokens."""

    q: torch.Tensor  # [N·h, 1, D]: the heads of a group are the queries of one sequence, and K and V are read once
    k: torch.Tensor  # [N·L, 1, D]
    v: torch.Tensor  # [N·L, 1, Dv]
    lengths: torch.Tensor  # [N] int32
    heads: int  # h
    tokens: int  # L


def select(
    attend: Callable[[Packed], torch.Tensor],
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    block_indices: torch.Tensor,
    seq_lens: torch.Tensor,
    block_size: int,
) -> torch.Tensor:
    """Selected attention by `attend`, which maps Packed to [N·h, 1, Dv]; otherwise as contract.SelectAttention.

    Raises:
        InputError: an argument is outside the contract, or the caches cannot be packed (packing_refusal).
    """
    check_inputs(q, k, v, block_indices, seq_lens, block_size)
    if reason := packing_refusal(k, v, block_size):
        raise InputError(reason)
    if (zeros := nothing_selected(q, k, v, block_indices)) is not None:
        return zeros
    B, G, h, D = q.shape
    index = block_places(block_indices, k.shape[2] // block_size)
    packed = Packed(
        q.reshape(-1, 1, D),  # copies where q is strided: h·D numbers a row
        k.view(-1, block_size * D)[index].view(-1, 1, D),
        v.view(-1, block_size * v.shape[-1])[index].view(-1, 1, v.shape[-1]),
        token_counts(block_indices, seq_lens, block_size).flatten(),
        h,
        block_indices.shape[-1] * block_size,
    )
    return attend(packed).reshape(B, G, h, v.shape[-1])


def flash(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    block_indices: torch.Tensor,
    seq_lens: torch.Tensor,
    block_size: int,
) -> torch.Tensor:
    """Pack whole blocks, then PyTorch's own FlashAttention-2. See contract.SelectAttention.

    Raises:
        InputError: see flash_refusal and packing_refusal.
    """
    if reason := flash_refusal(q, v):
        raise InputError(reason)
    return select(flash_attend, q, k, v, block_indices, seq_lens, block_size)


def flash_attend(packed: Packed) -> torch.Tensor:
    """Attention [N·h, 1, Dv] by PyTorch's FlashAttention-2; a row without a token gives zeros.

    aten's operator is called as torch.nn.attention.varlen calls it: importing that module brings in dynamo and
    inductor, which takes 6 to 9 s at the first call.
    """
    cu_q, cu_k = boundaries(packed)
    q, k, v = one_width(packed)
    sizes, scale = (packed.heads, packed.tokens), packed.q.shape[-1] ** -0.5
    # after the sizes: no dropout, no causal mask, no debug output
    found = torch.ops.aten._flash_attention_forward(q, k, v, cu_q, cu_k, *sizes, 0.0, False, False, scale=scale)
    o: torch.Tensor = found[0]  # [N·h, 1, the wider of D and Dv]
    return o[..., : packed.v.shape[-1]]


def one_width(packed: Packed) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q, k and v with zeros up to the wider of D and Dv, the one width that FlashAttention-2 takes.

    Zeros add nothing to a score, and the output's columns of zeros are dropped; what they cost is part of the time.
    """
    width = max(packed.q.shape[-1], packed.v.shape[-1])
    q, k, v = (
        tensor if tensor.shape[-1] == width else F.pad(tensor, (0, width - tensor.shape[-1]))
        for tensor in (packed.q, packed.k, packed.v)
    )
    return q, k, v


def packing_refusal(k: torch.Tensor, v: torch.Tensor, block_size: int) -> str | None:
    """Why whole blocks of these caches cannot be copied, or None."""
    B, G, S_max, _ = k.shape
    if S_max % block_size or not (k.is_contiguous() and v.is_contiguous()):
        return (
            f"k, v: got capacity {S_max}, strides {k.stride()} and {v.stride()}; expected contiguous caches and a "
            f"capacity that is a multiple of block_size = {block_size}"
        )
    if B * G > MAX_ROWS:
        return f"k, v: got {B} sequences x {G} groups, expected at most {MAX_ROWS} rows in one call"
    return None


def flash_refusal(q: torch.Tensor, v: torch.Tensor) -> str | None:
    """Why FlashAttention-2 does not take these inputs, or None."""
    D, Dv = q.shape[-1], v.shape[-1]
    if not q.is_cuda:
        return f"q: on {q.device}, expected a CUDA device: FlashAttention has no other kernel"
    if (capability := torch.cuda.get_device_capability(q.device)) < FLASH_CAPABILITY:
        return (
            f"q: on a GPU of compute capability {capability}, expected at least {FLASH_CAPABILITY} for FlashAttention"
        )
    if q.dtype not in (torch.float16, torch.bfloat16):
        return f"q, k, v: got {q.dtype}, expected float16 or bfloat16 for FlashAttention"
    if D % 8 or Dv % 8 or max(D, Dv) > 256:
        return f"q, v: got D = {D} and Dv = {Dv}, expected multiples of 8, at most 256, for FlashAttention"
    return None


def block_places(block_indices: torch.Tensor, blocks: int) -> torch.Tensor:
    """Places [N·n] int64 of the blocks [B, G, n] among those of all rows, `blocks` a row; padding names any block.

    int64, where PyTorch takes a -1 for the last block: it uses such an index as it is, and copies whole blocks 16 bytes
    at a time.
    """
    B, G, _ = block_indices.shape
    row = torch.arange(0, B * G * blocks, blocks, device=block_indices.device).view(B, G, 1)
    return (block_indices + row).flatten()


def token_counts(block_indices: torch.Tensor, seq_lens: torch.Tensor, block_size: int) -> torch.Tensor:
    """Selected tokens of each row, [B, G, n] and [B] -> [B, G] int32."""
    block = beyond_when_padded(block_indices, block_size)
    held = torch.sub(seq_lens[:, None, None], block, alpha=block_size).clamp_(0, block_size)  # [B, G, n]
    return held.sum(-1, dtype=torch.int32)


def beyond_when_padded(block_indices: torch.Tensor, block_size: int) -> torch.Tensor:
    """Block indices whose -1 became a block that starts beyond every length: one comparison then covers both ends."""
    return block_indices.remainder(INT32_MAX // block_size)


def boundaries(packed: Packed) -> tuple[torch.Tensor, torch.Tensor]:
    """Where sequences start and end, [2N] int32 for queries and for keys.

    PyTorch 2.11 knows a sequence by its boundaries alone, so what follows a row's length is given to a sequence without
    a query, of which nothing is read: 0, h, h, 2h, 2h, ... and 0, length_0, L, L + length_1, 2L, ...
    """
    N = len(packed.lengths)
    row = torch.arange(N + 1, dtype=torch.int32, device=packed.lengths.device)
    cu_q = row.unfold(0, 2, 1) * packed.heads  # [N, 2]: r·h, (r + 1)·h
    start = row[:-1, None].expand(N, 2)
    cu_k = torch.addr(start, packed.lengths, row[:2], beta=packed.tokens)  # [N, 2]: r·L, r·L + length
    return cu_q.flatten(), cu_k.flatten()
