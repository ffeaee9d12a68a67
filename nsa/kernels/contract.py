"""What every selected-attention backend promises, and the one place where its inputs are checked.

Source: NSA (arXiv 2502.11089) section 3.3.2, decode with one query token per sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from pydantic import JsonValue

from nsa import shapes
from nsa.errors import InputError

MAX_HEADS_PER_GROUP = shapes.MAX_HEADS_PER_GROUP
HEAD_DIMS = (32, 64, 96, 128, 192, 256)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class SelectAttention(Protocol):
    """softmax(q·Kᵀ/√D)·V over the tokens of the selected blocks, clipped to each sequence's length.

    q [B, G, h, D], k [B, G, S_max, D], v [B, G, S_max, Dv], block_indices [B, G, n] int32 (ascending, unique, -1
    where a row has fewer blocks), seq_lens [B] int32 -> o [B, G, h, Dv] in q's dtype.
    A row with no block gives exactly zero. Tokens at or beyond seq_lens may hold anything, NaN included.
    No host synchronisation and nothing that a CUDA graph capture refuses. There is no causal flag: causality is S.
    """

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        block_indices: torch.Tensor,
        seq_lens: torch.Tensor,
        block_size: int,
    ) -> torch.Tensor: ...


@dataclass(frozen=True)
class Backend:
    """A backend that can run here.

    Attributes:
        name: as its spec has it.
        selection: its kernel.
        variants: other correct ways to compute the same, which compete in the kernel check.
        notes: what a record must say of how the calls so far were made; after equal calls equal values, in any order.
    """

    name: str
    selection: SelectAttention
    variants: Mapping[str, SelectAttention] = field(default_factory=dict)
    notes: Callable[[], list[JsonValue]] = list


def check_inputs(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    block_indices: torch.Tensor,
    seq_lens: torch.Tensor,
    block_size: int,
) -> None:
    """Check shapes, dtypes and devices of one call; values (lengths, indices) are on the device and stay unread.

    Raises:
        InputError: names the argument, what it is and what was expected.
    """
    if q.dim() != 4:
        raise InputError(f"q: got shape {tuple(q.shape)}, expected [B, G, h, D]")
    B, G, h, D = q.shape
    S_max, Dv = (k.shape[2], v.shape[3]) if k.dim() == v.dim() == 4 else (-1, -1)
    wanted = {
        "k": (k, (B, G, S_max, D)),
        "v": (v, (B, G, S_max, Dv)),
        "block_indices": (block_indices, (B, G, block_indices.shape[-1] if block_indices.dim() else -1)),
        "seq_lens": (seq_lens, (B,)),
    }
    for name, (tensor, shape) in wanted.items():
        if tuple(tensor.shape) != shape:
            expected = ", ".join("any" if size < 0 else str(size) for size in shape)
            raise InputError(f"{name}: got shape {tuple(tensor.shape)}, expected [{expected}] for q {tuple(q.shape)}")
        if tensor.device != q.device:
            raise InputError(f"{name}: on {tensor.device}, expected q's device {q.device}")
    if not 1 <= h <= MAX_HEADS_PER_GROUP:
        raise InputError(f"q: got h = {h} heads a group, expected 1 to {MAX_HEADS_PER_GROUP}")
    if q.dtype not in DTYPES or k.dtype != q.dtype or v.dtype != q.dtype:
        raise InputError(
            f"q, k, v: got {q.dtype}, {k.dtype}, {v.dtype}, expected one of float32, float16, bfloat16 for all three"
        )
    if block_indices.dtype != torch.int32 or seq_lens.dtype != torch.int32:
        raise InputError(f"block_indices, seq_lens: got {block_indices.dtype}, {seq_lens.dtype}, expected int32")
    if block_size < 1:
        raise InputError(f"block_size: got {block_size}, expected at least 1")
