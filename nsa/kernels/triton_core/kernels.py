"""The device code of a decode core beside compressed attention and routing: two branches in one grid, and the sum.

Source: NSA (arXiv 2502.11089), section 3, Eq. 5, and 3.3.2 and 3.3.3; one program for all heads of a group.
"""
# mypy: disable-error-code="untyped-decorator, no-untyped-def"
# (device code: its types are Triton's)

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from nsa.kernels.parts.steps import fold, leave, queries, scored, selected_tokens, tile
from nsa.kernels.splits import HEADS, LOWEST, merged


@triton.jit(do_not_specialize=["i_b", "i_g", "i_n", "s_b", "heads", "n", "width", "win_splits", "chunk"])
def attend(
    q,  # [B, G, heads, D]
    k_win,  # [B, G, S, D], as the others; the unread ones of parts that are off
    v_win,  # [B, G, S, DV]
    k_sel,
    v_sel,
    indices,  # [B, G, n] int32
    seq_lens,  # [B] int32
    partial_o,  # [B, G, splits, heads, DV] float32, contiguous, the window's splits first
    partial_m,  # [B, G, splits, heads] float32: maxima of the scores
    partial_l,  # [B, G, splits, heads] float32: sums of the exponentials
    q_b,  # strides in elements: tensor_axis
    q_g,
    q_h,
    kw_b,
    kw_g,
    vw_b,
    vw_g,
    ks_b,
    ks_g,
    vs_b,
    vs_g,
    i_b,
    i_g,
    i_n,
    s_b,
    heads,
    n,
    width,  # w
    win_splits,
    chunk,  # steps of TOKENS tokens that one program takes
    scale,  # log2(e) / sqrt(D)
    KW_T: tl.constexpr,  # token strides
    VW_T: tl.constexpr,
    KS_T: tl.constexpr,
    VS_T: tl.constexpr,
    D: tl.constexpr,
    DV: tl.constexpr,
    D_PADDED: tl.constexpr,  # powers of two
    DV_PADDED: tl.constexpr,
    BLOCK: tl.constexpr,  # l'
    TOKENS: tl.constexpr,
    STAGES: tl.constexpr,
    WIN: tl.constexpr,
    SEL: tl.constexpr,
    ROUTED: tl.constexpr,  # the indices come from the launches before
    OVERLAP: tl.constexpr,  # programs of the window start while those launches still run
):
    """One program: the heads of one (sequence, group) over `chunk` steps of a branch. Grid [B, G, splits]."""
    b = tl.program_id(0).to(tl.int64)
    g = tl.program_id(1).to(tl.int64)
    split = tl.program_id(2)
    if OVERLAP:
        gdc_launch_dependents()
    seq_len = tl.load(seq_lens + b * s_b)
    q_tile = queries(q + b * q_b + g * q_g, q_h, heads, D, D_PADDED)
    m = tl.full([HEADS], LOWEST, tl.float32)
    l = tl.zeros([HEADS], tl.float32)
    acc = tl.zeros([HEADS, DV_PADDED], tl.float32)
    if WIN and split < win_splits:
        k_win += b * kw_b + g * kw_g
        v_win += b * vw_b + g * vw_g
        seen = tl.minimum(width, seq_len)
        last = tl.minimum((split + 1) * chunk, tl.cdiv(seen, TOKENS))
        for step in tl.range(split * chunk, last, num_stages=STAGES):
            offset = tl.arange(0, TOKENS)
            start = seq_len - seen + step * TOKENS
            live = offset < seq_len - start
            k_tile = tile(k_win, start, offset, live, KW_T, D, D_PADDED)
            v_tile = tile(v_win, start, offset, live, VW_T, DV, DV_PADDED)
            m, l, acc = fold(scored(q_tile, k_tile, scale), v_tile, live, m, l, acc)
    if OVERLAP and ROUTED:
        gdc_wait()
    if SEL and split >= win_splits:
        k_sel += b * ks_b + g * ks_g
        v_sel += b * vs_b + g * vs_g
        indices += b * i_b + g * i_g
        first = (split - win_splits) * chunk
        last = tl.minimum(first + chunk, tl.cdiv(n * BLOCK, TOKENS))
        for step in tl.range(first, last, num_stages=STAGES):
            start, offset = selected_tokens(indices, i_n, step, last, n, BLOCK, TOKENS)
            live = (start + offset >= 0) & (start + offset < seq_len)
            k_tile = tile(k_sel, start, offset, live, KS_T, D, D_PADDED)
            v_tile = tile(v_sel, start, offset, live, VS_T, DV, DV_PADDED)
            m, l, acc = fold(scored(q_tile, k_tile, scale), v_tile, live, m, l, acc)
    if OVERLAP and not ROUTED:
        gdc_wait()  # before it writes: no launch ends before those ahead, whose memory the allocator may give again
    part = (b * tl.num_programs(1) + g) * tl.num_programs(2) + split
    leave(partial_o, partial_m, partial_l, part, heads, m, l, acc, DV, DV_PADDED)


@triton.jit(
    do_not_specialize=["g_b", "g_g", "g_h", "g_3", "o_b", "o_g", "o_h", "heads", "cmp_splits", "win_splits", "splits"]
)
def gated_sum(
    cmp_o,  # of compressed attention: [B, G, cmp_splits, heads, DV] float32, contiguous
    cmp_m,
    cmp_l,
    partial_o,  # as `attend` leaves them: [B, G, splits, heads, DV]
    partial_m,
    partial_l,
    gates,  # [B, G, heads, 3]
    out,  # [B, G, heads, DV]
    g_b,  # strides in elements: tensor_axis
    g_g,
    g_h,
    g_3,
    o_b,
    o_g,
    o_h,
    heads,
    cmp_splits,
    win_splits,
    splits,
    DV: tl.constexpr,
    DV_PADDED: tl.constexpr,
    CMP: tl.constexpr,  # splits of each branch, padded to a power of two; 0: the branch is off
    WIN: tl.constexpr,
    SEL: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """One program: one head of one row, its branches' splits combined, gated and added (Eq. 5). Grid [B, G, heads]."""
    b = tl.program_id(0).to(tl.int64)
    g = tl.program_id(1).to(tl.int64)
    head = tl.program_id(2)
    row = b * tl.num_programs(1) + g
    gates += b * g_b + g * g_g + head.to(tl.int64) * g_h
    total = tl.zeros([DV_PADDED], tl.float32)
    if OVERLAP:
        gdc_wait()
    if CMP:
        o = merged(cmp_o, cmp_m, cmp_l, row * cmp_splits, cmp_splits, head, heads, DV, DV_PADDED, CMP)
        total += tl.load(gates).to(tl.float32) * o
    if SEL:
        first, count = row * splits + win_splits, splits - win_splits
        o = merged(partial_o, partial_m, partial_l, first, count, head, heads, DV, DV_PADDED, SEL)
        total += tl.load(gates + g_3).to(tl.float32) * o
    if WIN:
        o = merged(partial_o, partial_m, partial_l, row * splits, win_splits, head, heads, DV, DV_PADDED, WIN)
        total += tl.load(gates + 2 * g_3).to(tl.float32) * o
    dv = tl.arange(0, DV_PADDED)
    tl.store(out + b * o_b + g * o_g + head.to(tl.int64) * o_h + dv, total, mask=dv < DV)
