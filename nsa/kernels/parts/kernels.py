"""The device code: compressed attention that keeps its scores, block importance, and the exact choice of blocks.

Source: NSA (arXiv 2502.11089), Eq. 7 to 12; one program for all heads of a group, so that K_cmp is read once.
Scores are in units of log2(e), so that exponentials are powers of two.
"""
# mypy: disable-error-code="untyped-decorator, no-untyped-def"
# (device code: its types are Triton's)

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from nsa.kernels.parts.steps import fold, leave, queries, scored, tile
from nsa.kernels.splits import HEADS, LOWEST

ALWAYS = tl.constexpr((1 << 31) - 1)  # above the bits of any finite float32 score


@triton.jit
def _compressed(seq_len, L: tl.constexpr, STRIDE: tl.constexpr):
    """S_cmp: compressed tokens of a sequence of so many tokens."""
    return tl.where(seq_len < L, 0, (seq_len - L) // STRIDE + 1)


@triton.jit(do_not_specialize=["s_b", "longest", "chunk"])  # strides are: a multiple of 16 gives wide loads
def attend(
    q,  # [B, G, heads, D]
    k,  # [B, G, M, D]: compressed keys
    v,  # [B, G, M, DV]
    seq_lens,  # [B]
    scores,  # [B, G, longest, heads] float32, contiguous: written with KEEP
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
    count = _compressed(tl.load(seq_lens + b * s_b), L, STRIDE)
    q_tile = queries(q + b * q_b + g * q_g, q_h, heads, D, D_PADDED)
    head = tl.arange(0, HEADS)
    k += b * k_b + g * k_g
    v += b * v_b + g * v_g
    scores += row * longest * heads
    m = tl.full([HEADS], LOWEST, tl.float32)
    l = tl.zeros([HEADS], tl.float32)
    acc = tl.zeros([HEADS, DV_PADDED], tl.float32)
    last = tl.minimum((split + 1) * chunk, tl.cdiv(count, TOKENS))
    for step in tl.range(split * chunk, last, num_stages=STAGES):
        offset = tl.arange(0, TOKENS)
        token = step * TOKENS + offset
        live = token < count
        k_tile = tile(k, step * TOKENS, offset, live, K_T, D, D_PADDED)
        v_tile = tile(v, step * TOKENS, offset, live, V_T, DV, DV_PADDED)
        s = scored(q_tile, k_tile, scale)  # [HEADS, TOKENS]
        if KEEP:
            tl.store(scores + token[None, :] * heads + head[:, None], s, mask=(head[:, None] < heads) & live[None, :])
        m, l, acc = fold(s, v_tile, live, m, l, acc)
    part = row * tl.num_programs(2) + split
    leave(partial_o, partial_m, partial_l, part, heads, m, l, acc, DV, DV_PADDED)


@triton.jit
def _mass(
    scores,
    partial_m,
    partial_l,
    row,
    count,
    block,
    heads,
    longest,
    splits,
    WIDTH: tl.constexpr,
    COVER: tl.constexpr,
    CELLS: tl.constexpr,
    SPLITS_PADDED: tl.constexpr,
):
    """Importance of some blocks, summed over the heads of a row (Eq. 9 and 10); in one order at every block, so that
    equal probabilities give equal importance.
    """
    head = tl.arange(0, HEADS)
    split = tl.arange(0, SPLITS_PADDED)
    part = (row * splits + split)[:, None] * heads + head[None, :]
    exists = (split < splits)[:, None] & (head < heads)[None, :]
    m = tl.load(partial_m + part, mask=exists, other=LOWEST)
    l = tl.load(partial_l + part, mask=exists, other=0.0)
    top = tl.max(m, 0)  # [HEADS]
    total = tl.sum(tl.exp2(m - top[None, :]) * l, 0)
    share = 1.0 / tl.where(total > 0, total, 1.0)
    scores += row * longest * heads
    mass = tl.zeros([WIDTH, HEADS], tl.float32)
    for offset in tl.static_range(CELLS + COVER - 1):
        cells = min(offset + 1, COVER, CELLS, CELLS + COVER - 1 - offset)  # of this token's COVER in the block
        token = block * CELLS - (COVER - 1) + offset
        live = (token >= 0) & (token < count)
        place = token[:, None] * heads + head[None, :]
        s = tl.load(scores + place, mask=live[:, None] & (head < heads)[None, :], other=float("-inf"))
        mass += tl.exp2(s - top[None, :]) * (cells / COVER)
    return tl.sum(mass * share[None, :], 1)


@triton.jit(do_not_specialize=["s_b", "longest", "splits", "blocks"])
def weigh(
    scores,  # as `attend` writes them
    partial_m,
    partial_l,
    seq_lens,  # [B]
    importance,  # [B, G, blocks] float32, contiguous
    s_b,
    heads,
    longest,
    splits,
    blocks,
    L: tl.constexpr,
    STRIDE: tl.constexpr,
    BLOCK: tl.constexpr,  # l'
    WIDTH: tl.constexpr,  # blocks of one program
    SPLITS_PADDED: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """One program: the importance of WIDTH blocks of one row. Grid [B, G, chunks]."""
    b = tl.program_id(0).to(tl.int64)
    row = b * tl.num_programs(1) + tl.program_id(1)
    block = tl.program_id(2) * WIDTH + tl.arange(0, WIDTH)
    count = _compressed(tl.load(seq_lens + b * s_b), L, STRIDE)
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    found = _mass(
        *(scores, partial_m, partial_l, row, count, block, heads, longest, splits),
        WIDTH=WIDTH,
        COVER=L // STRIDE,
        CELLS=BLOCK // STRIDE,
        SPLITS_PADDED=SPLITS_PADDED,
    )
    tl.store(importance + row * blocks + block, found, mask=block < blocks)


@triton.jit(do_not_specialize=["s_b", "n", "blocks"])
def choose(
    importance,  # as `weigh` writes it; unread with EVERY
    seq_lens,  # [B]
    indices,  # [B, G, n] int32, contiguous
    s_b,
    n,
    blocks,
    BLOCK: tl.constexpr,  # l'
    PADDED: tl.constexpr,  # a power of two, at least blocks and CHOSEN
    CHOSEN: tl.constexpr,  # a power of two, at least n
    EVERY: tl.constexpr,  # there are no more than n blocks, whatever their importance
    OVERLAP: tl.constexpr,
):
    """One program: the blocks of one row, ascending, -1 at the end (Eq. 11 and 12). Grid [B, G].

    Score and index share one 64-bit key, so the order is total: equal scores, the lower index wins.
    """
    b = tl.program_id(0).to(tl.int64)
    row = b * tl.num_programs(1) + tl.program_id(1)
    seq_len = tl.load(seq_lens + b * s_b)
    rank = tl.arange(0, CHOSEN)
    if EVERY:
        chosen = tl.where(rank.to(tl.int64) * BLOCK < seq_len, rank, -1)
    else:
        block = tl.arange(0, PADDED)
        current = tl.cdiv(seq_len, BLOCK) - 1  # -1 of an empty sequence
        if OVERLAP:
            gdc_launch_dependents()
            gdc_wait()
        score = tl.load(importance + row * blocks + block, mask=block <= current, other=0.0)
        bits = score.to(tl.int32, bitcast=True)  # non-negative floats order as their bits do
        forced = (block == 0) | (block == current) | (block == current - 1)
        key = (tl.where(forced, ALWAYS, bits).to(tl.int64) << 32) | (PADDED - 1 - block).to(tl.int64)
        best = tl.topk(tl.where(block <= current, key, -1), CHOSEN)  # descending
        index = PADDED - 1 - (best & 0xFFFFFFFF).to(tl.int32)
        index = tl.sort(tl.where((best >= 0) & (rank < n), index, PADDED))
        chosen = tl.where(index < PADDED, index, -1)
    tl.store(indices + row * n + rank, chosen, mask=rank < n)
