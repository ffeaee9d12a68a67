"""The host's side: allocate and launch. Nothing waits for the device, and lengths are read on it alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import triton

from nsa.kernels.core import Sizes
from nsa.kernels.parts import kernels, routing
from nsa.kernels.splits import launch_combine, on, overlaps, processors
from nsa.kernels.step import Lengths
from nsa.kernels.tiles import padded

MAX_SPLITS = 64  # a combination holds them all at once
WEIGHED = 32  # blocks of one program that weighs them by scores
RANKED = 64  # of one program that ranks them by sums: at least those of a step of attention, 32
SUMMED_BYTES = 5 << 20  # more scores than so many bytes are not written: their sums are (docs/step_log.md)


@dataclass(frozen=True)
class Launch:
    """How many tokens a program takes in a step, and how many programs there are for a multiprocessor."""

    tokens: int
    stages: int
    warps: int
    programs: int


NOTHING, SCORES, SUMS = kernels.NOTHING.value, kernels.SCORES.value, kernels.SUMS.value
CMP = Launch(64, 2, 4, 2)  # docs/step_log.md has what was tried


class Scores(NamedTuple):
    """What compressed attention leaves for routing, float32; see kernels.attend. Of scores and sums one is empty."""

    scores: torch.Tensor  # [B, G, M, h], in units of log2(e)
    sums: torch.Tensor  # [B, G, steps, blocks, h]
    spill: torch.Tensor  # [B, G, steps, h], with sums
    exponent: torch.Tensor  # [B, G, steps, h], with sums
    partial_m: torch.Tensor  # [B, G, splits, h]
    partial_l: torch.Tensor  # [B, G, splits, h]


def compressed_attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Lengths, sizes: Sizes, keep: bool
) -> tuple[torch.Tensor, Scores]:
    """Attention over compressed tokens: q [B, G, h, D], k [B, G, M, D], v [B, G, M, Dv] -> o [B, G, h, Dv].

    M is the number of the longest sequence, at least 1; what lies beyond a sequence's own may be NaN. A sequence
    without any gives zeros. `keep`: write what `route` needs.
    """
    (B, G, h, _), Dv = q.shape, v.shape[3]
    partial_o, kept = attend_compressed(q, k, v, lengths.seq_lens, sizes, keep)
    o = torch.empty(B, G, h, Dv, dtype=q.dtype, device=q.device)
    with on(q.device):
        launch_combine(partial_o, kept.partial_m, kept.partial_l, o, overlaps(q.device))
    return o, kept


def attend_compressed(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    seq_lens: torch.Tensor,
    sizes: Sizes,
    keep: bool,
) -> tuple[torch.Tensor, Scores]:
    """The same before the splits are combined: partial_o [B, G, splits, h, Dv] float32."""
    (B, G, h, D), M, Dv = q.shape, k.shape[2], v.shape[3]
    steps = triton.cdiv(M, CMP.tokens)
    wanted = max(1, min(MAX_SPLITS, steps, triton.cdiv(CMP.programs * processors(q.device), B * G)))
    chunk = triton.cdiv(steps, wanted)
    splits = triton.cdiv(steps, chunk)
    cells = sizes.sel_block // sizes.cmp_stride
    kept = NOTHING if not keep else SUMS if _summed(B * G * M * h * 4, sizes) else SCORES
    of_steps = (B, G, steps, h) if kept == SUMS else (0,)
    partial_o, *left = (
        torch.empty(size, dtype=torch.float32, device=q.device)
        for size in (
            (B, G, splits, h, Dv),
            (B, G, M, h) if kept == SCORES else (0,),
            (B, G, steps, CMP.tokens // cells, h) if kept == SUMS else (0,),
            of_steps,
            of_steps,
            (B, G, splits, h),
            (B, G, splits, h),
        )
    )
    found = Scores(*left)
    with on(q.device):
        kernels.attend[(B, G, splits)](
            *(q, k, v, seq_lens, *found[:4], partial_o, *found[4:]),
            *(*q.stride()[:3], *k.stride()[:2], *v.stride()[:2], seq_lens.stride(0)),
            *(h, M, chunk, math.log2(math.e) / math.sqrt(D)),
            K_T=k.stride(2),
            V_T=v.stride(2),
            D=D,
            DV=Dv,
            D_PADDED=padded(D),
            DV_PADDED=padded(Dv),
            L=sizes.cmp_block,
            STRIDE=sizes.cmp_stride,
            CELLS=cells if kept == SUMS else 1,
            TOKENS=CMP.tokens,
            STAGES=CMP.stages,
            KEEP=kept,
            OVERLAP=overlaps(q.device),
            num_warps=CMP.warps,
        )
    return partial_o, found


def _summed(scores_bytes: int, sizes: Sizes) -> bool:
    """Whether attention leaves sums of blocks: there are many scores, and a step holds whole blocks of two cells or
    more, none of whose tokens reaches beyond the next.
    """
    cells, cover = sizes.sel_block // sizes.cmp_stride, sizes.cmp_block // sizes.cmp_stride
    fits = 2 <= cells <= CMP.tokens // 2 and cells & (cells - 1) == 0 and cover <= cells + 1
    return scores_bytes > SUMMED_BYTES and fits


def route(kept: Scores | None, lengths: Lengths, sizes: Sizes, indices: torch.Tensor) -> None:
    """Choose blocks from what compressed attention left (Eq. 9 to 12): block indices [B, G, n] int32, contiguous.

    `kept` is not read where no sequence has more than n blocks; None: no sequence has a compressed token.
    """
    seq_lens, blocks, (B, G, n) = lengths.seq_lens, sizes.num_blocks(lengths.longest), indices.shape
    every = blocks <= n
    with on(seq_lens.device):
        if every or kept is None:
            importance = torch.zeros(0 if every else (B, G, blocks), dtype=torch.float32, device=seq_lens.device)
            _choose(importance, seq_lens, indices, sizes.sel_block, every, False)
        else:
            ranked = _rank if kept.sums.numel() else _weigh
            _choose(ranked(kept, seq_lens, sizes, blocks, n), seq_lens, indices, sizes.sel_block, False, True)


def _weigh(kept: Scores, seq_lens: torch.Tensor, sizes: Sizes, blocks: int, n: int) -> torch.Tensor:
    """The importance of blocks by scores: [B, G, blocks] float32."""
    (B, G, splits, h), overlap = kept.partial_m.shape, overlaps(seq_lens.device)
    importance = torch.empty(B, G, blocks, dtype=torch.float32, device=seq_lens.device)
    routing.weigh[(B, G, triton.cdiv(blocks, WEIGHED))](
        *(kept.scores, kept.partial_m, kept.partial_l, seq_lens, importance),
        *(seq_lens.stride(0), h, kept.scores.shape[2], splits, blocks),
        L=sizes.cmp_block,
        STRIDE=sizes.cmp_stride,
        BLOCK=sizes.sel_block,
        WIDTH=WEIGHED,
        SPLITS_PADDED=triton.next_power_of_2(splits),
        OVERLAP=overlap,
        num_warps=4,
        launch_pdl=overlap,
    )
    return importance


def _rank(kept: Scores, seq_lens: torch.Tensor, sizes: Sizes, blocks: int, n: int) -> torch.Tensor:
    """By sums the keys of each program's best blocks, among which are the row's n best: [B, G, keys] int64."""
    (B, G, splits, h), overlap = kept.partial_m.shape, overlaps(seq_lens.device)
    best, chunks = min(RANKED, triton.next_power_of_2(n)), triton.cdiv(blocks, RANKED)
    keys = torch.empty(B, G, chunks * best, dtype=torch.int64, device=seq_lens.device)
    routing.rank[(B, G, chunks)](
        *(kept.sums, kept.spill, kept.exponent, kept.partial_m, kept.partial_l, seq_lens, keys),
        *(seq_lens.stride(0), h, kept.sums.shape[2] * CMP.tokens, splits),
        L=sizes.cmp_block,
        STRIDE=sizes.cmp_stride,
        BLOCK=sizes.sel_block,
        TOKENS=CMP.tokens,
        WIDTH=RANKED,
        BEST=best,
        SPLITS_PADDED=triton.next_power_of_2(splits),
        OVERLAP=overlap,
        num_warps=1,
        launch_pdl=overlap,
    )
    return keys


def select_blocks(scores: torch.Tensor, seq_lens: torch.Tensor, sel_block: int, sel_count: int) -> torch.Tensor:
    """Choose blocks by given scores, as nsa.attention.routing.select_blocks: [..., S_blk], [...] -> [..., n] int32."""
    rows, blocks = seq_lens.numel(), scores.shape[-1]
    indices = torch.empty(*seq_lens.shape, sel_count, dtype=torch.int32, device=scores.device)
    made = (scores.contiguous().view(rows, 1, blocks), seq_lens.flatten(), indices.view(rows, 1, sel_count))
    with on(scores.device):
        _choose(*made, sel_block, blocks <= sel_count, False)
    return indices


def _choose(
    importance: torch.Tensor,
    seq_lens: torch.Tensor,
    indices: torch.Tensor,
    sel_block: int,
    every: bool,
    behind: bool,
) -> None:
    """`behind`: the importance, or the keys, come from a launch just before, which this one overlaps."""
    (B, G, n), blocks, overlap = indices.shape, importance.shape[-1], behind and overlaps(indices.device)
    chosen = triton.next_power_of_2(n)
    width = max(triton.next_power_of_2(max(1, blocks)), chosen)
    routing.choose[(B, G)](
        *(importance, seq_lens, indices, seq_lens.stride(0), n, blocks),
        BLOCK=sel_block,
        PADDED=width,
        CHOSEN=chosen,
        EVERY=every,
        KEYS=importance.dtype == torch.int64,
        OVERLAP=overlap,
        num_warps=max(1, min(8, width // 128)),
        launch_pdl=overlap,
    )
