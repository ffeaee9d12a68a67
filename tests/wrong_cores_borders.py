"""Decode cores that are right on the grid, and wrong for some gates, at borders of lengths, or after a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from wrong_cores import Make
from wrong_cores_kept import RIGHT, arguments
from wrong_cores_off_grid import ERROR

from nsa.kernels.core import Core, Sizes


def without_small_gates(*given: Any) -> torch.Tensor:
    """Branches whose gate is below a per cent are skipped."""
    call = arguments(*given)
    return RIGHT(**{**call, "gates": torch.where(call["gates"] < 0.01, 0, call["gates"])})


def open_gates(*given: Any) -> torch.Tensor:
    """Gates of a sigmoid that never quite opens."""
    call = arguments(*given)
    return RIGHT(**{**call, "gates": call["gates"].clamp(max=0.99)})


def at(border: Callable[[Sizes], int]) -> Core:
    """Off where a sequence has exactly so many tokens, in small batches."""

    def core(*given: Any) -> torch.Tensor:
        call = arguments(*given)
        out = RIGHT(**call)
        if len(call["q"]) < 80:
            out[call["seq_lens"] == border(call["sizes"])] *= 1.01
        return out

    return core


class Forgets:
    """Where a sequence is shorter than at the call before into the same memory, its last block is an old one's."""

    def __init__(self) -> None:
        self.seen: dict[tuple[object, ...], torch.Tensor] = {}

    def __call__(self, *given: Any) -> torch.Tensor:
        call = arguments(*given)
        out, key = RIGHT(**call), (call["q"].data_ptr(), call["q"].shape, call["sizes"])
        before = self.seen.get(key, call["seq_lens"])
        out[(call["seq_lens"] < before) & (before == 1200)] *= 1.01
        self.seen[key] = call["seq_lens"].clone()
        return out


AT_BORDERS: dict[str, tuple[Make, str, str]] = {  # name -> the core, the corner case, and what is said
    "skips branches whose gate is small": (lambda: without_small_gates, "gates near 0", ERROR),
    "gates of 0.99 at most": (lambda: open_gates, "gates of 0 and 1", ERROR),
    "a window that is full, and one token more": (
        lambda: at(lambda sizes: sizes.window + 1),
        "borders of all sizes",
        ERROR,
    ),
    "as many blocks as n, all of them full": (
        lambda: at(lambda sizes: sizes.sel_count * sizes.sel_block),
        "borders of all sizes",
        ERROR,
    ),
    "a second compressed token": (
        lambda: at(lambda sizes: sizes.cmp_block + sizes.cmp_stride),
        "borders of all sizes",
        ERROR,
    ),
    "three blocks, all of them full": (lambda: at(lambda sizes: 3 * sizes.sel_block), "borders of all sizes", ERROR),
    "keeps something of a longer call": (Forgets, "longer, then shorter", "two calls on the same inputs differ"),
}
