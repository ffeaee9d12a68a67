"""What computes a decode step beside selection: the token, compressed attention, routing, the window and the sum.

Source: NSA (arXiv 2502.11089), Eq. 7 to 12, decode with one query token per sequence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

from nsa.shapes import NsaShape

Kept = tuple[torch.Tensor, ...]  # what compressed attention leaves for routing; only who made it reads it
Phi = Callable[[torch.Tensor], torch.Tensor]  # [..., l, D] -> [..., D]: a compression block to its token


@dataclass(frozen=True)
class Lengths:
    """The sequences' lengths: on the device, and the longest as the host knows it, which sizes the launches."""

    seq_lens: torch.Tensor  # [B] int32
    longest: int
    uniform: bool  # whether every sequence is as long as the longest


class Token(NamedTuple):
    """The new token of each sequence as it comes from the projections, where it goes, and the rest of the gate."""

    projected: torch.Tensor  # [B, (H + 3G)·D + 3G·Dv + D]: q, keys and values of the three branches, the gate's hidden
    cos: torch.Tensor  # [capacity, D] float32: the tables of RoPE
    sin: torch.Tensor
    k: torch.Tensor  # [3, B, G, capacity, D], contiguous as all caches
    v: torch.Tensor  # [3, B, G, capacity, Dv]
    k_cmp: torch.Tensor  # [B, G, capacity_cmp, D]
    v_cmp: torch.Tensor  # [B, G, capacity_cmp, Dv]
    seq_lens: torch.Tensor  # [B] int32: before the step
    arrived: torch.Tensor  # [B] int32: zeros, before and after
    hidden_bias: torch.Tensor  # [D]
    gate_weight: torch.Tensor  # [3H, D]
    gate_bias: torch.Tensor  # [3H]
    phi: tuple[Phi, Phi]  # of keys and of values


TokenKernel = Callable[[Token, NsaShape], tuple[torch.Tensor, torch.Tensor]]
WindowKernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Lengths, int], torch.Tensor]
SumKernel = Callable[[torch.Tensor, dict[int, torch.Tensor], int], torch.Tensor]


class StepParts(Protocol):
    """One way to compute them; no host synchronisation, nothing that a CUDA graph capture refuses.

    Attributes:
        name: as records have it.
        token: appends the token at the lengths on the device, emits the compressed token that is due and moves the
            lengths -> its roped q [B, G, h, D] and gates [B, G, h, 3]. It reads no length on the host, so that its
            captured call serves all lengths; a sequence that is full stays as it is. None: the layer's torch operators,
            whose capture belongs to the lengths.
        window: attention over the last min(w, S) tokens of each sequence: q [B, G, h, D], its own k [B, G, S, D] and
            v [B, G, S, Dv], the lengths, w -> o [B, G, h, Dv]. None: the layer's torch operators.
        gated_sum: of the branches that ran, by CMP, SEL and WIN: gates [B, G, h, 3], outputs [B, G, h, Dv] each,
            Dv -> [B, G, h, Dv]; of none zeros, in a launch as well: it is work of every step. None: the layer's torch
            operators.
    """

    @property
    def name(self) -> str: ...

    @property
    def token(self) -> TokenKernel | None: ...

    @property
    def window(self) -> WindowKernel | None: ...

    @property
    def gated_sum(self) -> SumKernel | None: ...

    def linear(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """A projection of the step: x [B, K], weight [N, K] -> [B, N]."""
        ...

    def compressed(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Lengths, shape: NsaShape, keep: bool
    ) -> tuple[torch.Tensor, Kept]:
        """Attention over compressed tokens, and what `route` needs of it where `keep` asks for that.

        q [B, G, h, D], k [B, G, M, D] and v [B, G, M, Dv], M at least 1: the compressed tokens of the longest sequence;
        what lies beyond a sequence's own may be NaN -> o [B, G, h, Dv]. A sequence without any gives zeros.
        """
        ...

    def route(self, kept: Kept | None, lengths: Lengths, shape: NsaShape) -> torch.Tensor:
        """The chosen blocks [B, G, n] int32, ascending, unique, -1 at the end where a row has fewer blocks.

        `kept` is what `compressed` kept, None while no sequence has a compressed token. Equal scores: the lower index.
        """
        ...

    def select_blocks(
        self, scores: torch.Tensor, seq_lens: torch.Tensor, sel_block: int, sel_count: int
    ) -> torch.Tensor:
        """What `route` does with given scores, not negative: [..., S_blk] float32, [...] int32 -> [..., n] int32."""
        ...
