"""Random inputs of compressed attention and routing, from one seed, on any device, and what is right for them."""

from __future__ import annotations

import random
from typing import NamedTuple

import torch

from nsa.attention import reference
from nsa.kernels.parts.parts import TritonParts
from nsa.kernels.step import Lengths
from nsa.shapes import NsaShape

LOG2E = 1.4426950408889634


class Case(NamedTuple):
    """One call: q [B, G, h, D], k [B, G, M, D], v [B, G, M, Dv]; M is 0 while no sequence has a compressed token."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    lengths: Lengths
    shape: NsaShape


def random_case(seed: int, dtype: torch.dtype, device: torch.device, longest: int = 700) -> Case:
    """Ragged or uniform, d dividing l and l', NaN beyond each sequence's compressed tokens, strided caches."""
    draw, generator = random.Random(seed), torch.Generator(device).manual_seed(seed)
    stride, groups = draw.choice([4, 8, 16]), draw.choice([1, 2, 3])
    shape = NsaShape(
        dim=32,
        heads=groups * draw.choice([1, 3, 4, 16]),
        groups=groups,
        head_dim=draw.choice([32, 96, 128]),
        value_dim=draw.choice([32, 64, 192]),
        cmp_block=stride * draw.choice([1, 2, 4]),
        cmp_stride=stride,
        sel_block=stride * draw.choice([1, 2, 4]),
        sel_count=draw.choice([3, 5, 16, 33]),
        window=32,
    )
    B = draw.randint(1, 3)
    lengths = [draw.choice([1, shape.cmp_block, draw.randint(1, longest), longest]) for _ in range(B)]
    if draw.random() < 0.3:
        lengths = [lengths[0]] * B
    M = shape.num_compressed(max(lengths))

    def normal(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, generator=generator, device=device).to(dtype)

    q = normal(B, groups, shape.heads_per_group, shape.head_dim)
    k, v = (normal(B, groups, M + 3, width + 8)[..., :width] for width in (shape.head_dim, shape.value_dim))
    for b, S in enumerate(lengths):
        for cache in (k, v):
            cache[b, :, shape.num_compressed(S) :] = torch.nan
    seq_lens = torch.tensor(lengths, dtype=torch.int32, device=device)
    return Case(q, k[:, :, :M], v[:, :, :M], Lengths(seq_lens, max(lengths), len(set(lengths)) == 1), shape)


def faults(case: Case, tolerance: float) -> list[str]:
    """What is wrong with the Triton kernels' answers on a case; routing is judged by its own scores' probabilities."""
    parts, G, shape = TritonParts(), case.q.shape[1], case.shape
    found: list[str] = []
    o = kept = None
    if case.k.shape[2]:
        o, kept = parts.compressed(case.q, case.k, case.v, case.lengths, shape, True)
    indices = parts.route(kept, case.lengths, shape)
    for b, S in enumerate(case.lengths.seq_lens.tolist()):
        M = shape.num_compressed(S)
        for g in range(G):
            q, k, v = (tensor[b, g].double().cpu() for tensor in (case.q, case.k[:, :, :M], case.v[:, :, :M]))
            p = (q @ k.T / q.shape[-1] ** 0.5).softmax(-1) if M else torch.zeros(len(q), 0, dtype=torch.float64)
            if o is not None and not (error := float((o[b, g].double().cpu() - p @ v).abs().max())) <= tolerance:
                found.append(f"compressed attention of row {b}, {g} is off by {error}")
            if M and kept is not None and kept[0].numel():  # what routing was given
                p = (kept[0][b, g, :M].T.double().cpu() / LOG2E).softmax(-1)
            scores = reference.block_importance(p.numpy(), S, shape.cmp_block, shape.cmp_stride, shape.sel_block)
            got, n = indices[b, g].tolist(), shape.sel_count
            want = reference.select_blocks(scores, S, shape.sel_block, n)
            if got != want + [-1] * (n - len(want)) and not _tied(got, want, scores):
                found.append(f"row {b}, {g} of {S} tokens chose {got}, expected {want}")
    return found


def _tied(got: list[int], want: list[int], scores) -> bool:
    """Whether two choices differ by rounding alone: the same number of blocks, and sums that agree to 1e-5."""
    chosen = [index for index in got if index >= 0]
    if (
        len(chosen) != len(want)
        or chosen != sorted(set(chosen))
        or got[len(chosen) :] != [-1] * (len(got) - len(chosen))
    ):
        return False
    return bool(scores[chosen].sum() >= (1 - 1e-5) * scores[want].sum())
