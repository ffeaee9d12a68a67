"""Inputs of decode cores: random shapes of the whole contract, ragged, with NaN wherever a core must not read."""

from __future__ import annotations

import random
from typing import NamedTuple

import torch

from nsa.kernels.core import Parts, Sizes
from nsa.kernels.limits import HEAD_DIMS

EVERY = (
    Parts(),
    Parts(sel=False),
    Parts(route=False, sel=False, win=False),
    Parts(sel=False, win=False),
    Parts(cmp=False, route=False, win=False),
    Parts(cmp=False, route=False, sel=False),
    Parts(cmp=False, route=False, sel=False, win=False),
    Parts(cmp=False, route=False),
    Parts(route=False),
    Parts(route=False, sel=False),
)


class Case(NamedTuple):
    """The arguments of one call of a core, without `out`."""

    q: torch.Tensor
    gates: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    k_cmp: torch.Tensor
    v_cmp: torch.Tensor
    seq_lens: torch.Tensor
    sizes: Sizes
    parts: Parts
    block_indices: torch.Tensor


class Drawn(NamedTuple):
    """What a case is made of."""

    sizes: Sizes
    lengths: tuple[int, ...]
    capacity: int
    groups: int
    heads: int
    D: int
    Dv: int
    dtype: torch.dtype
    parts: Parts


PAPER = Sizes(32, 16, 64, 16, 512)


def paper(lengths: tuple[int, ...], capacity: int | None = None, dtype: torch.dtype = torch.bfloat16) -> Drawn:
    """The paper's geometry: H = 64, G = 4, D = 128."""
    return Drawn(PAPER, lengths, capacity or max(lengths), 4, 16, 128, 128, dtype, Parts())


def drawn(seed: int, longest: int = 2048) -> Drawn:
    """A random shape of the whole contract."""
    draw = random.Random(seed)
    stride = draw.choice([1, 4, 8, 16, 16, 16])
    sizes = Sizes(
        stride * draw.choice([1, 2, 2, 3, 5]),
        stride,
        stride * draw.choice([1, 2, 4, 4, 6]),
        draw.choice([3, 4, 8, 16, 16, 33, 128]),
        draw.choice([0, 1, 100, 512, 512, 1000]),
    )
    capacity = draw.randint(1, longest)
    lengths = tuple(draw.choice([capacity, draw.randint(0, capacity)]) for _ in range(draw.randint(1, 4)))
    D, Dv = draw.choice(HEAD_DIMS), draw.choice(HEAD_DIMS)
    dtype = draw.choice([torch.float16, torch.bfloat16])
    return Drawn(
        sizes, lengths, capacity, draw.choice([1, 2, 4]), draw.randint(1, 16), D, Dv, dtype, draw.choice(EVERY)
    )


def case(made: Drawn, seed: int, device: torch.device) -> Case:
    """Random inputs of a shape. Where routing does not choose the blocks, they are drawn as it would: ascending."""
    sizes, B, G = made.sizes, len(made.lengths), made.groups
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device=device).to(made.dtype)

    M = max(sizes.num_compressed(made.capacity), 1)
    k, v = normal(3, B, G, made.capacity, made.D), normal(3, B, G, made.capacity, made.Dv)
    k_cmp, v_cmp = normal(B, G, M, made.D), normal(B, G, M, made.Dv)
    k[0], v[0] = torch.nan, torch.nan  # the raw keys of the compressed branch are none of a core's business
    indices = torch.full((B, G, sizes.sel_count), -1, dtype=torch.int32, device=device)
    for b, S in enumerate(made.lengths):
        k[:, b, :, S:], v[:, b, :, S:] = torch.nan, torch.nan
        k_cmp[b, :, sizes.num_compressed(S) :], v_cmp[b, :, sizes.num_compressed(S) :] = torch.nan, torch.nan
        blocks = sizes.num_blocks(S)
        for g in range(G if not made.parts.route else 0):
            count = min(sizes.sel_count, blocks)
            some = torch.randperm(blocks, generator=generator, device=device)[:count].sort().values.int()
            indices[b, g, :count] = some
    if not made.parts.cmp:
        k_cmp.fill_(torch.nan), v_cmp.fill_(torch.nan)
    for branch, on in ((1, made.parts.sel), (2, made.parts.win)):
        if not on:
            k[branch], v[branch] = torch.nan, torch.nan
    lens = torch.tensor(made.lengths, dtype=torch.int32, device=device)
    q, gates = normal(B, G, made.heads, made.D) * 1.5, torch.sigmoid(normal(B, G, made.heads, 3).float()).to(made.dtype)
    return Case(q, gates, k, v, k_cmp, v_cmp, lens, sizes, made.parts, indices)
