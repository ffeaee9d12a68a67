"""Random calls of the whole selection contract, from one seed, on any device."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch

from nsa.bench.method.inputs import Call

LAYOUTS = ("plain", "tokens first", "part")  # in memory: [B, G, S, D], [B, S, G, D], a part of something wider


@dataclass(frozen=True)
class Kind:
    """What a kernel is compiled for."""

    dtype: torch.dtype
    head_dim: int  # D
    value_dim: int  # Dv
    block: int  # l'
    layout: str


def random_call(seed: int, kind: Kind, device: torch.device, rows: int, blocks: int) -> Call:
    """A ragged, padded, poisoned call of at most so many rows, in caches of at most so many blocks; n to 128.

    Lengths of 0, 1 and around a block, rows with no block, and a capacity that ends inside a block.
    """
    draw = random.Random(seed)
    generator = torch.Generator(device).manual_seed(seed)
    G, block = draw.randint(1, 4), kind.block
    B, h = draw.randint(1, max(1, rows // G)), draw.randint(1, 16)
    n = draw.randint(1, draw.choice([4, 16, 128]))
    S_max = draw.randint(1, draw.randint(1, blocks) * block + block // 2)
    lengths = [min(S_max, draw.choice([0, 1, block - 1, block, block + 1, S_max, S_max])) for _ in range(B)]

    def cache(width: int) -> torch.Tensor:
        shape = (B, S_max, G) if kind.layout == "tokens first" else (B, G, S_max)
        whole = torch.randn(
            *shape, width + 24 * (kind.layout == "part"), generator=generator, device=device, dtype=kind.dtype
        )
        for b, length in enumerate(lengths):
            (whole[b, length:] if kind.layout == "tokens first" else whole[b, :, length:]).fill_(torch.nan)
        return whole.transpose(1, 2) if kind.layout == "tokens first" else whole[..., :width]

    q = torch.randn(B, G, h, kind.head_dim, generator=generator, device=device, dtype=kind.dtype)
    indices = torch.full((B, G, n), -1, dtype=torch.int32)
    for b, length in enumerate(lengths):
        existing = range(-(-length // block))
        for g in range(G):
            count = min(n, len(existing)) if g == 0 else draw.randint(0, min(n, len(existing)))
            indices[b, g, :count] = torch.tensor(sorted(draw.sample(existing, count)), dtype=torch.int32)
    seq_lens = torch.tensor(lengths, dtype=torch.int32)
    return Call(q, cache(kind.head_dim), cache(kind.value_dim), indices.to(device), seq_lens.to(device), block)
