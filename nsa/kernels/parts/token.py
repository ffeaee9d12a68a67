"""The new token of a step in one kernel: RoPE, append, the compressed token that is due, the gate, the lengths.

Source: NSA (arXiv 2502.11089), Eq. 5 and 7; docs/layer.md#one-decode-step, steps 1, 2 and 7. Three programs for each
(sequence, group): one for the query and the gates, one for the keys, one for the values.
"""
# mypy: disable-error-code="untyped-decorator, no-untyped-def"
# (device code: its types are Triton's)

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from nsa.kernels.splits import on, overlaps
from nsa.kernels.step import Token
from nsa.kernels.tiles import padded
from nsa.shapes import NsaShape

PROGRAMS = tl.constexpr(3)  # of each (sequence, group)
TOKENS = 32  # of a compression block that are summed at once


@triton.jit
def _turned(x, place, other, cos, sin, mask):
    """Numbers at `place`, turned by RoPE; `other` are their partners, and the sign is in `sin`."""
    own = tl.load(x + place, mask=mask, other=0.0).to(tl.float32)
    partner = tl.load(x + other, mask=mask, other=0.0).to(tl.float32)
    return own * cos + partner * sin


@triton.jit
def _mean(cache, t, current, at, L: tl.constexpr, WIDTH: tl.constexpr, TOKENS: tl.constexpr):
    """phi = mean of the last L tokens: those before t of the cache, and the current one."""
    total = current.to(tl.float32)
    for start in tl.range(0, L - 1, TOKENS):
        token = t - (L - 1) + start + tl.arange(0, TOKENS)
        place = token.to(tl.int64)[:, None] * WIDTH + at[None, :]
        total += tl.sum(
            tl.load(cache + place, mask=(token < t)[:, None] & (at < WIDTH)[None, :], other=0.0).to(tl.float32), 0
        )
    return total / L


@triton.jit(do_not_specialize=["heads", "capacity", "capacity_cmp"])
def token(
    projected,  # [B, N]: q [G, heads, D], k [3, G, D], v [3, G, DV], hidden [D]
    cos,  # [capacity, D] float32; sin with its sign
    sin,
    k,  # [3, B, G, capacity, D], contiguous as all
    v,  # [3, B, G, capacity, DV]
    k_cmp,  # [B, G, capacity_cmp, D]
    v_cmp,  # [B, G, capacity_cmp, DV]
    seq_lens,  # [B] int32
    arrived,  # [B] int32
    hidden_bias,  # [D]
    gate_weight,  # [3H, D]
    gate_bias,  # [3H]
    q,  # [B, G, heads, D]: written
    gates,  # [B, G, heads, 3]: written
    heads,
    capacity,
    capacity_cmp,
    D: tl.constexpr,
    DV: tl.constexpr,
    D_PADDED: tl.constexpr,  # powers of two
    DV_PADDED: tl.constexpr,
    HEADS_PADDED: tl.constexpr,
    GATES_PADDED: tl.constexpr,  # at least 3 * heads
    L: tl.constexpr,  # tokens of a compression block
    STRIDE: tl.constexpr,  # d
    EMIT: tl.constexpr,  # phi is the mean
    TOKENS: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """Grid [B, G, PROGRAMS]. The last program of a sequence moves its length: by then all have read it."""
    b = tl.program_id(0).to(tl.int64)
    g = tl.program_id(1)
    role = tl.program_id(2)
    B = tl.num_programs(0)
    G = tl.num_programs(1)
    length = tl.load(seq_lens + b)
    room = length < capacity  # a full sequence stays as it is
    t = tl.minimum(length, capacity - 1)
    due = room & (t + 1 >= L) & ((t + 1 - L) % STRIDE == 0)
    row = b * G + g
    emitted = row * capacity_cmp + (t + 1 - L) // STRIDE
    keys = G * heads * D  # where they begin in a row of `projected`
    values = keys + 3 * G * D
    hidden = values + 3 * G * DV
    projected += b * (hidden + D)

    d = tl.arange(0, D_PADDED)
    dv = tl.arange(0, DV_PADDED)
    turn_cos = tl.load(cos + t.to(tl.int64) * D + d, mask=d < D, other=0.0)
    turn_sin = tl.load(sin + t.to(tl.int64) * D + d, mask=d < D, other=0.0)
    partner = tl.where(d < D // 2, d + D // 2, d - D // 2)
    gate = tl.arange(0, GATES_PADDED)
    rows = g * 3 * heads + gate
    exists = gate < tl.where(role == 0, 3 * heads, 0)
    seen = exists[:, None] & (d < D)[None, :]
    weight = tl.load(gate_weight + rows[:, None] * D + d[None, :], mask=seen, other=0.0)  # written by nobody
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    if role == 0:
        head = tl.arange(0, HEADS_PADDED)[:, None]
        mask = (head < heads) & (d < D)[None, :]
        at = (g * heads + head) * D
        turned = _turned(projected, at + d[None, :], at + partner[None, :], turn_cos[None, :], turn_sin[None, :], mask)
        tl.store(q + (row * heads + head) * D + d[None, :], turned, mask=mask)

        first = tl.load(projected + hidden + d, mask=d < D, other=0.0).to(tl.float32)
        first += tl.load(hidden_bias + d, mask=d < D, other=0.0).to(tl.float32)
        first = first * tl.sigmoid(first)  # SiLU
        logit = tl.sum(weight.to(tl.float32) * first[None, :], 1)
        logit += tl.load(gate_bias + rows, mask=exists, other=0.0).to(tl.float32)
        tl.store(gates + row * 3 * heads + gate, tl.sigmoid(logit), mask=exists)
    elif role == 1:
        for branch in tl.static_range(3):
            at = keys + (branch * G + g) * D
            turned = _turned(projected, at + d, at + partner, turn_cos, turn_sin, d < D).to(k.dtype.element_ty)
            cache = k + ((branch * B + b) * G + g) * capacity * D
            tl.store(cache + t.to(tl.int64) * D + d, turned, mask=d < tl.where(room, D, 0))
            if due & (EMIT and branch == 0):
                tl.store(k_cmp + emitted * D + d, _mean(cache, t, turned, d, L, D, TOKENS), mask=d < D)
    else:
        for branch in tl.static_range(3):
            value = tl.load(projected + values + (branch * G + g) * DV + dv, mask=dv < DV, other=0.0)
            cache = v + ((branch * B + b) * G + g) * capacity * DV
            tl.store(cache + t.to(tl.int64) * DV + dv, value, mask=dv < tl.where(room, DV, 0))
            if due & (EMIT and branch == 0):
                tl.store(v_cmp + emitted * DV + dv, _mean(cache, t, value, dv, L, DV, TOKENS), mask=dv < DV)

    tl.debug_barrier()  # every thread has read the length
    if tl.atomic_add(arrived + b, 1) == G * PROGRAMS - 1:
        tl.store(arrived + b, 0)
        tl.store(seq_lens + b, length + 1, mask=room)


def append(made: Token, shape: NsaShape) -> tuple[torch.Tensor, torch.Tensor]:
    """Append the new token of each sequence; see nsa.kernels.step.StepParts -> q [B, G, h, D], gates [B, G, h, 3]."""
    B, G, h, D, Dv = len(made.seq_lens), shape.groups, shape.heads_per_group, shape.head_dim, shape.value_dim
    q, gates = made.projected.new_empty(B, G, h, D), made.projected.new_empty(B, G, h, 3)
    overlap = overlaps(q.device)
    with on(q.device):
        token[(B, G, PROGRAMS.value)](
            *made[:-1],
            *(q, gates, h, made.k.shape[3], made.k_cmp.shape[2]),
            D=D,
            DV=Dv,
            D_PADDED=padded(D),
            DV_PADDED=padded(Dv),
            HEADS_PADDED=triton.next_power_of_2(h),
            GATES_PADDED=triton.next_power_of_2(3 * h),
            L=shape.cmp_block,
            STRIDE=shape.cmp_stride,
            EMIT=shape.phi == "mean",
            TOKENS=min(TOKENS, triton.next_power_of_2(shape.cmp_block)),
            OVERLAP=overlap,
            num_warps=4,
            launch_pdl=overlap,
        )
    if shape.phi == "mlp":
        _emit_learned(made, shape)
    return q, gates


def _emit_learned(made: Token, shape: NsaShape) -> None:
    """The compressed token of a learned phi, as torch operators: made at each step, kept where one is due."""
    S, l, d = made.seq_lens.long(), shape.cmp_block, shape.cmp_stride
    last = (S[:, None] - l + torch.arange(l, device=S.device)).clamp(min=0)  # [B, l]
    due = ((S >= l) & ((S - l) % d == 0))[:, None, None, None]
    place = ((S - l).clamp(min=0) // d)[:, None, None, None]
    for phi, cache, target in zip(made.phi, (made.k, made.v), (made.k_cmp, made.v_cmp), strict=True):
        B, G, _, width = target.shape
        block = cache[0].gather(2, last[:, None, :, None].expand(B, G, l, width))
        index = place.expand(B, G, 1, width)
        target.scatter_(2, index, torch.where(due, phi(block)[:, :, None], target.gather(2, index)))
