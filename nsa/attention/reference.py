"""The float64 oracle: NSA decoding written as the paper states it, slow and independent of every other module.

Source: Native Sparse Attention (arXiv 2502.11089), section 3, and docs/layer.md#what-the-paper-leaves-open.
It is the judge of every backend, so it imports nothing of this package and trades speed for loops that can be read.
Symbols: S tokens in the cache with the current one, at position t = S - 1; G groups of h query heads, H = G * h;
D and Dv, the head dimensions of q/k and of v; l and d, compression block and stride; l', selection block;
n, blocks selected; w, window; S_cmp compressed tokens; S_blk selection blocks, the last one possibly partial.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ROPE_BASE = 10000.0
CMP, SEL, WIN = 0, 1, 2  # the order of the branches in qkv.weight and in the gate


class Shape(Protocol):
    """The sizes of a layer, as nsa.shapes.NsaShape has them."""

    @property
    def heads(self) -> int: ...
    @property
    def groups(self) -> int: ...
    @property
    def head_dim(self) -> int: ...
    @property
    def value_dim(self) -> int: ...
    @property
    def cmp_block(self) -> int: ...
    @property
    def cmp_stride(self) -> int: ...
    @property
    def sel_block(self) -> int: ...
    @property
    def sel_count(self) -> int: ...
    @property
    def window(self) -> int: ...
    @property
    def phi(self) -> str: ...


class Step(NamedTuple):
    """What one decode step gave, what its routing chose and what it read."""

    output: Array  # [dim]
    selected: list[list[int]]  # blocks chosen, ascending, per group
    p_cmp: list[Array]  # [h, S_cmp] per group: the probabilities that routing judged by
    reads: int  # KV tokens attended to, per group: compressed + selected + window


def attend(q: Array, k: Array, v: Array) -> tuple[Array, Array]:
    """Attention of the h queries of one group over N shared tokens: softmax(q . k / sqrt(D)) . v (equations 1, 2).

    Shapes: q [h, D], k [N, D], v [N, Dv] -> output [h, Dv], probabilities [h, N]; N = 0 gives zeros.
    """
    heads, tokens = len(q), len(k)
    output, p = np.zeros((heads, v.shape[1])), np.zeros((heads, tokens))
    if tokens == 0:
        return output, p
    for head in range(heads):
        scores = k @ q[head] / math.sqrt(q.shape[1])  # [N]
        exponentials = np.exp(scores - scores.max())
        p[head] = exponentials / exponentials.sum()
        output[head] = p[head] @ v
    return output, p


def block_tokens(blocks: Sequence[int], block_size: int, S: int) -> list[int]:
    """The tokens of the given blocks, each once, clipped to S; a negative index is padding and has none."""
    tokens: list[int] = []
    for block in dict.fromkeys(blocks):
        if block >= 0:
            tokens.extend(range(block * block_size, min((block + 1) * block_size, S)))
    return tokens


def select_attention(
    q: NDArray[np.float16 | np.float32 | np.float64],
    k: NDArray[np.float16 | np.float32 | np.float64],
    v: NDArray[np.float16 | np.float32 | np.float64],
    block_indices: NDArray[np.int32 | np.int64],
    seq_lens: NDArray[np.int32 | np.int64],
    block_size: int,
) -> Array:
    """Attention over the tokens of the selected blocks: the contract that a selection kernel implements (equation 12).

    Shapes: q [B, G, h, D], k [B, G, S_max, D], v [B, G, S_max, Dv], block_indices [B, G, n], seq_lens [B]
    -> [B, G, h, Dv] in float64. Indices are unique in a row (a block that is named twice counts once), -1 anywhere is
    padding, and a block is clipped to seq_lens. A row without a token is exactly zero. What lies beyond seq_lens is
    never touched: it may be NaN.
    """
    B, G, h, _ = q.shape
    output = np.zeros((B, G, h, v.shape[3]))
    for b in range(B):
        for g in range(G):
            tokens = block_tokens(block_indices[b, g].tolist(), block_size, int(seq_lens[b]))
            row_k, row_v = k[b, g, tokens].astype(np.float64), v[b, g, tokens].astype(np.float64)  # [N, D], [N, Dv]
            output[b, g], _ = attend(q[b, g].astype(np.float64), row_k, row_v)
    return output


def block_importance(p_cmp: Array, S: int, cmp_block: int, cmp_stride: int, sel_block: int) -> Array:
    """How much compressed attention falls on each selection block, summed over the group's heads (equations 9, 10).

    A compressed token spreads its probability evenly over the l tokens that it stands for, which is the paper's
    double index sum up to the constant l / d:
    p_slc[j] = sum over heads and i of p_cmp[i] * |[i d, i d + l) with [j l', (j + 1) l')| / l.
    Shapes: p_cmp [h, S_cmp] -> [S_blk].
    """
    heads, num_compressed = p_cmp.shape
    importance = np.zeros(math.ceil(S / sel_block))
    for head in range(heads):
        for i in range(num_compressed):
            covered = range(i * cmp_stride, i * cmp_stride + cmp_block)
            overlaps = Counter(token // sel_block for token in covered)  # block -> tokens in common
            for block, overlap in overlaps.items():
                importance[block] += p_cmp[head, i] * overlap / cmp_block
    return importance


def select_blocks(importance: Array, S: int, sel_block: int, sel_count: int) -> list[int]:
    """The blocks that one group attends to, ascending (equation 11; forced ones: section 4.1).

    Block 0, the current block and the one before it are always selected, each once; the rest of the sel_count
    (at least 3) go by importance [S_blk], and of equal ones the lower index wins.
    """
    num_blocks = math.ceil(S / sel_block)
    current = num_blocks - 1
    forced = {block for block in (0, current - 1, current) if 0 <= block < num_blocks}
    others = [block for block in range(num_blocks) if block not in forced]
    others.sort(key=lambda block: (-importance[block], block))
    return sorted([*forced, *others[: sel_count - len(forced)]])


def rope(x: Array, position: int) -> Array:
    """Rotate the pairs (i, i + D/2) of x [..., D] by position * 10000^(-2i/D) (RoPE, rotate-half convention)."""
    D = x.shape[-1]
    rotated = np.empty_like(x)
    for i in range(D // 2):
        angle = position * ROPE_BASE ** (-2 * i / D)
        x1, x2 = x[..., i], x[..., i + D // 2]
        rotated[..., i] = x1 * math.cos(angle) - x2 * math.sin(angle)
        rotated[..., i + D // 2] = x2 * math.cos(angle) + x1 * math.sin(angle)
    return rotated


def compress(block: Array, weights: Mapping[str, Array], name: str, phi: str) -> Array:
    """One compressed token from the l tokens of a block [l, C] -> [C] (phi of equation 7).

    phi "mean" is their mean; "mlp" is Linear, exact GELU, Linear on (block + position), flattened token by token,
    with the weights under `name`: compress_k or compress_v.
    """
    if phi == "mean":
        return np.asarray(block.mean(axis=0))
    flat = (block + weights[f"{name}.position"]).reshape(-1)  # [l * C]
    hidden = weights[f"{name}.0.weight"] @ flat + weights[f"{name}.0.bias"]
    hidden = hidden * (1 + np.array([math.erf(x / math.sqrt(2)) for x in hidden])) / 2
    return np.asarray(weights[f"{name}.2.weight"] @ hidden + weights[f"{name}.2.bias"])


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow for large |x|."""
    return np.asarray(np.exp(-np.logaddexp(0, -x)))


def gate(x: Array, weights: Mapping[str, Array], heads: int) -> Array:
    """The gates of one token, x [dim] -> [H, 3] in the order cmp, sel, win: sigmoid(MLP(x)), SiLU inside (eq. 5)."""
    hidden = weights["gate.0.weight"] @ x + weights["gate.0.bias"]
    hidden = hidden * sigmoid(hidden)
    return np.asarray(sigmoid(weights["gate.2.weight"] @ hidden + weights["gate.2.bias"])).reshape(heads, 3)


def decode_steps(weights: Mapping[str, Array], x: Array, shape: Shape) -> Iterator[Step]:
    """Decode one sequence x [T, dim] token by token from empty caches, and show each step.

    `weights` (float64, rows are outputs):
        qkv.weight [H*D + 3*G*D + 3*G*Dv, dim]: q, the heads of group 0 first; k of cmp, sel, win; v of cmp, sel, win
        gate.0.weight [gate_hidden, dim], gate.0.bias, gate.2.weight [3*H, gate_hidden], gate.2.bias
        out.weight [dim, H*Dv]
        with phi "mlp", shared by the groups: compress_k.position [l, D], compress_k.0.weight [hidden, l*D],
        compress_k.0.bias, compress_k.2.weight [D, hidden], compress_k.2.bias; compress_v.* likewise with Dv.
    """
    T, G, h = len(x), shape.groups, shape.heads // shape.groups
    D, Dv, cmp_block, cmp_stride = shape.head_dim, shape.value_dim, shape.cmp_block, shape.cmp_stride
    # NaN until written, so that a read past the present cannot go unseen
    keys, values = np.full((3, G, T, D), np.nan), np.full((3, G, T, Dv), np.nan)
    keys_cmp, values_cmp = np.full((G, T, D), np.nan), np.full((G, T, Dv), np.nan)
    num_compressed = 0

    for t in range(T):
        S = t + 1
        q, k, v = np.split(weights["qkv.weight"] @ x[t], [G * h * D, G * h * D + 3 * G * D])
        q = rope(q.reshape(G, h, D), t)
        keys[:, :, t] = rope(k.reshape(3, G, D), t)
        values[:, :, t] = v.reshape(3, G, Dv)
        if S >= cmp_block and (S - cmp_block) % cmp_stride == 0:
            last = slice(S - cmp_block, S)
            for g in range(G):
                keys_cmp[g, num_compressed] = compress(keys[CMP, g, last], weights, "compress_k", shape.phi)
                values_cmp[g, num_compressed] = compress(values[CMP, g, last], weights, "compress_v", shape.phi)
            num_compressed += 1

        gates = gate(x[t], weights, shape.heads)  # [H, 3]
        window = slice(max(0, S - shape.window), S)
        outputs: list[Array] = []  # [Dv] per head
        selected, probabilities, reads = [], [], set()
        for g in range(G):
            o_cmp, p_cmp = attend(q[g], keys_cmp[g, :num_compressed], values_cmp[g, :num_compressed])
            importance = block_importance(p_cmp, S, cmp_block, cmp_stride, shape.sel_block)
            blocks = select_blocks(importance, S, shape.sel_block, shape.sel_count)
            tokens = block_tokens(blocks, shape.sel_block, S)
            o_sel, p_sel = attend(q[g], keys[SEL, g, tokens], values[SEL, g, tokens])
            o_win, p_win = attend(q[g], keys[WIN, g, window], values[WIN, g, window])
            for head in range(h):
                g_cmp, g_sel, g_win = gates[g * h + head]
                outputs.append(g_cmp * o_cmp[head] + g_sel * o_sel[head] + g_win * o_win[head])
            selected.append(blocks)
            probabilities.append(p_cmp)
            reads.add(p_cmp.shape[1] + p_sel.shape[1] + p_win.shape[1])  # the tokens that got a probability
        (tokens_read,) = reads  # the groups differ in which blocks they read, never in how many tokens
        yield Step(weights["out.weight"] @ np.concatenate(outputs), selected, probabilities, tokens_read)


def decode(weights: Mapping[str, Array], x: Array, shape: Shape) -> Array:
    """The whole layer for one sequence from empty caches, x [T, dim] -> outputs [T, dim]; see `decode_steps`."""
    return np.array([step.output for step in decode_steps(weights, x, shape)])
