"""The Triton kernels as the parts of a step."""

from __future__ import annotations

import torch

from nsa.kernels.compiling import PartsNotCompiled, compiles
from nsa.kernels.core import Sizes
from nsa.kernels.parts.branches import summed, window_attention
from nsa.kernels.parts.host import Scores, compressed_attention, route, select_blocks
from nsa.kernels.parts.linear import linear
from nsa.kernels.parts.token import append
from nsa.kernels.step import Kept, Lengths, Token
from nsa.shapes import NsaShape

told = compiles("decode.parts", PartsNotCompiled)


class TritonParts:
    """One launch for the token, two for compressed attention, two for routing, two for the window, one for the sum.

    See nsa.kernels.step.StepParts.
    """

    name = "triton"

    @told
    def linear(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """A projection of the step, as a vector where there is one row."""
        return linear(x, weight)

    @told
    def token(self, token: Token, shape: NsaShape) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the token; its roped query and its gates."""
        return append(token, shape)

    @told
    def window(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Lengths, window: int) -> torch.Tensor:
        """Attention over the window."""
        return window_attention(q, k, v, lengths, window)

    @told
    def gated_sum(self, gates: torch.Tensor, outputs: dict[int, torch.Tensor], value_dim: int) -> torch.Tensor:
        """The gated sum."""
        return summed(gates, outputs, value_dim)

    @told
    def compressed(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Lengths, shape: NsaShape, keep: bool
    ) -> tuple[torch.Tensor, Kept]:
        """Attention over compressed tokens, and its scores where routing weighs blocks by them."""
        weighed = keep and shape.num_blocks(lengths.longest) > shape.sel_count
        return compressed_attention(q, k, v, lengths, Sizes.of(shape), weighed)

    @told
    def route(self, kept: Kept | None, lengths: Lengths, shape: NsaShape) -> torch.Tensor:
        """The chosen blocks."""
        seq_lens = lengths.seq_lens
        indices = torch.empty(len(seq_lens), shape.groups, shape.sel_count, dtype=torch.int32, device=seq_lens.device)
        route(None if kept is None else Scores(*kept), lengths, Sizes.of(shape), indices)
        return indices

    @told
    def select_blocks(
        self, scores: torch.Tensor, seq_lens: torch.Tensor, sel_block: int, sel_count: int
    ) -> torch.Tensor:
        """The choice by given scores."""
        return select_blocks(scores, seq_lens, sel_block, sel_count)
