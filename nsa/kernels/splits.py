"""Triton kernels whose tokens are split over programs: what they share, and the combination of the splits.

Source: Flash-Decoding; one program for all heads of a group, as in NSA (arXiv 2502.11089), section 3.4.
"""
# mypy: disable-error-code="untyped-decorator, no-untyped-def"
# (device code: its types are Triton's)

import contextlib
import functools

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from nsa.kernels.tiles import padded

HEADS = tl.constexpr(16)  # the fewest rows that tl.dot takes; missing heads are padded
LOWEST = tl.constexpr(-3.0e38)  # where a maximum starts: finite, for -inf minus -inf would be NaN
OVERLAP_CAPABILITY = (9, 0)  # compute capability from which a kernel's launch can overlap the one before it


@triton.jit
def merged(
    partial_o,
    partial_m,
    partial_l,
    first,
    splits,
    head,
    heads,
    DV: tl.constexpr,
    DV_PADDED: tl.constexpr,
    SPLITS_PADDED: tl.constexpr,
):
    """The output [DV_PADDED] of one head over the splits from `first` on, in a fixed order; no token: zero."""
    split = tl.arange(0, SPLITS_PADDED)
    dv = tl.arange(0, DV_PADDED)
    part = (first + split) * heads + head
    exists = split < splits
    m = tl.load(partial_m + part, mask=exists, other=LOWEST)
    l = tl.load(partial_l + part, mask=exists, other=0.0)
    acc = tl.load(partial_o + part[:, None] * DV + dv[None, :], mask=exists[:, None] & (dv[None, :] < DV), other=0.0)
    weight = tl.exp2(m - tl.max(m, 0))
    total = tl.sum(weight * l, 0)
    return tl.sum(acc * weight[:, None], 0) / tl.where(total > 0, total, 1.0)


@triton.jit(do_not_specialize=["heads", "splits"])
def combine(
    partial_o,  # [B, G, splits, heads, DV] float32, contiguous, as are the two below
    partial_m,  # [B, G, splits, heads] float32: maxima of the scores, in units of log2(e)
    partial_l,  # [B, G, splits, heads] float32: sums of the exponentials
    o,  # [B, G, heads, DV], contiguous
    heads,
    splits,
    DV: tl.constexpr,
    DV_PADDED: tl.constexpr,
    SPLITS_PADDED: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """One program: one head of one row over all its splits, in a fixed order. Grid [B * G, heads]."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    dv = tl.arange(0, DV_PADDED)
    if OVERLAP:
        gdc_launch_dependents()
        gdc_wait()
    out = merged(partial_o, partial_m, partial_l, row * splits, splits, head, heads, DV, DV_PADDED, SPLITS_PADDED)
    tl.store(o + (row * heads + head) * DV + dv, out, mask=dv < DV)


def launch_combine(
    partial_o: torch.Tensor, partial_m: torch.Tensor, partial_l: torch.Tensor, o: torch.Tensor, overlap: bool
) -> None:
    """Combine the splits of `combine`'s tensors into o [B, G, h, Dv]."""
    B, G, splits, h, Dv = partial_o.shape
    width = triton.next_power_of_2(splits)
    combine[(B * G, h)](
        *(partial_o, partial_m, partial_l, o, h, splits),
        DV=Dv,
        DV_PADDED=padded(Dv),
        SPLITS_PADDED=width,
        OVERLAP=overlap,
        num_warps=max(1, min(8, width * padded(Dv) // 512)),
        launch_pdl=overlap,
    )


def on(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Launches go to this device; in the interpreter there is none."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


@functools.cache
def processors(device: torch.device) -> int:
    """Streaming multiprocessors of a device."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


@functools.cache
def overlaps(device: torch.device) -> bool:
    """Whether a kernel's launch can overlap the one before it."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= OVERLAP_CAPABILITY
