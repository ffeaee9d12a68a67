"""Rotary position embedding (RoPE, base 10000), rotate-half convention: dimension i turns with i + D/2."""

from __future__ import annotations

import torch

BASE = 10000.0


def tables(capacity: int, head_dim: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and signed sin [capacity, D], float32, so that `rotate` is two multiplications and an addition."""
    inverse = BASE ** (-torch.arange(0, head_dim, 2, dtype=torch.float64, device=device) / head_dim)
    angles = torch.arange(capacity, dtype=torch.float64, device=device)[:, None] * inverse  # [capacity, D/2]
    cos = torch.stack((angles.cos(), angles.cos()), 1).flatten(1)  # [capacity, D]
    sin = torch.stack((-angles.sin(), angles.sin()), 1).flatten(1)
    return cos.float(), sin.float()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn the last dimension of x [..., D] by the tables' rows [..., D]; computed in float32, result in x's dtype."""
    halves = x.unflatten(-1, (2, -1)).flip(-2).flatten(-2)  # (x1, x2) -> (x2, x1)
    return torch.addcmul(x * cos, halves, sin).to(x.dtype)
