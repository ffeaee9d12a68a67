"""The device code of routing: the importance of blocks, from what compressed attention left, and the exact choice.

Source: NSA (arXiv 2502.11089), Eq. 9 to 12.
"""
# mypy: disable-error-code="untyped-decorator, no-untyped-def"
# (device code: its types are Triton's)

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from nsa.kernels.parts.kernels import compressed
from nsa.kernels.parts.steps import power
from nsa.kernels.splits import HEADS, LOWEST

ALWAYS = tl.constexpr((1 << 31) - 1)  # above the bits of any finite float32 score


@triton.jit
def _softmax(partial_m, partial_l, row, heads, splits, SPLITS_PADDED: tl.constexpr):
    """The maximum of a row's scores, and one over the sum of the exponentials relative to it: [HEADS] each."""
    head = tl.arange(0, HEADS)
    split = tl.arange(0, SPLITS_PADDED)
    part = (row * splits + split)[:, None] * heads + head[None, :]
    exists = (split < splits)[:, None] & (head < heads)[None, :]
    m = tl.load(partial_m + part, mask=exists, other=LOWEST)
    l = tl.load(partial_l + part, mask=exists, other=0.0)
    top = tl.max(m, 0)
    total = tl.sum(tl.exp2(m - top[None, :]) * l, 0)
    return top, 1.0 / tl.where(total > 0, total, 1.0)


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
    top, share = _softmax(partial_m, partial_l, row, heads, splits, SPLITS_PADDED)
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
    count = compressed(tl.load(seq_lens + b * s_b), L, STRIDE)
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


@triton.jit
def _keys(score, block, current):
    """Score and index in one 64-bit key, so that the order is total: equal scores, the lower index wins; no block: -1.

    The first block, the current one and the one before it are above all others.
    """
    bits = score.to(tl.int32, bitcast=True)  # non-negative floats order as their bits do
    forced = (block == 0) | (block == current) | (block == current - 1)
    key = (tl.where(forced, ALWAYS, bits).to(tl.int64) << 32) | (block ^ ALWAYS).to(tl.int64)
    return tl.where(block <= current, key, -1)


@triton.jit(do_not_specialize=["s_b", "longest", "splits"])
def rank(
    sums,  # as `attend` writes them
    spill,
    exponent,
    partial_m,
    partial_l,
    seq_lens,  # [B]
    keys,  # [B, G, chunks, BEST] int64, contiguous
    s_b,
    heads,
    longest,
    splits,
    L: tl.constexpr,
    STRIDE: tl.constexpr,
    BLOCK: tl.constexpr,  # l'
    TOKENS: tl.constexpr,  # of a step of `attend`
    WIDTH: tl.constexpr,  # blocks of one program, a multiple of those of a step
    BEST: tl.constexpr,  # a power of two, at most WIDTH
    SPLITS_PADDED: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """One program: the keys of the BEST of WIDTH blocks of one row; all of them in any order. Grid [B, G, chunks]."""
    CELLS: tl.constexpr = BLOCK // STRIDE
    BLOCKS: tl.constexpr = TOKENS // CELLS  # of a step
    b = tl.program_id(0).to(tl.int64)
    row = b * tl.num_programs(1) + tl.program_id(1)
    first = tl.program_id(2) * WIDTH
    seq_len = tl.load(seq_lens + b * s_b)
    count = compressed(seq_len, L, STRIDE)
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    head = tl.arange(0, HEADS)
    top, share = _softmax(partial_m, partial_l, row, heads, splits, SPLITS_PADDED)
    steps = row * tl.cdiv(longest, TOKENS)  # of the rows before this one
    sums += steps * BLOCKS * heads
    spill += steps * heads
    exponent += steps * heads
    exists = (head < heads)[None, :]
    step = first // BLOCKS + tl.arange(0, WIDTH // BLOCKS)
    inner = tl.arange(0, BLOCKS)
    block = (step * BLOCKS)[:, None] + inner[None, :]
    live = (block * CELLS < count)[:, :, None] & exists[None, :, :]
    found = tl.load(sums + block[:, :, None] * heads + head[None, None, :], mask=live, other=0.0)
    place = step[:, None] * heads + head[None, :]
    base = tl.load(exponent + place, mask=(step * TOKENS < count)[:, None] & exists, other=LOWEST)
    mass = found * power(base - top[None, :])[:, None, :]
    if L > STRIDE:
        live = ((step > 0) & (step * TOKENS <= count))[:, None] & exists
        given = tl.load(spill + place - heads, mask=live, other=0.0)
        base = tl.load(exponent + place - heads, mask=live, other=LOWEST)
        mass += tl.where((inner == 0)[None, :, None], (given * power(base - top[None, :]))[:, None, :], 0.0)
    score = tl.reshape(tl.sum(mass * share[None, None, :], 2), [WIDTH])
    key = _keys(score, first + tl.arange(0, WIDTH), tl.cdiv(seq_len, BLOCK) - 1)
    if BEST < WIDTH:
        key = tl.topk(key, BEST)
    tl.store(keys + (row * tl.num_programs(2) + tl.program_id(2)) * BEST + tl.arange(0, BEST), key)


@triton.jit(do_not_specialize=["s_b", "n", "blocks"])
def choose(
    importance,  # [B, G, blocks] as `weigh` writes it; with KEYS as `rank`, [B, G, blocks] int64; unread with EVERY
    seq_lens,  # [B]
    indices,  # [B, G, n] int32, contiguous
    s_b,
    n,
    blocks,
    BLOCK: tl.constexpr,  # l'
    PADDED: tl.constexpr,  # a power of two, at least blocks and CHOSEN
    CHOSEN: tl.constexpr,  # a power of two, at least n
    EVERY: tl.constexpr,  # there are no more than n blocks, whatever their importance
    KEYS: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """One program: the blocks of one row, ascending, -1 at the end (Eq. 11 and 12). Grid [B, G]."""
    b = tl.program_id(0).to(tl.int64)
    row = b * tl.num_programs(1) + tl.program_id(1)
    seq_len = tl.load(seq_lens + b * s_b)
    place = tl.arange(0, CHOSEN)
    if EVERY:
        chosen = tl.where(place.to(tl.int64) * BLOCK < seq_len, place, -1)
    else:
        block = tl.arange(0, PADDED)
        current = tl.cdiv(seq_len, BLOCK) - 1  # -1 of an empty sequence
        if OVERLAP:
            gdc_launch_dependents()
            gdc_wait()
        if KEYS:
            key = tl.load(importance + row * blocks + block, mask=block < blocks, other=-1)
        else:
            key = _keys(tl.load(importance + row * blocks + block, mask=block <= current, other=0.0), block, current)
        best = tl.topk(key, CHOSEN)  # descending
        index = (best & 0xFFFFFFFF).to(tl.int32) ^ ALWAYS
        index = tl.sort(tl.where((best >= 0) & (place < n), index, ALWAYS))
        chosen = tl.where(index < ALWAYS, index, -1)
    tl.store(indices + row * n + place, chosen, mask=place < n)
