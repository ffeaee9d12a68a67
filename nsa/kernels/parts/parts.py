"""The Triton kernels as the parts of a step."""

from __future__ import annotations

import torch

from nsa.kernels.parts.host import Scores, compressed_attention, route, select_blocks
from nsa.kernels.step import Kept, Lengths
from nsa.shapes import NsaShape


class TritonParts:
    """Two launches for compressed attention, two for routing; see nsa.kernels.step.StepParts."""

    name = "triton"

    def compressed(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Lengths, shape: NsaShape, keep: bool
    ) -> tuple[torch.Tensor, Kept]:
        """Attention over compressed tokens, and its scores where routing weighs blocks by them."""
        weighed = keep and shape.num_blocks(lengths.longest) > shape.sel_count
        return compressed_attention(q, k, v, lengths, shape, weighed)

    def route(self, kept: Kept | None, lengths: Lengths, shape: NsaShape) -> torch.Tensor:
        """The chosen blocks."""
        return route(None if kept is None else Scores(*kept), lengths, shape)

    def select_blocks(
        self, scores: torch.Tensor, seq_lens: torch.Tensor, sel_block: int, sel_count: int
    ) -> torch.Tensor:
        """The choice by given scores."""
        return select_blocks(scores, seq_lens, sel_block, sel_count)
