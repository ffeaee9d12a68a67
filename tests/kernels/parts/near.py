"""The window branch and the gated sum beside torch's, in any shape."""

from __future__ import annotations

import random

import torch

from nsa.attention.branches import gated_sum
from nsa.kernels.parts.parts import TritonParts
from nsa.kernels.step import Lengths


def window_faults(seed: int, dtype: torch.dtype, device: torch.device, tolerance: float) -> list[str]:
    """What differs from float64, ragged, with NaN before and behind each window, and strided caches."""
    draw, generator = random.Random(seed), torch.Generator(device).manual_seed(seed)
    G, h, D, Dv = draw.choice([1, 2]), draw.choice([1, 3, 16]), draw.choice([32, 96, 128]), draw.choice([32, 64, 192])
    window, capacity = draw.choice([1, 16, 100, 300]), 500
    lengths = [draw.choice([0, 1, window, draw.randint(1, capacity), capacity]) for _ in range(draw.randint(1, 3))]

    def normal(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, generator=generator, device=device).to(dtype)

    q = normal(len(lengths), G, h, D)
    k, v = (normal(len(lengths), G, capacity, width + 8)[..., :width] for width in (D, Dv))
    for b, S in enumerate(lengths):
        for cache in (k, v):
            cache[b, :, S:], cache[b, :, : max(0, S - window)] = torch.nan, torch.nan
    seq_lens = torch.tensor(lengths, dtype=torch.int32, device=device)
    o = TritonParts().window(q, k, v, Lengths(seq_lens, max(lengths), False), window)
    faults = []
    for b, S in enumerate(lengths):
        some = slice(max(0, S - window), S)
        keys, values = k[b, :, some].double(), v[b, :, some].double()
        right = (q[b].double() @ keys.transpose(-1, -2) / D**0.5).softmax(-1) @ values
        if not (error := float((o[b].double() - right).abs().max())) <= tolerance:
            faults.append(f"sequence {b} of {S} tokens, w = {window}, is off by {error}")
    return faults


def sum_faults(dtype: torch.dtype, device: torch.device, tolerance: float) -> list[str]:
    """What differs from torch's sum, for each choice of branches, none of them too; one that is off may be anything."""
    faults, Dv = [], 96
    gates = torch.rand(2, 3, 5, 3).to(device, dtype)
    for chosen in ((), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
        outputs = {branch: torch.randn(2, 3, 5, Dv).to(device, dtype) for branch in chosen}
        right = gated_sum(gates.double(), {branch: o.double() for branch, o in outputs.items()})
        right = torch.zeros(2, 3, 5, Dv, dtype=torch.float64, device=device) if right is None else right
        error = float((TritonParts().gated_sum(gates, outputs, Dv).double() - right).abs().max())
        if not error <= tolerance:
            faults.append(f"the sum of {chosen} is off by {error}")
    return faults
