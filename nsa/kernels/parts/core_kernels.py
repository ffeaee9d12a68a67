"""The device code of the decode core's second half: selected and window attention in one launch, and the gated sum.

Source: NSA (arXiv 2502.11089), Eq. 5 and section 3.3.3; splits over tokens as in Flash-Decoding.
"""
# mypy: disable-error-code="untyped-decorator, no-untyped-def"
# (device code: its types are Triton's)

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from nsa.kernels.parts.kernels import HEADS, LOWEST


@triton.jit(do_not_specialize=["i_b", "i_g", "i_n", "s_b", "heads", "n", "window", "chunk", "selected"])
def attend_selected_and_window(
    q,  # [B, G, heads, D]
    k,  # [3, B, G, S_max, D]: the branches' keys, in the order cmp, sel, win
    v,  # [3, B, G, S_max, DV]
    indices,  # [B, G, n]
    seq_lens,  # [B]
    partial_o,  # [B, G, splits, heads, DV] float32, contiguous
    partial_m,  # [B, G, splits, heads] float32
    partial_l,  # [B, G, splits, heads] float32
    q_b,  # strides in elements: tensor_axis
    q_g,
    q_h,
    k_x,  # from branch to branch
    k_b,
    k_g,
    v_x,
    v_b,
    v_g,
    i_b,
    i_g,
    i_n,
    s_b,
    heads,
    n,
    window,
    chunk,  # steps of TOKENS tokens that one program takes
    selected,  # programs of the selected branch; those after them are the window's
    scale,  # log2(e) / sqrt(D)
    K_T: tl.constexpr,
    V_T: tl.constexpr,
    D: tl.constexpr,
    DV: tl.constexpr,
    D_PADDED: tl.constexpr,
    DV_PADDED: tl.constexpr,
    BLOCK: tl.constexpr,
    TOKENS: tl.constexpr,
    STAGES: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """One program: the heads of one (sequence, group) over `chunk` steps of one branch. Grid [B, G, splits]."""
    b = tl.program_id(0).to(tl.int64)
    g = tl.program_id(1).to(tl.int64)
    split = tl.program_id(2)
    row = b * tl.num_programs(1) + g
    is_selected = split < selected
    branch = tl.where(is_selected, 1, 2).to(tl.int64)
    seq_len = tl.load(seq_lens + b * s_b)
    first = tl.where(is_selected, split, split - selected) * chunk
    seen = tl.minimum(window, seq_len)
    tokens = tl.where(is_selected, n * BLOCK, seen)
    named = tl.where(is_selected, tokens, 0)  # by block_indices
    last = tl.minimum(first + chunk, tl.cdiv(tokens, TOKENS))
    indices += b * i_b + g * i_g
    k += branch * k_x + b * k_b + g * k_g
    v += branch * v_x + b * v_b + g * v_g
    head = tl.arange(0, HEADS)
    d = tl.arange(0, D_PADDED)
    dv = tl.arange(0, DV_PADDED)
    q_place = b * q_b + g * q_g + head.to(tl.int64)[:, None] * q_h + d[None, :]
    q_tile = tl.load(q + q_place, mask=(head[:, None] < heads) & (d[None, :] < D), other=0.0)
    m = tl.full([HEADS], LOWEST, tl.float32)
    l = tl.zeros([HEADS], tl.float32)
    acc = tl.zeros([HEADS, DV_PADDED], tl.float32)
    if OVERLAP:
        gdc_launch_dependents()
        if is_selected:  # the window needs nothing of the launch before
            gdc_wait()
    for step in tl.range(first, last, num_stages=STAGES):
        slot = step * TOKENS + tl.arange(0, TOKENS)
        block = tl.load(indices + slot // BLOCK * i_n, mask=slot < named, other=-1)
        in_block = tl.where(block >= 0, block * BLOCK + slot % BLOCK, seq_len)
        token = tl.where(is_selected, in_block, seq_len - seen + slot)
        live = token < seq_len
        place = token.to(tl.int64)[:, None]
        k_tile = tl.load(k + place * K_T + d[None, :], mask=live[:, None] & (d[None, :] < D), other=0.0)
        v_tile = tl.load(v + place * V_T + dv[None, :], mask=live[:, None] & (dv[None, :] < DV), other=0.0)
        s = tl.dot(q_tile, tl.trans(k_tile), input_precision="ieee") * scale  # [HEADS, TOKENS]
        s = tl.where(live[None, :], s, float("-inf"))
        m_new = tl.maximum(m, tl.max(s, 1))
        p = tl.exp2(s - m_new[:, None])
        decay = tl.exp2(m - m_new)
        m = m_new
        l = l * decay + tl.sum(p, 1)
        acc = tl.dot(p.to(v_tile.dtype), v_tile, acc * decay[:, None], input_precision="ieee")
    part = (row * tl.num_programs(2) + split) * heads
    place = head[:, None] * DV + dv[None, :]
    tl.store(partial_m + part + head, m, mask=head < heads)
    tl.store(partial_l + part + head, l, mask=head < heads)
    tl.store(partial_o + part * DV + place, acc, mask=(head[:, None] < heads) & (dv[None, :] < DV))


@triton.jit
def _branch(
    partial_o,
    partial_m,
    partial_l,
    row,
    head,
    heads,
    of,  # splits that a row has
    first,  # of the branch
    count,
    dv,
    DV: tl.constexpr,
    SPLITS_PADDED: tl.constexpr,
):
    """One branch's output [DV_PADDED] from its splits, in a fixed order; zero without any token."""
    split = tl.arange(0, SPLITS_PADDED)
    part = (row * of + first + split) * heads + head
    exists = split < count
    m = tl.load(partial_m + part, mask=exists, other=LOWEST)
    l = tl.load(partial_l + part, mask=exists, other=0.0)
    o_place = part.to(tl.int64)[:, None] * DV + dv[None, :]
    acc = tl.load(partial_o + o_place, mask=exists[:, None] & (dv[None, :] < DV), other=0.0)
    weight = tl.exp2(m - tl.max(m, 0))
    total = tl.sum(weight * l, 0)
    return tl.sum(acc * weight[:, None], 0) / tl.where(total > 0, total, 1.0)


@triton.jit(do_not_specialize=["heads", "cmp_splits", "splits", "selected"])
def gated_sum(
    cmp_o,  # [B, G, cmp_splits, heads, DV] float32, contiguous, with the two below: of the compressed branch
    cmp_m,
    cmp_l,
    partial_o,  # [B, G, splits, heads, DV] float32, contiguous, with the two below: selected, then window
    partial_m,
    partial_l,
    gates,  # [B, G, heads, 3], contiguous
    o,  # [B, G, heads, DV], contiguous
    heads,
    cmp_splits,  # 0: the branch is off
    splits,
    selected,
    DV: tl.constexpr,
    DV_PADDED: tl.constexpr,
    CMP_PADDED: tl.constexpr,  # powers of two, at least so many splits
    SELECTED_PADDED: tl.constexpr,
    WINDOW_PADDED: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """One program: one head of one row. Grid [B * G, heads]."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    dv = tl.arange(0, DV_PADDED)
    gate = gates + (row * heads + head) * 3
    g_cmp, g_sel, g_win = (
        tl.load(gate).to(tl.float32),
        tl.load(gate + 1).to(tl.float32),
        tl.load(gate + 2).to(tl.float32),
    )
    if OVERLAP:
        gdc_wait()
    out = tl.zeros([DV_PADDED], tl.float32)
    if cmp_splits > 0:
        out += g_cmp * _branch(
            *(cmp_o, cmp_m, cmp_l, row, head, heads, cmp_splits, 0, cmp_splits, dv),
            DV=DV,
            SPLITS_PADDED=CMP_PADDED,
        )
    out += g_sel * _branch(
        *(partial_o, partial_m, partial_l, row, head, heads, splits, 0, selected, dv),
        DV=DV,
        SPLITS_PADDED=SELECTED_PADDED,
    )
    out += g_win * _branch(
        *(partial_o, partial_m, partial_l, row, head, heads, splits, selected, splits - selected, dv),
        DV=DV,
        SPLITS_PADDED=WINDOW_PADDED,
    )
    tl.store(o + (row * heads + head) * DV + dv, out, mask=dv < DV)
