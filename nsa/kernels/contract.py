"""What every selected-attention backend promises, and the one place where its inputs are checked.

Source: NSA (arXiv 2502.11089) section 3.3.2, decode with one query token per sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import torch
from pydantic import JsonValue

from nsa.errors import BackendUnavailable, InputError
from nsa.kernels.limits import DTYPES, MAX_SEL_COUNT, check_heads, check_tensor

if TYPE_CHECKING:  # a type alone: no stamp of a selection kernel depends on the core contract
    from nsa.kernels.core import Core


class SelectAttention(Protocol):
    """softmax(q·Kᵀ/√D)·V over the tokens of the selected blocks, clipped to each sequence's length.

    q [B, G, h, D], k [B, G, S_max, D], v [B, G, S_max, Dv], block_indices [B, G, n] int32 (n up to 128, ascending,
    unique, -1 at the end where a row has fewer blocks), seq_lens [B] int32 -> o [B, G, h, Dv] in q's dtype.
    A row with no block gives exactly zero. Tokens that a row does not select may hold anything, NaN included, as may
    those at or beyond seq_lens. A stride of a dimension of size 1 means nothing (`strides`).
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
        selection: its selection kernel, where its spec offers one.
        variants: other correct ways to compute the same selection, which compete in the kernel check.
        notes: what a record must say of how the calls so far were made; after equal calls equal values, in any order.
        core: its decode core, where its spec offers one.
    """

    name: str
    selection: SelectAttention | None = None
    variants: Mapping[str, SelectAttention] = field(default_factory=dict)
    notes: Callable[[], list[JsonValue]] = list
    core: Core | None = None

    @property
    def selection_kernel(self) -> SelectAttention:
        """Its selection kernel.

        Raises:
            BackendUnavailable: it offers a decode core alone.
        """
        if self.selection is None:
            why = "it offers a decode core and no selection kernel"
            raise BackendUnavailable(self.name, why, "name a backend with the selection contract (docs/backend.md)")
        return self.selection

    @property
    def decode_core(self) -> Core:
        """Its decode core.

        Raises:
            BackendUnavailable: it offers a selection kernel alone.
        """
        if self.core is None:
            why = "it offers a selection kernel and no decode core"
            raise BackendUnavailable(self.name, why, "name a backend with the core contract (docs/backend.md)")
        return self.core


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
        check_tensor(name, tensor, shape, q)
    check_heads(h)
    if (n := block_indices.shape[2]) > MAX_SEL_COUNT:
        raise InputError(f"block_indices: got n = {n} blocks a row, expected at most {MAX_SEL_COUNT}")
    if q.dtype not in DTYPES or k.dtype != q.dtype or v.dtype != q.dtype:
        raise InputError(
            f"q, k, v: got {q.dtype}, {k.dtype}, {v.dtype}, expected one of float32, float16, bfloat16 for all three"
        )
    if block_indices.dtype != torch.int32 or seq_lens.dtype != torch.int32:
        raise InputError(f"block_indices, seq_lens: got {block_indices.dtype}, {seq_lens.dtype}, expected int32")
    if block_size < 1:
        raise InputError(f"block_size: got {block_size}, expected at least 1")


def strides(tensor: torch.Tensor) -> tuple[int, ...]:
    """The strides in elements; 0 for a dimension of size 1, where any stride is as good."""
    return tuple(stride if size > 1 else 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def dense(tensor: torch.Tensor) -> bool:
    """Whether the numbers of the last dimension lie side by side."""
    return tensor.shape[-1] <= 1 or tensor.stride(-1) == 1


def nothing_selected(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, block_indices: torch.Tensor
) -> torch.Tensor | None:
    """The output, zeros, of a call whose sizes leave no row a token (B, G, n or S_max of 0); None of any other call."""
    if block_indices.numel() and k.shape[2]:
        return None
    return q.new_zeros(*q.shape[:3], v.shape[3])
