"""The product of one row with a weight: as a vector, since a GEMM's tiles would be empty but for one row.

Source: docs/step_log.md#the-step-around-the-core.
"""
# mypy: disable-error-code="untyped-decorator, no-untyped-def"
# (device code: its types are Triton's)

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch.nn import functional as F
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from nsa.kernels.splits import on, overlaps

COLUMNS = 4096  # of the weight that a program takes in one step, at most
WARPS, NARROW = 4, 1024  # and one warp where there are fewer columns than this


@triton.jit
def times_row(
    x,  # [K]
    weight,  # [N, K], contiguous
    y,  # [N]
    K: tl.constexpr,
    COLUMNS: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """One program: one number of y. Grid [N]."""
    weight += tl.program_id(0).to(tl.int64) * K
    column = tl.arange(0, COLUMNS)
    tile = tl.load(weight + column, mask=column < K, other=0.0)  # nobody writes it: no need to wait
    if OVERLAP:
        gdc_wait()
        gdc_launch_dependents()  # behind the wait: what follows may then read what was written before this kernel
    total = tile.to(tl.float32) * tl.load(x + column, mask=column < K, other=0.0).to(tl.float32)
    for first in tl.range(COLUMNS, K, COLUMNS, num_stages=2):
        live = first + column < K
        tile = tl.load(weight + first + column, mask=live, other=0.0)
        total += tile.to(tl.float32) * tl.load(x + first + column, mask=live, other=0.0).to(tl.float32)
    tl.store(y + tl.program_id(0), tl.sum(total, 0))


def linear(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x [B, K], weight [N, K], contiguous -> [B, N]; several rows by torch."""
    if len(x) > 1:
        return F.linear(x, weight)
    (N, K), overlap = weight.shape, overlaps(x.device)
    columns = min(COLUMNS, triton.next_power_of_2(K))
    y = x.new_empty(1, N)
    with on(x.device):
        times_row[(N,)](
            *(x.contiguous(), weight, y),
            K=K,
            COLUMNS=columns,
            OVERLAP=overlap,
            num_warps=WARPS if columns >= NARROW else 1,
            launch_pdl=overlap,
        )
    return y
