"""The window branch, and the gated sum of the branches, each in one launch beside the combination of its splits.

Source: NSA (arXiv 2502.11089), section 3, Eq. 5, and 3.3.3; one program for all heads of a group.
"""
# mypy: disable-error-code="untyped-decorator, no-untyped-def"
# (device code: its types are Triton's)

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from nsa.kernels.core import CMP, SEL, WIN
from nsa.kernels.parts.steps import fold, leave, queries, scored, tile
from nsa.kernels.splits import HEADS, LOWEST, launch_combine, on, overlaps, processors
from nsa.kernels.step import Lengths
from nsa.kernels.tiles import padded

TOKENS, STAGES, WARPS, PROGRAMS = 64, 2, 4, 2  # as of compressed attention (nsa/kernels/parts/host.py)
MAX_SPLITS = 64  # a combination holds them all at once


@triton.jit(do_not_specialize=["s_b", "heads", "width", "chunk"])
def attend_window(
    q,  # [B, G, heads, D]
    k,  # [B, G, S, D]
    v,  # [B, G, S, DV]
    seq_lens,  # [B]
    partial_o,  # [B, G, splits, heads, DV] float32, contiguous, as are the two below
    partial_m,  # [B, G, splits, heads] float32
    partial_l,  # [B, G, splits, heads] float32
    q_b,  # strides in elements
    q_g,
    q_h,
    k_b,
    k_g,
    v_b,
    v_g,
    s_b,
    heads,
    width,  # w
    chunk,  # steps of TOKENS tokens that one program takes
    scale,  # log2(e) / sqrt(D)
    K_T: tl.constexpr,  # token strides
    V_T: tl.constexpr,
    D: tl.constexpr,
    DV: tl.constexpr,
    D_PADDED: tl.constexpr,  # powers of two
    DV_PADDED: tl.constexpr,
    TOKENS: tl.constexpr,
    STAGES: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """One program: the heads of one (sequence, group) over `chunk` steps of the window. Grid [B, G, splits]."""
    b = tl.program_id(0).to(tl.int64)
    g = tl.program_id(1).to(tl.int64)
    split = tl.program_id(2)
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    seq_len = tl.load(seq_lens + b * s_b)
    q_tile = queries(q + b * q_b + g * q_g, q_h, heads, D, D_PADDED)
    k += b * k_b + g * k_g
    v += b * v_b + g * v_g
    m = tl.full([HEADS], LOWEST, tl.float32)
    l = tl.zeros([HEADS], tl.float32)
    acc = tl.zeros([HEADS, DV_PADDED], tl.float32)
    seen = tl.minimum(width, seq_len)
    last = tl.minimum((split + 1) * chunk, tl.cdiv(seen, TOKENS))
    for step in tl.range(split * chunk, last, num_stages=STAGES):
        offset = tl.arange(0, TOKENS)
        start = seq_len - seen + step * TOKENS
        live = offset < seq_len - start
        k_tile = tile(k, start, offset, live, K_T, D, D_PADDED)
        v_tile = tile(v, start, offset, live, V_T, DV, DV_PADDED)
        m, l, acc = fold(scored(q_tile, k_tile, scale), v_tile, live, m, l, acc)
    part = (b * tl.num_programs(1) + g) * tl.num_programs(2) + split
    leave(partial_o, partial_m, partial_l, part, heads, m, l, acc, DV, DV_PADDED)


@triton.jit
def gated_sum(
    gates,  # [rows, 3], contiguous: of a sequence's head
    cmp,  # [rows, DV], contiguous, as the others; unread where its branch is off
    sel,
    win,
    out,  # [rows, DV]
    DV: tl.constexpr,
    DV_PADDED: tl.constexpr,
    ON: tl.constexpr,  # of each branch, a bit
    OVERLAP: tl.constexpr,
):
    """One program: one head of one row (Eq. 5). Grid [B * G * heads]."""
    row = tl.program_id(0).to(tl.int64)
    dv = tl.arange(0, DV_PADDED)
    place = row * DV + dv
    total = tl.zeros([DV_PADDED], tl.float32)
    if OVERLAP:
        gdc_launch_dependents()  # the output projection loads its weight meanwhile
        gdc_wait()
    if ON & 1:
        total += tl.load(gates + row * 3).to(tl.float32) * tl.load(cmp + place, mask=dv < DV, other=0.0)
    if ON & 2:
        total += tl.load(gates + row * 3 + 1).to(tl.float32) * tl.load(sel + place, mask=dv < DV, other=0.0)
    if ON & 4:
        total += tl.load(gates + row * 3 + 2).to(tl.float32) * tl.load(win + place, mask=dv < DV, other=0.0)
    tl.store(out + place, total, mask=dv < DV)


def window_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Lengths, window: int) -> torch.Tensor:
    """Attention over the last tokens of each sequence; see nsa.kernels.step.StepParts."""
    (B, G, h, D), Dv = q.shape, v.shape[3]
    steps = max(1, triton.cdiv(min(window, lengths.longest), TOKENS))
    wanted = max(1, min(MAX_SPLITS, steps, triton.cdiv(PROGRAMS * processors(q.device), B * G)))
    chunk = triton.cdiv(steps, wanted)
    splits = triton.cdiv(steps, chunk)
    partial_o, partial_m, partial_l = (
        torch.empty(size, dtype=torch.float32, device=q.device)
        for size in ((B, G, splits, h, Dv), (B, G, splits, h), (B, G, splits, h))
    )
    o, overlap = torch.empty(B, G, h, Dv, dtype=q.dtype, device=q.device), overlaps(q.device)
    with on(q.device):
        attend_window[(B, G, splits)](
            *(q, k, v, lengths.seq_lens, partial_o, partial_m, partial_l),
            *(*q.stride()[:3], *k.stride()[:2], *v.stride()[:2], lengths.seq_lens.stride(0)),
            *(h, window, chunk, math.log2(math.e) / math.sqrt(D)),
            K_T=k.stride(2),
            V_T=v.stride(2),
            D=D,
            DV=Dv,
            D_PADDED=padded(D),
            DV_PADDED=padded(Dv),
            TOKENS=TOKENS,
            STAGES=STAGES,
            OVERLAP=overlap,
            num_warps=WARPS,
            launch_pdl=overlap,
        )
        launch_combine(partial_o, partial_m, partial_l, o, overlap)
    return o


def summed(gates: torch.Tensor, outputs: dict[int, torch.Tensor], value_dim: int) -> torch.Tensor:
    """The gated sum of the branches that ran; see nsa.kernels.step.StepParts."""
    out = torch.empty(*gates.shape[:3], value_dim, dtype=gates.dtype, device=gates.device)
    branches = [outputs[branch].contiguous() if branch in outputs else out for branch in (CMP, SEL, WIN)]
    overlap = overlaps(out.device)
    with on(out.device):
        gated_sum[(out.shape[:3].numel(),)](
            *(gates.contiguous(), *branches, out),
            DV=out.shape[3],
            DV_PADDED=padded(out.shape[3]),
            ON=sum(1 << branch for branch in outputs),
            OVERLAP=overlap,
            num_warps=1,
            launch_pdl=overlap,
        )
    return out
