"""The device code of compressed attention, which leaves what routing needs: its scores, or their sums by blocks.

Source: NSA (arXiv 2502.11089), Eq. 7 to 9; one program for all heads of a group, so that K_cmp is read once.
Scores are in units of log2(e), so that exponentials are powers of two.
"""
# mypy: disable-error-code="untyped-decorator, no-untyped-def"
# (device code: its types are Triton's)

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents

from nsa.kernels.parts.steps import add, fold, leave, power, queries, scored, tile
from nsa.kernels.splits import HEADS, LOWEST

NOTHING, SCORES, SUMS = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)  # what is kept for routing


@triton.jit
def compressed(seq_len, L: tl.constexpr, STRIDE: tl.constexpr):
    """S_cmp: compressed tokens of a sequence of so many tokens."""
    return tl.where(seq_len < L, 0, (seq_len - L) // STRIDE + 1)


@triton.jit
def _leave_sums(
    sums,
    spill,
    exponent,
    step,
    written,
    heads,
    p,
    m,
    COVER: tl.constexpr,
    CELLS: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """Store a step's sums of exponentials p [HEADS, TOKENS] by blocks of CELLS tokens, for the first `written` heads.

    A token weighs in its block by how much of its COVER cells lies there (Eq. 9), and gives the rest to the next block:
    in `spill` what the step's last block gives. All is relative to `exponent`, whole numbers m [HEADS]: bringing sums
    to another is exact, so that equal blocks stay equal.
    """
    BLOCKS: tl.constexpr = TOKENS // CELLS
    head = tl.arange(0, HEADS)
    block = tl.arange(0, BLOCKS)
    own = tl.minimum(CELLS - tl.arange(0, CELLS), COVER)
    cells = tl.reshape(p, [HEADS, BLOCKS, CELLS])
    found = tl.sum(cells * (own * (1.0 / COVER))[None, None, :], 2)
    given = tl.sum(cells * ((COVER - own) * (1.0 / COVER))[None, None, :], 2)
    before = tl.broadcast_to(tl.maximum(block - 1, 0)[None, :], [HEADS, BLOCKS])
    found += tl.where(block[None, :] > 0, tl.gather(given, before, 1), 0.0)
    live = head[:, None] < written
    behind = tl.broadcast_to((step * heads + head)[:, None], [HEADS, BLOCKS])
    tl.store(spill + behind, given, mask=live & (block[None, :] == BLOCKS - 1))
    tl.store(sums + (step * BLOCKS + block)[None, :] * heads + head[:, None], found, mask=live)
    tl.store(exponent + step * heads + head, m, mask=head < written)


@triton.jit(do_not_specialize=["s_b", "longest", "chunk"])  # strides are: a multiple of 16 gives wide loads
def attend(
    q,  # [B, G, heads, D]
    k,  # [B, G, M, D]: compressed keys
    v,  # [B, G, M, DV]
    seq_lens,  # [B]
    scores,  # [B, G, longest, heads] float32, contiguous: written with KEEP = SCORES
    sums,  # [B, G, steps, TOKENS / CELLS, heads] float32, contiguous: written with KEEP = SUMS, as the two below
    spill,  # [B, G, steps, heads]
    exponent,  # [B, G, steps, heads]
    partial_o,  # [B, G, splits, heads, DV] float32, contiguous, as are the two below
    partial_m,  # [B, G, splits, heads] float32: maxima of the scores
    partial_l,  # [B, G, splits, heads] float32: sums of the exponentials
    q_b,  # strides in elements: tensor_axis
    q_g,
    q_h,
    k_b,
    k_g,
    v_b,
    v_g,
    s_b,
    heads,
    longest,  # compressed tokens of the longest sequence
    chunk,  # steps of TOKENS compressed tokens that one program takes
    scale,  # log2(e) / sqrt(D)
    K_T: tl.constexpr,  # token strides
    V_T: tl.constexpr,
    D: tl.constexpr,
    DV: tl.constexpr,
    D_PADDED: tl.constexpr,  # powers of two
    DV_PADDED: tl.constexpr,
    L: tl.constexpr,  # tokens of a compression block
    STRIDE: tl.constexpr,  # d
    CELLS: tl.constexpr,  # l' / d, a power of two; read with KEEP = SUMS
    TOKENS: tl.constexpr,
    STAGES: tl.constexpr,
    KEEP: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """One program: the heads of one (sequence, group) over `chunk` steps. Grid [B, G, splits]."""
    b = tl.program_id(0).to(tl.int64)
    g = tl.program_id(1).to(tl.int64)
    split = tl.program_id(2)
    row = b * tl.num_programs(1) + g
    if OVERLAP:
        gdc_launch_dependents()
    count = compressed(tl.load(seq_lens + b * s_b), L, STRIDE)
    q_tile = queries(q + b * q_b + g * q_g, q_h, heads, D, D_PADDED)
    head = tl.arange(0, HEADS)
    k += b * k_b + g * k_g
    v += b * v_b + g * v_g
    scores += row * longest * heads
    steps = row * tl.cdiv(longest, TOKENS)  # of the rows before this one
    sums += steps * (TOKENS // CELLS) * heads
    spill += steps * heads
    exponent += steps * heads
    m = tl.full([HEADS], LOWEST, tl.float32)
    l = tl.zeros([HEADS], tl.float32)
    acc = tl.zeros([HEADS, DV_PADDED], tl.float32)
    p = tl.zeros([HEADS, TOKENS], tl.float32)
    first = split * chunk
    last = tl.minimum(first + chunk, tl.cdiv(count, TOKENS))
    for step in tl.range(first, last, num_stages=STAGES):
        if KEEP == SUMS:  # of the step before, while this one's tokens are on their way
            written = tl.where(step > first, heads, 0)
            _leave_sums(sums, spill, exponent, step - 1, written, heads, p, m, L // STRIDE, CELLS, TOKENS)
        offset = tl.arange(0, TOKENS)
        token = step * TOKENS + offset
        live = token < count
        k_tile = tile(k, step * TOKENS, offset, live, K_T, D, D_PADDED)
        v_tile = tile(v, step * TOKENS, offset, live, V_T, DV, DV_PADDED)
        s = scored(q_tile, k_tile, scale)  # [HEADS, TOKENS]
        if KEEP == SCORES:
            tl.store(scores + token[None, :] * heads + head[:, None], s, mask=(head[:, None] < heads) & live[None, :])
        if KEEP == SUMS:
            s = tl.where(live[None, :], s, float("-inf"))
            m_new = tl.maximum(m, tl.ceil(tl.max(s, 1)))
            whole = tl.floor(s)  # apart: a score gives the same fraction whatever it is relative to
            p = tl.where(live[None, :], tl.exp2(s - whole) * power(whole - m_new[:, None]), 0.0)
            l, acc = add(p, v_tile, tl.exp2(m - m_new), l, acc)
            m = m_new
        else:
            m, l, acc = fold(s, v_tile, live, m, l, acc)
    if KEEP == SUMS:
        written = tl.where(last > first, heads, 0)
        _leave_sums(sums, spill, exponent, last - 1, written, heads, p, m, L // STRIDE, CELLS, TOKENS)
    part = row * tl.num_programs(2) + split
    leave(partial_o, partial_m, partial_l, part, heads, m, l, acc, DV, DV_PADDED)
