"""The device code: selected attention, its tokens split over programs.

Source: NSA (arXiv 2502.11089) section 3.4, one program for all heads of a group, so that each K and V is read once;
online softmax and the split over tokens as in FlashAttention-2 and Flash-Decoding.
"""
# mypy: disable-error-code="untyped-decorator, no-untyped-def"
# (device code: its types are Triton's)

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents

from nsa.kernels.parts.steps import selected_tokens, tile
from nsa.kernels.splits import HEADS, LOWEST


@triton.jit(do_not_specialize=["i_b", "i_g", "i_n", "s_b", "heads", "n", "chunk"])
def attend(
    q,  # [B, G, heads, D]
    k,  # [B, G, S_max, D]
    v,  # [B, G, S_max, DV]
    indices,  # [B, G, n]
    seq_lens,  # [B]
    o,  # [B, G, heads, DV], contiguous: written without splits
    partial_o,  # [B, G, splits, heads, DV] float32, contiguous: written with splits, as are the two below
    partial_m,  # [B, G, splits, heads] float32: maxima of the scores
    partial_l,  # [B, G, splits, heads] float32: sums of the exponentials
    q_b,  # strides in elements: tensor_axis
    q_g,
    q_h,
    k_b,
    k_g,
    v_b,
    v_g,
    i_b,
    i_g,
    i_n,
    s_b,
    heads,
    n,
    chunk,  # steps of TOKENS tokens that one program takes
    scale,  # log2(e) / sqrt(D): exponentials are powers of two
    K_T: tl.constexpr,  # token strides: known, they become immediate offsets of the loads
    V_T: tl.constexpr,
    D: tl.constexpr,
    DV: tl.constexpr,
    D_PADDED: tl.constexpr,  # powers of two
    DV_PADDED: tl.constexpr,
    BLOCK: tl.constexpr,  # l'
    TOKENS: tl.constexpr,
    PREFETCH: tl.constexpr,  # load K and V of the next step as soon as this step has used its own
    SPLIT: tl.constexpr,
    OVERLAP: tl.constexpr,  # let `combine` start its launch now; it waits for the data
):
    """One program: the heads of one (sequence, group) over `chunk` steps. Grid [B, G, splits]."""
    b = tl.program_id(0)
    g = tl.program_id(1)
    split = tl.program_id(2)
    b64 = b.to(tl.int64)
    g64 = g.to(tl.int64)
    first = split * chunk
    last = tl.minimum(first + chunk, tl.cdiv(n * BLOCK, TOKENS))
    indices += b64 * i_b + g64 * i_g
    k += b64 * k_b + g64 * k_g
    v += b64 * v_b + g64 * v_g
    seq_len = tl.load(seq_lens + b64 * s_b)
    if OVERLAP:
        gdc_launch_dependents()
    if PREFETCH:
        start, offset = selected_tokens(indices, i_n, first, last, n, BLOCK, TOKENS)
        live = (start + offset >= 0) & (start + offset < seq_len)
        k_tile = tile(k, start, offset, live, K_T, D, D_PADDED)
        v_tile = tile(v, start, offset, live, V_T, DV, DV_PADDED)

    head = tl.arange(0, HEADS)
    d = tl.arange(0, D_PADDED)
    q_mask = (head[:, None] < heads) & (d[None, :] < D)
    q_row = b64 * q_b + g64 * q_g + head.to(tl.int64)[:, None] * q_h
    q_tile = tl.load(q + q_row + d[None, :], mask=q_mask, other=0.0)
    m = tl.full([HEADS], LOWEST, tl.float32)
    l = tl.zeros([HEADS], tl.float32)
    acc = tl.zeros([HEADS, DV_PADDED], tl.float32)
    for step in tl.range(first, last, num_stages=1):  # cp.async, which more stages mean, has no eviction policy
        if not PREFETCH:
            start, offset = selected_tokens(indices, i_n, step, last, n, BLOCK, TOKENS)
            live = (start + offset >= 0) & (start + offset < seq_len)
            k_tile = tile(k, start, offset, live, K_T, D, D_PADDED)
            v_tile = tile(v, start, offset, live, V_T, DV, DV_PADDED)
        s = tl.dot(q_tile, tl.trans(k_tile), input_precision="ieee") * scale  # [HEADS, TOKENS]
        s = tl.where(live[None, :], s, float("-inf"))
        if PREFETCH:
            start, offset = selected_tokens(indices, i_n, step + 1, last, n, BLOCK, TOKENS)
            live = (start + offset >= 0) & (start + offset < seq_len)
            k_tile = tile(k, start, offset, live, K_T, D, D_PADDED)
        m_new = tl.maximum(m, tl.max(s, 1))
        p = tl.exp2(s - m_new[:, None])
        decay = tl.exp2(m - m_new)
        m = m_new
        l = l * decay + tl.sum(p, 1)
        acc = tl.dot(p.to(v_tile.dtype), v_tile, acc * decay[:, None], input_precision="ieee")
        if PREFETCH:
            v_tile = tile(v, start, offset, live, V_T, DV, DV_PADDED)

    row = b64 * tl.num_programs(1) + g
    dv = tl.arange(0, DV_PADDED)
    o_mask = (head[:, None] < heads) & (dv[None, :] < DV)
    place = head[:, None] * DV + dv[None, :]
    if SPLIT:
        part = (row * tl.num_programs(2) + split) * heads
        tl.store(partial_o + part * DV + place, acc, mask=o_mask)
        tl.store(partial_m + part + head, m, mask=head < heads)
        tl.store(partial_l + part + head, l, mask=head < heads)
    else:
        tl.store(o + row * heads * DV + place, acc / tl.where(l > 0, l, 1.0)[:, None], mask=o_mask)  # no token: zero
