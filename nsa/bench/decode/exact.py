"""One decode step in float64, from a cell's own caches and weights: what its arms are judged by.

It shares no step with the layer: RoPE, phi, routing and the gate are written again here, after docs/layer.md. The
tests hold it against nsa.attention.reference, which is loops; this one is vectorised and runs on the cell's device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch.nn import functional as F

from nsa.shapes import NsaShape

CMP, SEL, WIN = 0, 1, 2  # the order of the branches in the caches, in qkv.weight and in the gate
BASE = 10000.0  # of RoPE
CHUNK_BYTES = 1 << 28  # of float64 numbers that are made at once
Weights = Mapping[str, torch.Tensor]


class Caches(Protocol):
    """The caches of a layer: k, v [3, B, G, capacity, D or Dv]; k_cmp, v_cmp [B, G, capacity_cmp, D or Dv]."""

    k: torch.Tensor
    v: torch.Tensor
    k_cmp: torch.Tensor
    v_cmp: torch.Tensor


class Exact(NamedTuple):
    """What a step gives for R hidden states of each sequence, but for the selected branch, in float64."""

    q: torch.Tensor  # [R, B, G, h, D], roped
    k: torch.Tensor  # [R, B, 3, G, D], roped: what is appended
    v: torch.Tensor  # [R, B, 3, G, Dv]
    gates: torch.Tensor  # [R, B, G, h, 3]
    k_cmp: torch.Tensor | None  # [R, B, G, D]: the compressed token that is emitted
    v_cmp: torch.Tensor | None  # [R, B, G, Dv]
    cmp: torch.Tensor  # [R, B, G, h, Dv], before the gate
    win: torch.Tensor  # [R, B, G, h, Dv]

    def of(self, which: Sequence[int]) -> Exact:
        """What it is of some of the hidden states."""
        rows = list(which)
        q, k, v, gates, k_cmp, v_cmp, cmp, win = self
        emitted = [None if each is None else each[rows] for each in (k_cmp, v_cmp)]
        return Exact(q[rows], k[rows], v[rows], gates[rows], emitted[0], emitted[1], cmp[rows], win[rows])

    @classmethod
    def joined(cls, parts: Sequence[Exact]) -> Exact:
        """Several, one after the other."""
        q, k, v, gates, k_cmp, v_cmp, cmp, win = zip(*parts, strict=True)
        emitted = [None if each[0] is None else torch.cat(each) for each in (k_cmp, v_cmp)]
        one, two = (torch.cat(q), torch.cat(k), torch.cat(v), torch.cat(gates)), (torch.cat(cmp), torch.cat(win))
        return cls(*one, emitted[0], emitted[1], *two)


def project(weights: Weights, x: torch.Tensor, shape: NsaShape, position: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """x [..., dim] at positions [...] -> roped q [..., G, h, D], roped k [..., 3, G, D], v [..., 3, G, Dv]."""
    G, D = shape.groups, shape.head_dim
    rows = [shape.heads * D, 3 * G * D, 3 * G * shape.value_dim]
    q, k, v = (linear(x, weight) for weight in weights["qkv.weight"].split(rows))
    q, k, v = q.unflatten(-1, (G, -1, D)), k.unflatten(-1, (3, G, D)), v.unflatten(-1, (3, G, -1))
    return rope(q, position), rope(k, position), v


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """x [..., in] -> [..., out] in float64; a few rows of the weight [out, in] are converted at a time."""
    rows = max(1, CHUNK_BYTES // (8 * weight.shape[1]))
    product = torch.cat([F.linear(x.double(), some.double()) for some in weight.split(rows)], -1)
    return product if bias is None else product + bias.double()


def rope(x: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """Turn the pairs (i, i + D/2) of x [..., A, C, D] float64 by positions [...]: as complex numbers, by one factor."""
    half = x.shape[-1] // 2
    speed = BASE ** (-torch.arange(half, dtype=torch.float64, device=x.device) / half)
    angle = position.double()[..., None, None, None] * speed
    turned = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angle), angle)
    return torch.cat((turned.real, turned.imag), -1)


def compress(blocks: torch.Tensor, weights: Weights, name: str, phi: str) -> torch.Tensor:
    """phi of blocks [..., l, C] -> [..., C] float64; `name` is compress_k or compress_v."""
    blocks = blocks.double()
    if phi == "mean":
        return blocks.sum(-2) / blocks.shape[-2]
    flat = (blocks + weights[f"{name}.position"].double()).flatten(-2)
    hidden = linear(flat, weights[f"{name}.0.weight"], weights[f"{name}.0.bias"])
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return linear(hidden, weights[f"{name}.2.weight"], weights[f"{name}.2.bias"])


def spread(p: torch.Tensor, S: int, shape: NsaShape) -> torch.Tensor:
    """Eq. 9 and 10: probabilities [..., h, M] of compressed tokens -> importance [..., S_blk] of selection blocks.

    Each token hands its probability to the blocks that it covers, in proportion to the tokens in common.
    """
    l, d, block = shape.cmp_block, shape.cmp_stride, shape.sel_block
    p = p.sum(-2)
    start = torch.arange(p.shape[-1], device=p.device) * d
    found = p.new_zeros(*p.shape[:-1], shape.num_blocks(S))
    for further in range(l // block + 2):
        j = start // block + further
        common = (torch.minimum(start + l, (j + 1) * block) - torch.maximum(start, j * block)).clamp(min=0)
        some = common > 0
        found.index_add_(-1, j[some], (p * (common / l))[..., some])
    return found


class ExactStep:
    """The step after which the caches hold S tokens; they must hold the S - 1 before it, and what follows is not read.

    Args:
        weights: the layer's, in its own dtype.
        caches: of sequences of one length.
        shape: the layer's sizes.
        S: tokens afterwards.
    """

    def __init__(self, weights: Weights, caches: Caches, shape: NsaShape, S: int) -> None:
        self.weights, self.caches, self.shape, self.S = weights, caches, shape, S
        self.emits = S >= shape.cmp_block and (S - shape.cmp_block) % shape.cmp_stride == 0
        self.compressed = 0 if S < shape.cmp_block else (S - shape.cmp_block) // shape.cmp_stride + 1
        self._past_cmp = self.compressed - self.emits  # compressed tokens that are there before the step

    def of(self, x: torch.Tensor) -> Exact:
        """x [R, B, dim] -> what the step gives for each; as many at once as fit."""
        heads, tokens = self.shape.heads, self._past_cmp + self.shape.window
        rows = max(1, CHUNK_BYTES // (8 * x.shape[1] * (heads * 3 * tokens + self.shape.dim)))
        return Exact.joined([self._of(some) for some in x.split(rows)])

    def _of(self, x: torch.Tensor) -> Exact:
        shape, caches, w, t = self.shape, self.caches, self.weights, self.S - 1
        q, k, v = project(w, x, shape, torch.full(x.shape[:-1], t, device=x.device))
        hidden = linear(x, w["gate.0.weight"], w["gate.0.bias"])
        hidden = hidden / (1 + (-hidden).exp())
        gates = 1 / (1 + (-linear(hidden, w["gate.2.weight"], w["gate.2.bias"])).exp())
        k_cmp, v_cmp = self._emitted(caches.k, k, "compress_k"), self._emitted(caches.v, v, "compress_v")
        past = slice(0, self._past_cmp)
        cmp = attend(q, caches.k_cmp[:, :, past], caches.v_cmp[:, :, past], k_cmp, v_cmp)
        past = slice(max(0, self.S - shape.window), t)
        win = attend(q, caches.k[WIN, :, :, past], caches.v[WIN, :, :, past], k[:, :, WIN], v[:, :, WIN])
        return Exact(q, k, v, gates.unflatten(-1, (shape.groups, -1, 3)), k_cmp, v_cmp, cmp, win)

    def _emitted(self, cache: torch.Tensor, current: torch.Tensor, name: str) -> torch.Tensor | None:
        """[R, B, G, C]: the compressed token of the last l tokens; the last of them is current, [R, B, 3, G, C]."""
        if not self.emits:
            return None
        past = cache[CMP, :, :, self.S - self.shape.cmp_block : self.S - 1].double()  # [B, G, l - 1, C]
        now = current[:, :, CMP, :, None]  # [R, B, G, 1, C]
        blocks = torch.cat((past.expand(len(now), -1, -1, -1, -1), now), -2)
        return compress(blocks, self.weights, name, self.shape.phi)

    def selected(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
        """Attention over the tokens of the selected blocks, clipped to S.

        q [N, B, G, h, D]; the current token's k [N, B, G, D] and v [N, B, G, Dv] of this branch; blocks [N, B, G, n],
        where a negative one is none -> [N, B, G, h, Dv]. It gathers, some of N at a time.
        """
        size = self.shape.sel_block
        tokens = blocks.shape[-1] * size
        rows = max(1, CHUNK_BYTES // (8 * 2 * q[0, :, :, 0].numel() * tokens))
        if len(q) > rows:
            parts = zip(*(tensor.split(rows) for tensor in (q, k, v, blocks)), strict=True)
            return torch.cat([self.selected(*some) for some in parts])
        token = blocks.long()[..., None] * size + torch.arange(size, device=q.device)
        seen = ((token >= 0) & (blocks[..., None] >= 0) & (token < self.S)).flatten(-2)  # [N, B, G, n*l']
        token = token.flatten(-2).clamp(0, self.S - 1)
        now = (token == self.S - 1)[..., None]
        b, g = (torch.arange(size, device=q.device) for size in q.shape[1:3])
        where = (SEL, b[:, None, None], g[:, None], token)
        keys, values = (
            torch.where(seen[..., None], torch.where(now, current[..., None, :], cache[where].double()), 0)
            for cache, current in ((self.caches.k, k), (self.caches.v, v))
        )
        scores = (q @ keys.transpose(-1, -2) / math.sqrt(q.shape[-1])).masked_fill(~seen[..., None, :], -math.inf)
        return torch.where(seen.any(-1)[..., None, None], scores.softmax(-1), 0) @ values

    def importance(self, q: torch.Tensor, k_cmp: torch.Tensor | None) -> torch.Tensor:
        """Importance of the selection blocks, [N, B, G, S_blk].

        q [N, B, G, h, D] and the emitted compressed key [N, B, G, D] as the layer rounded them: routing is judged on
        what it was given.
        """
        past = self.caches.k_cmp[:, :, : self._past_cmp]
        rows = max(1, CHUNK_BYTES // (8 * 3 * max(1, q[0, ..., 0].numel() * self.compressed)))
        parts = []
        for first in range(0, len(q), rows):
            some = slice(first, first + rows)
            p = probabilities(q[some].double(), past, None if k_cmp is None else k_cmp[some].double())
            parts.append(spread(p, self.S, self.shape))
        return torch.cat(parts)

    def output(self, exact: Exact, branches: Mapping[int, torch.Tensor]) -> torch.Tensor:
        """The gated sum of the branches that ran, [R, B, G, h, Dv] each, projected: [R, B, dim]."""
        total = torch.zeros_like(exact.cmp)
        for branch, o in branches.items():
            total = total + exact.gates[..., branch, None] * o
        return linear(total.flatten(2), self.weights["out.weight"])


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, last_k: torch.Tensor | None, last_v: torch.Tensor | None
) -> torch.Tensor:
    """Attention of q [R, B, G, h, D] over T tokens that all R share, k [B, G, T, D], and one more of each's own.

    last_k [R, B, G, D], None where there is none -> [R, B, G, h, Dv]; without any token zeros.
    """
    p, T = probabilities(q, k, last_k), k.shape[-2]
    o = torch.einsum("rbght,bgtd->rbghd", p[..., :T], v.double())
    return o if last_v is None else o + p[..., T:] * last_v[..., None, :]


def probabilities(q: torch.Tensor, k: torch.Tensor, last_k: torch.Tensor | None) -> torch.Tensor:
    """The softmax of attend's scores: [R, B, G, h, T], or T + 1."""
    scores = torch.einsum("rbghd,bgtd->rbght", q, k.double())
    if last_k is not None:
        scores = torch.cat((scores, torch.einsum("rbghd,rbgd->rbgh", q, last_k)[..., None]), -1)
    if not scores.shape[-1]:
        return scores
    scores = scores / math.sqrt(q.shape[-1])
    p = (scores - scores.amax(-1, keepdim=True)).exp()
    return p / p.sum(-1, keepdim=True)
