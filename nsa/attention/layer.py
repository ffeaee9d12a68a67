"""The NSA attention layer: learned weights, and the decode step that the benchmark measures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Self

import torch
from torch import nn
from torch.nn import functional as F

from nsa.attention import rope
from nsa.attention.branches import gated_sum, window_attention
from nsa.attention.cache import CMP, SEL, WIN, KVCache
from nsa.attention.compress import compressor
from nsa.attention.parts import TORCH
from nsa.kernels.contract import SelectAttention
from nsa.kernels.core import EVERY_PART, Core, Parts, Sizes
from nsa.kernels.precision import without_autocast
from nsa.kernels.step import Lengths, StepParts, Token
from nsa.shapes import NsaShape


class Keys(NamedTuple):
    """The keys that a branch was given, and which of them are visible (None: all); reads are counted from these."""

    keys: torch.Tensor  # [B, G, M, D], a view
    mask: torch.Tensor | None  # broadcasting to [B, G, R, M]


class Projected(NamedTuple):
    """What one product of x [..., dim] with all first weights gives."""

    q: torch.Tensor  # [..., G, h, D], roped
    k: torch.Tensor  # [..., 3, G, D], roped
    v: torch.Tensor  # [..., 3, G, Dv]
    hidden: torch.Tensor  # [..., D]: of the gate, before its bias


class Step(NamedTuple):
    """One step's output [B, dim] and what it consumed."""

    output: torch.Tensor
    block_indices: torch.Tensor | None  # [B, G, n] int32, as the selection kernel was given them
    win: Keys | None  # None, too, where a kernel read the window
    q: torch.Tensor  # [B, G, h, D], roped: what routing decided by


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
        self._join()

    @torch.no_grad()
    @without_autocast
    def step(
        self,
        x: torch.Tensor,
        cache: KVCache,
        select: SelectAttention,
        parts: Parts = EVERY_PART,
        block_indices: torch.Tensor | None = None,
        computed_by: StepParts = TORCH,
    ) -> Step:
        """Decode one token a sequence, appended to the caches: x [B, dim] -> Step.

        No host synchronisation; captures into a CUDA graph, which then belongs to the lengths it was captured at.
        `block_indices` stands in for routing where parts.route is off; `computed_by` appends the token, computes the
        compressed branch and routes. Slices of the caches are views.

        Raises:
            CapacityError: a cache is full.
        """
        shape = self.shape
        q, gates = self._append(x, cache, computed_by)
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
        if parts.win and computed_by.window is not None:
            outputs[WIN] = computed_by.window(q, cache.k[WIN], cache.v[WIN], lengths, shape.window)
        elif parts.win:
            keys_win, v_win = self._window(cache)
            outputs[WIN] = window_attention(q, keys_win.keys, v_win, keys_win.mask)

        if computed_by.gated_sum is not None:
            o: torch.Tensor | None = computed_by.gated_sum(gates, outputs, shape.value_dim)
        else:
            o = gated_sum(gates, outputs)
        heads = cache.no_output if o is None else o.flatten(1)  # [B, H*Dv]
        return Step(computed_by.linear(heads, self.out.weight), block_indices, keys_win, q)

    @torch.no_grad()
    @without_autocast
    def decode(
        self,
        x: torch.Tensor,
        cache: KVCache,
        core: Core,
        parts: Parts = EVERY_PART,
        block_indices: torch.Tensor | None = None,
        computed_by: StepParts = TORCH,
    ) -> Step:
        """The same step through a decode core: x [B, dim] -> Step.

        The core writes the chosen blocks into `block_indices` [B, G, n], a new tensor where there is none, or reads
        them where parts.route is off. Where computed_by has a kernel for the token, no length on the host decides
        anything: one captured graph, replayed token after token, serves all lengths up to the capacity, beyond which a
        replay changes nothing. Replays move the lengths on the device alone (KVCache.set_lengths).

        Raises:
            CapacityError: a cache is full, as far as the host knows.
            InputError: the core does not take these sizes.
        """
        shape = self.shape
        assert parts.route or not parts.sel or block_indices is not None, "the sel part without route needs blocks"
        q, gates = self._append(x, cache, computed_by)
        if block_indices is None:
            block_indices = torch.empty(*q.shape[:2], shape.sel_count, dtype=torch.int32, device=q.device)
        heads = cache.no_output
        if any((parts.cmp, parts.sel, parts.win)):
            caches = (cache.k, cache.v, cache.k_cmp, cache.v_cmp)
            heads = core(q, gates, *caches, cache.seq_lens, Sizes.of(shape), parts, block_indices).flatten(1)
        return Step(computed_by.linear(heads, self.out.weight), block_indices, None, q)

    def project(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Projected:
        """x [..., dim], tables [..., D] -> the query, the keys and values, and the gate's hidden layer."""
        shape, D = self.shape, self.shape.head_dim
        sizes = ((shape.heads + 3 * shape.groups) * D, 3 * shape.groups * shape.value_dim, D)
        qk, v, hidden = F.linear(x, self._first).split(sizes, -1)
        qk = rope.rotate(qk.unflatten(-1, (-1, D)), cos[..., None, :], sin[..., None, :])  # [..., H + 3G, D]
        q = qk[..., : shape.heads, :].unflatten(-2, (shape.groups, -1))
        k = qk[..., shape.heads :, :].unflatten(-2, (3, -1))
        return Projected(q, k, v.unflatten(-1, (3, shape.groups, -1)), hidden)

    def gates(self, hidden: torch.Tensor) -> torch.Tensor:
        """hidden [..., D] -> sigmoid gates [..., G, h, 3], the branches in the order cmp, sel, win."""
        biased = hidden + self.gate.get_parameter("0.bias")
        return torch.sigmoid(self.gate[1:](biased)).unflatten(-1, (self.shape.groups, -1, 3))

    def _join(self) -> None:
        """Make the projections and the gate's first layer one weight, [.., dim]; theirs are views of its rows."""
        parts = (self.qkv.weight, self.gate.get_parameter("0.weight"))
        self._first = torch.cat([part.data for part in parts])
        for part, rows in zip(parts, self._first.split([len(part) for part in parts]), strict=True):
            part.data = rows

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        """What `to` and its kin call: it copies each weight, so they are joined anew."""
        super()._apply(fn, recurse)
        self._join()
        return self

    def _append(self, x: torch.Tensor, cache: KVCache, computed_by: StepParts) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the token x [B, dim] to the caches -> its roped q [B, G, h, D] and gates [B, G, h, 3]."""
        if computed_by.token is not None:
            cache.reserve()
            return computed_by.token(self._token(computed_by.linear(x, self._first), cache), self.shape)
        cache.advance()
        position = cache.lengths[0] - 1 if cache.uniform else cache.seq_lens - 1
        q, k, v, hidden = self.project(x, *self.angles(cache, position))
        cache.write_token(k, v)
        self._emit(cache)
        return q, self.gates(hidden)

    def _token(self, projected: torch.Tensor, cache: KVCache) -> Token:
        """What the kernel of the token takes."""
        cos, sin = self.angles(cache, slice(0, None))
        bias, weight, gate_bias = (self.gate.get_parameter(name) for name in ("0.bias", "2.weight", "2.bias"))
        return Token(
            projected=projected,
            cos=cos,
            sin=sin,
            k=cache.k,
            v=cache.v,
            k_cmp=cache.k_cmp,
            v_cmp=cache.v_cmp,
            seq_lens=cache.seq_lens,
            arrived=cache.arrived,
            hidden_bias=bias,
            gate_weight=weight,
            gate_bias=gate_bias,
            phi=(self.compress_k, self.compress_v),
        )

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
