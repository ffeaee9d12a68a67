"""The float64 oracle of a decode core, vectorised over groups and heads, and the judge of its routing.

It shares no step with the cores that it judges; the tests hold it against nsa.attention.reference, which is loops.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import torch

from nsa.kernels.core import CMP, SEL, WIN, Cache, Parts, Sizes

CLOSE = 1e-5  # relative gap between the n-th and the next importance below which either may be chosen


class Judged(NamedTuple):
    """What a right core gives: o [B, G, h, Dv] and each row's block importance, [B, G, S_blk], both in float64."""

    output: torch.Tensor
    importance: torch.Tensor


def core_oracle(
    q: torch.Tensor,
    gates: torch.Tensor,
    k: Cache,
    v: Cache,
    k_cmp: torch.Tensor,
    v_cmp: torch.Tensor,
    seq_lens: torch.Tensor,
    sizes: Sizes,
    parts: Parts,
    block_indices: torch.Tensor,
) -> Judged:
    """One decode core in float64, one sequence after the other; see nsa.kernels.core.Core.

    Args:
        block_indices: the blocks to attend to, those that the judged core chose: `routing_fault` judges the choice.
    """
    B, G, h, _ = q.shape
    capacity = k[SEL].shape[2]
    output = torch.zeros(B, G, h, v[SEL].shape[3], dtype=torch.float64, device=q.device)
    importance = torch.zeros(B, G, max(sizes.num_blocks(capacity), 1), dtype=torch.float64, device=q.device)
    token = torch.arange(capacity, device=q.device)
    for b, S in enumerate(seq_lens.tolist()):
        M, query, gate = sizes.num_compressed(S), q[b].double(), gates[b].double()
        if parts.cmp and M:
            o, p = _attend(query, k_cmp[b, :, :M], v_cmp[b, :, :M])
            output[b] += gate[..., CMP, None] * o
            importance[b] = _importance(p.sum(1), importance.shape[2], sizes)
        if parts.win and (width := min(sizes.window, S)):
            o, _ = _attend(query, k[WIN][b, :, S - width : S], v[WIN][b, :, S - width : S])
            output[b] += gate[..., WIN, None] * o
        if parts.sel:
            for g in range(G):
                seen = ((block_indices[b, g, :, None] == token // sizes.sel_block).any(0) & (token < S)).nonzero()[:, 0]
                if len(seen):
                    o, _ = _attend(query[g], k[SEL][b, g, seen], v[SEL][b, g, seen])
                    output[b, g] += gate[g, :, SEL, None] * o
    return Judged(output, importance)


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """q [.., h, D] in float64, k [.., N, D], v [.., N, Dv] -> outputs [.., h, Dv] and probabilities [.., h, N]."""
    p = (q @ k.double().transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
    return p @ v.double(), p


def _importance(p: torch.Tensor, num_blocks: int, sizes: Sizes) -> torch.Tensor:
    """p [G, M] -> [G, S_blk]: each compressed token's p by |[i d, i d + l) with [j l', (j + 1) l')| / l (Eq. 9)."""
    importance = p.new_zeros(len(p), num_blocks)
    start = torch.arange(p.shape[1], device=p.device) * sizes.cmp_stride
    stop, first = start + sizes.cmp_block, start // sizes.sel_block
    for further in range((sizes.cmp_block - 1) // sizes.sel_block + 2):  # blocks that one token may reach into
        block = first + further
        common = torch.minimum(stop, (block + 1) * sizes.sel_block) - torch.maximum(start, block * sizes.sel_block)
        here = (common > 0) & (block < num_blocks)
        importance.index_add_(1, block[here], p[:, here] * common[here] / sizes.cmp_block)
    return importance


def routing_fault(
    block_indices: torch.Tensor, importance: torch.Tensor, seq_lens: torch.Tensor, sizes: Sizes
) -> str | None:
    """What is wrong with chosen blocks: form, forced blocks, or the choice itself beyond the rounding of float32.

    A row whose n-th and next importance differ by more than CLOSE must have exactly the best blocks; in any other the
    chosen sum is at least (1 - CLOSE) of the best. Equal importances: `ties` of the tests ask for the lower index.
    """
    for b, S in enumerate(seq_lens.tolist()):
        for g, row in enumerate(block_indices[b].tolist()):
            num_blocks = sizes.num_blocks(S)
            chosen = [block for block in row if block >= 0]
            if row != sorted(set(chosen)) + [-1] * (len(row) - len(chosen)):
                return f"row {b}, {g}: {row} does not ascend, or is padded inside"
            if len(chosen) != min(sizes.sel_count, num_blocks) or (chosen and chosen[-1] >= num_blocks):
                return f"row {b}, {g}: {row}, expected {min(sizes.sel_count, num_blocks)} of {num_blocks} blocks"
            forced = {block for block in (0, num_blocks - 2, num_blocks - 1) if 0 <= block < num_blocks}
            if not forced <= set(chosen):
                return f"row {b}, {g}: {row} lacks one of the forced blocks {sorted(forced)}"
            others = [block for block in range(num_blocks) if block not in forced]
            free = len(chosen) - len(forced)
            if free == len(others):
                continue
            values = importance[b, g].tolist()
            others = [block for _, block in heapq.nsmallest(free + 1, ((-values[block], block) for block in others))]
            picked = sum(values[block] for block in set(chosen) - forced)
            best = sum(values[block] for block in others[:free])
            last, following = values[others[free - 1]] if free else 1.0, values[others[free]]
            if last - following > CLOSE * last and set(chosen) != forced | set(others[:free]):
                return f"row {b}, {g}: {row}, expected {sorted(forced | set(others[:free]))}"
            if picked < (1 - CLOSE) * best:
                return f"row {b}, {g}: the chosen blocks weigh {picked:.9g}, the best {best:.9g}"
    return None


def clear_rows(importance: torch.Tensor, seq_lens: Sequence[int], sizes: Sizes) -> int:
    """Of the rows [B, G], those in which rounding cannot have decided between the n-th block and the next."""
    clear = 0
    for b, S in enumerate(seq_lens):
        blocks = sizes.num_blocks(S)
        if blocks <= sizes.sel_count:
            clear += importance.shape[1]
            continue
        score = importance[b, :, :blocks].clone()
        score[:, [0, blocks - 2, blocks - 1]] = torch.inf
        best = score.topk(sizes.sel_count + 1, -1).values
        clear += int((best[:, -2] - best[:, -1] > CLOSE * best[:, -2]).sum())
    return clear
