"""The NSA attention layer: learned weights, and the decode step that the benchmark measures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from nsa.attention import rope
from nsa.attention.branches import gated_sum, window_attention
from nsa.attention.cache import CMP, SEL, WIN, KVCache
from nsa.attention.compress import compressor
from nsa.attention.parts import TORCH
from nsa.kernels.contract import SelectAttention
from nsa.kernels.precision import without_autocast
from nsa.kernels.step import Lengths, StepParts
from nsa.shapes import NsaShape, require


@dataclass(frozen=True)
class Parts:
    """Which parts of a step run; a part that is off launches nothing (docs/method.md#arms)."""

    cmp: bool = True
    route: bool = True
    sel: bool = True
    win: bool = True

    def __post_init__(self) -> None:
        require(self.cmp or not self.route, "Parts.route", True, "cmp as well: routing reads its probabilities")


class Keys(NamedTuple):
    """The keys that a branch was given, and which of them are visible (None: all); reads are counted from these."""

    keys: torch.Tensor  # [B, G, M, D], a view
    mask: torch.Tensor | None  # broadcasting to [B, G, R, M]


class Step(NamedTuple):
    """One step's output [B, dim] and what it consumed."""

    output: torch.Tensor
    block_indices: torch.Tensor | None  # [B, G, n] int32, as the selection kernel was given them
    win: Keys | None


class NsaAttention(nn.Module):
    """One NSA layer (NSA paper, section 3): three K/V projections, compression, routing, window and gate.

    The weights are random from `seed`, float32 and scaled so that activations keep their variance; load_state_dict
    replaces them. Neither torch's default dtype nor autocast changes a result.
    """

    def __init__(self, shape: NsaShape, seed: int = 0) -> None:
        super().__init__()
        self.shape = shape
        G, D, Dv = shape.groups, shape.head_dim, shape.value_dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            linear = partial(nn.Linear, dtype=torch.float32)  # whatever the default is
            self.qkv = linear(shape.dim, (shape.heads + 3 * G) * D + 3 * G * Dv, bias=False)
            self.gate = nn.Sequential(linear(shape.dim, D), nn.SiLU(), linear(D, 3 * shape.heads))
            self.out = linear(shape.heads * Dv, shape.dim, bias=False)
            nn.init.normal_(self.qkv.weight, std=shape.dim**-0.5)
            nn.init.normal_(self.out.weight, std=(shape.heads * Dv) ** -0.5)
            self.compress_k = compressor(shape.phi, shape.cmp_block, D)
            self.compress_v = compressor(shape.phi, shape.cmp_block, Dv)
        self.requires_grad_(False)
        self._tables: tuple[torch.Tensor, torch.Tensor] | None = None

    @torch.no_grad()
    @without_autocast
    def step(
        self,
        x: torch.Tensor,
        cache: KVCache,
        select: SelectAttention,
        parts: Parts = Parts(),
        block_indices: torch.Tensor | None = None,
        computed_by: StepParts = TORCH,
    ) -> Step:
        """Decode one token a sequence, appended to the caches: x [B, dim] -> Step.

        No host synchronisation; captures into a CUDA graph, which then belongs to the lengths it was captured at.
        `block_indices` stands in for routing where parts.route is off; `computed_by` computes the compressed branch and
        routing. Slices of the caches are views.

        Raises:
            CapacityError: a cache is full.
        """
        shape = self.shape
        cache.advance()
        q, k, v = self.project(x, *self.angles(cache, cache.lengths[0] - 1 if cache.uniform else cache.seq_lens - 1))
        cache.write_token(k, v)
        self._emit(cache)
        gates = self.gates(x)  # [B, G, h, 3]

        outputs: dict[int, torch.Tensor] = {}
        lengths = Lengths(cache.seq_lens, cache.max_length, cache.uniform)
        kept = keys_win = None
        if parts.cmp and (M := shape.num_compressed(cache.max_length)):
            k_cmp, v_cmp = cache.k_cmp[:, :, :M], cache.v_cmp[:, :, :M]
            outputs[CMP], kept = computed_by.compressed(q, k_cmp, v_cmp, lengths, shape, parts.route)
        if parts.route:
            block_indices = computed_by.route(kept, lengths, shape)
        if parts.sel:
            assert block_indices is not None, "the sel part without route needs block_indices"
            outputs[SEL] = select(q, cache.k[SEL], cache.v[SEL], block_indices, cache.seq_lens, shape.sel_block)
        if parts.win:
            keys_win, v_win = self._window(cache)
            outputs[WIN] = window_attention(q, keys_win.keys, v_win, keys_win.mask)

        o = gated_sum(gates, outputs)
        heads = cache.no_output if o is None else o.flatten(1)  # [B, H*Dv]
        return Step(self.out(heads), block_indices, keys_win)

    def project(
        self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """x [..., dim], tables [..., D] -> roped q [..., G, h, D], roped k [..., 3, G, D], v [..., 3, G, Dv]."""
        shape, D = self.shape, self.shape.head_dim
        roped = (shape.heads + 3 * shape.groups) * D
        projected = self.qkv(x)
        qk = projected[..., :roped].unflatten(-1, (-1, D))  # [..., H + 3G, D]
        qk = rope.rotate(qk, cos[..., None, :], sin[..., None, :])
        q = qk[..., : shape.heads, :].unflatten(-2, (shape.groups, -1))
        k = qk[..., shape.heads :, :].unflatten(-2, (3, -1))
        return q, k, projected[..., roped:].unflatten(-1, (3, shape.groups, -1))

    def gates(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., dim] -> sigmoid gates [..., G, h, 3], the branches in the order cmp, sel, win."""
        return torch.sigmoid(self.gate(x)).unflatten(-1, (self.shape.groups, -1, 3))

    def angles(
        self, cache: KVCache, position: int | slice[int, int, None] | torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows of the RoPE tables, which are made once for the cache's capacity."""
        if self._tables is None or len(self._tables[0]) < cache.capacity or self._tables[0].device != cache.device:
            self._tables = rope.tables(cache.capacity, self.shape.head_dim, cache.device)
        return self._tables[0][position], self._tables[1][position]

    def _emit(self, cache: KVCache) -> None:
        """Add the compressed token that this step completes, for the sequences that complete one (Eq. 7)."""
        shape = self.shape
        emitting = [b for b, S in enumerate(cache.lengths) if shape.emits(S)]
        for rows in [slice(None)] if cache.uniform and emitting else [slice(b, b + 1) for b in emitting]:
            S = cache.lengths[rows][0]
            block, index = slice(S - shape.cmp_block, S), shape.num_compressed(S) - 1
            cache.k_cmp[rows, :, index] = self.compress_k(cache.k[CMP, rows, :, block])
            cache.v_cmp[rows, :, index] = self.compress_v(cache.v[CMP, rows, :, block])

    def _window(self, cache: KVCache) -> tuple[Keys, torch.Tensor]:
        """The window's keys and values: a view where all lengths agree, a gather where they do not."""
        k, v, width = cache.k[WIN], cache.v[WIN], min(self.shape.window, cache.max_length)
        if cache.uniform:
            window = slice(cache.max_length - width, cache.max_length)
            return Keys(k[:, :, window], None), v[:, :, window]
        token = cache.seq_lens[:, None] - width + torch.arange(width, device=cache.device)  # [B, L]
        sequence = torch.arange(cache.batch, device=cache.device)[:, None]
        mask = (token >= 0)[:, None, None].expand(-1, 1, self.shape.heads_per_group, -1)
        token = token.clamp(min=0)
        gathered = [tensor[sequence, :, token].transpose(1, 2) for tensor in (k, v)]  # [B, G, L, D]
        return Keys(gathered[0], mask), gathered[1]
