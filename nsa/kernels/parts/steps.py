"""Device code that attention kernels share: tokens of selected blocks, a step of online softmax, what is left of it.

Source: online softmax and the split over tokens as in FlashAttention-2 and Flash-Decoding; scores are in units of
log2(e), so that exponentials are powers of two.
"""
# mypy: disable-error-code="untyped-decorator, no-untyped-def"
# (device code: its types are Triton's)

import triton
import triton.language as tl

from nsa.kernels.splits import HEADS


@triton.jit
def selected_tokens(indices, index_stride, step, last, n, BLOCK: tl.constexpr, TOKENS: tl.constexpr):
    """Positions of a step's tokens as a start and offsets [TOKENS]; a negative sum is no token, nor is step = last."""
    if BLOCK % TOKENS == 0:  # within one block: a scalar look-up, and the offsets are known when it is compiled
        place = tl.cast(step // (BLOCK // TOKENS), tl.int64) * index_stride
        block = tl.load(indices + place, mask=step < last, other=-1)
        return block * BLOCK + step % (BLOCK // TOKENS) * TOKENS, tl.arange(0, TOKENS)
    else:
        slot = step * TOKENS + tl.arange(0, TOKENS)
        exists = slot < tl.minimum(n * BLOCK, last * TOKENS)
        block = tl.load(indices + (slot // BLOCK).to(tl.int64) * index_stride, mask=exists, other=-1)
        return 0, block * BLOCK + slot % BLOCK


@triton.jit
def tile(cache, start, offset, live, STRIDE: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Load K or V [TOKENS, PADDED] from a row's cache, zero where there is no token: what lies there may be NaN.

    Each byte is used once in a step: evicted first, it leaves in the L2 what others need.
    """
    column = tl.arange(0, PADDED)
    mask = live[:, None] if WIDTH == PADDED else live[:, None] & (column[None, :] < WIDTH)
    place = offset.to(tl.int64)[:, None] * STRIDE + column[None, :]
    cache += tl.cast(start, tl.int64) * STRIDE
    return tl.load(cache + place, mask=mask, other=0.0, eviction_policy="evict_first")


@triton.jit
def queries(q, head_stride, heads, D: tl.constexpr, D_PADDED: tl.constexpr):
    """The queries [HEADS, D_PADDED] of a row, zero where there is no head."""
    head = tl.arange(0, HEADS)
    d = tl.arange(0, D_PADDED)
    place = head.to(tl.int64)[:, None] * head_stride + d[None, :]
    return tl.load(q + place, mask=(head[:, None] < heads) & (d[None, :] < D), other=0.0)


@triton.jit
def scored(q_tile, k_tile, scale):
    """Scores [HEADS, TOKENS]; scale is log2(e) / sqrt(D)."""
    return tl.dot(q_tile, tl.trans(k_tile), input_precision="ieee") * scale


@triton.jit
def fold(s, v_tile, live, m, l, acc):
    """Fold a step's scores and values into maxima m, sums l [HEADS] and weighted values acc [HEADS, DV_PADDED]."""
    s = tl.where(live[None, :], s, float("-inf"))
    m_new = tl.maximum(m, tl.max(s, 1))
    l, acc = add(tl.exp2(s - m_new[:, None]), v_tile, tl.exp2(m - m_new), l, acc)
    return m_new, l, acc


@triton.jit
def add(p, v_tile, decay, l, acc):
    """Add exponentials p [HEADS, TOKENS] and the values they weigh; `decay` [HEADS] brings l and acc to their base."""
    acc = tl.dot(p.to(v_tile.dtype), v_tile, acc * decay[:, None], input_precision="ieee")
    return l * decay + tl.sum(p, 1), acc


@triton.jit
def power(k):
    """2 to the power of whole numbers k <= 127, exactly; below -126 zero."""
    return ((tl.maximum(k, -127.0).to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def leave(partial_o, partial_m, partial_l, part, heads, m, l, acc, DV: tl.constexpr, DV_PADDED: tl.constexpr):
    """Store one split of one row, for a combination: partial_o [.., heads, DV], partial_m, partial_l [.., heads]."""
    head = tl.arange(0, HEADS)
    dv = tl.arange(0, DV_PADDED)
    tl.store(partial_m + part * heads + head, m, mask=head < heads)
    tl.store(partial_l + part * heads + head, l, mask=head < heads)
    place = (part * heads + head)[:, None] * DV + dv[None, :]
    tl.store(partial_o + place, acc, mask=(head[:, None] < heads) & (dv[None, :] < DV))
