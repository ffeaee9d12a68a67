"""phi: how a compression block of keys or values becomes one token (NSA paper, Eq. 7)."""

from __future__ import annotations

import torch
from torch import nn


class MeanCompressor(nn.Module):
    """phi = mean over the block's tokens; nothing is learned."""

    def forward(self, blocks: torch.Tensor) -> torch.Tensor:
        """blocks [..., l, D] -> [..., D], summed in float32."""
        return blocks.mean(-2, dtype=torch.float32).to(blocks.dtype)


class MlpCompressor(nn.Sequential):
    """phi = MLP over the flattened block, with a learned position embedding inside the block (NSA paper, 3.3.1)."""

    def __init__(self, block: int, width: int) -> None:
        super().__init__(
            nn.Linear(block * width, width, dtype=torch.float32),
            nn.GELU(),
            nn.Linear(width, width, dtype=torch.float32),
        )
        self.position = nn.Parameter(torch.randn(block, width, dtype=torch.float32) * 0.02)

    def forward(self, blocks: torch.Tensor) -> torch.Tensor:
        """blocks [..., l, D] -> [..., D]."""
        return super().forward((blocks + self.position).flatten(-2))


def compressor(phi: str, block: int, width: int) -> nn.Module:
    """The phi of a shape: "mean" or "mlp"."""
    return MlpCompressor(block, width) if phi == "mlp" else MeanCompressor()
