"""The parts of a step beside selection in torch operators, and which way to compute them a run takes."""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn import functional as F

from nsa.attention.branches import compressed_attention
from nsa.attention.routing import route, select_blocks
from nsa.kernels.failures import PartsBroken, kernel_at_work
from nsa.kernels.step import Kept, Lengths, StepParts
from nsa.shapes import NsaShape

Name = Literal["torch", "triton"]


class TorchParts:
    """Compressed attention and routing as torch operators; see nsa.kernels.step.StepParts."""

    name: Name = "torch"
    token = window = gated_sum = None

    def linear(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """A projection of the step."""
        return F.linear(x, weight)

    def compressed(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Lengths, shape: NsaShape, keep: bool
    ) -> tuple[torch.Tensor, Kept]:
        """Attention over compressed tokens, and its probabilities [B, G, h, M] float32."""
        mask = None if lengths.uniform else _mask(lengths.seq_lens, k.shape[2], shape)
        o, p = compressed_attention(q, k, v, mask)
        return o, (p,)

    def route(self, kept: Kept | None, lengths: Lengths, shape: NsaShape) -> torch.Tensor:
        """The chosen blocks."""
        p_group = None if kept is None else kept[0].sum(2)  # [B, G, S_cmp]
        seq_lens = lengths.seq_lens[:, None].expand(-1, shape.groups)
        return route(p_group, seq_lens, lengths.longest, shape)

    def select_blocks(
        self, scores: torch.Tensor, seq_lens: torch.Tensor, sel_block: int, sel_count: int
    ) -> torch.Tensor:
        """The choice by given scores."""
        return select_blocks(scores, seq_lens, sel_block, sel_count)


TORCH = TorchParts()


def step_parts(name: Name) -> StepParts:
    """The parts of that name.

    Raises:
        PartsBroken: triton cannot be imported.
    """
    if name == "torch":
        return TORCH
    with kernel_at_work("decode.parts", PartsBroken):
        from nsa.kernels.parts.parts import TritonParts  # here: it imports triton, which a CPU may not have

    return TritonParts()


def _mask(seq_lens: torch.Tensor, M: int, shape: NsaShape) -> torch.Tensor:
    """[B, 1, 1, M]: compressed token i is visible once its last token is in the cache."""
    last = torch.arange(M, device=seq_lens.device) * shape.cmp_stride + shape.cmp_block
    return (last <= seq_lens[:, None])[:, None, None]
