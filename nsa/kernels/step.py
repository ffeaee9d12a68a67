"""What computes the parts of a decode step beside selection: compressed attention and routing.

Source: NSA (arXiv 2502.11089), Eq. 7 to 12, decode with one query token per sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from nsa.shapes import NsaShape

Kept = tuple[torch.Tensor, ...]  # what compressed attention leaves for routing; only who made it reads it


@dataclass(frozen=True)
class Lengths:
    """The sequences' lengths: on the device, and the longest as the host knows it, which sizes the launches."""

    seq_lens: torch.Tensor  # [B] int32
    longest: int
    uniform: bool  # whether every sequence is as long as the longest


class StepParts(Protocol):
    """One way to compute the two parts; no host synchronisation, nothing that a CUDA graph capture refuses.

    Attributes:
        name: as records have it.
    """

    @property
    def name(self) -> str: ...

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
