"""What a decode core promises, and the one place where its inputs are checked.

A core is everything of a decode step between the caches and the output projection: compressed attention, routing,
selected and window attention, and the gated sum.

Source: NSA (arXiv 2502.11089), section 3, Eq. 5 and 8 to 12, decode with one query token per sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

from nsa import shapes
from nsa.errors import InputError
from nsa.kernels.limits import DTYPES, check_head_dims, check_heads, check_tensor
from nsa.shapes import NsaShape

CMP, SEL, WIN = 0, 1, 2  # the branches' places in gates, k and v
ALWAYS_SELECTED = 3  # block 0, the current block and the one before it
Cache = torch.Tensor | Sequence[torch.Tensor]  # one stacked tensor, or the three branches' own


@dataclass(frozen=True)
class Parts:
    """Which parts of a step run; a part that is off launches nothing and reads nothing (docs/decode_cell.md#arms)."""

    cmp: bool = True
    route: bool = True
    sel: bool = True
    win: bool = True

    def __post_init__(self) -> None:
        shapes.require(self.cmp or not self.route, "Parts.route", True, "cmp as well: routing reads its probabilities")


EVERY_PART = Parts()


class Sizes(NamedTuple):
    """The sizes of a core that no tensor shows."""

    cmp_block: int  # l, tokens in a compression block
    cmp_stride: int  # d, tokens between compression blocks
    sel_block: int  # l', tokens in a selection block
    sel_count: int  # n, blocks selected, forced ones included
    window: int  # w, tokens

    @classmethod
    def of(cls, shape: NsaShape) -> Sizes:
        """The sizes of a layer."""
        return cls(shape.cmp_block, shape.cmp_stride, shape.sel_block, shape.sel_count, shape.window)

    def num_compressed(self, S: int) -> int:
        """S_cmp: compressed tokens of S tokens."""
        return 0 if S < self.cmp_block else (S - self.cmp_block) // self.cmp_stride + 1

    def num_blocks(self, S: int) -> int:
        """S_blk: selection blocks of S tokens."""
        return -(-S // self.sel_block)


class Core(Protocol):
    """o = g_cmp·o_cmp + g_sel·o_sel + g_win·o_win of one decode step, from the caches as they are.

    q [B, G, h, D], gates [B, G, h, 3] after the sigmoid, in q's dtype; k [3, B, G, S, D] and v [3, B, G, S, Dv], one
    tensor or the branches' three (that of CMP is not read); k_cmp [B, G, S_cmp, D], v_cmp [B, G, S_cmp, Dv];
    seq_lens [B] int32 on the device; block_indices [B, G, n] int32 -> o [B, G, h, Dv] in q's dtype, in `out` if given.
    With parts.route it writes block_indices: ascending, -1 at the end where a row has fewer blocks. Without, the
    selected branch reads them. A part that is off adds nothing and reads nothing of its cache.
    A branch without a token gives zeros. What lies beyond a sequence's length may be anything, NaN included.
    No length on the host, no synchronisation, nothing that a CUDA graph capture refuses; one captured call serves all
    lengths up to the caches' capacity. Same inputs, same bits.
    """

    def __call__(
        self,
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
        out: torch.Tensor | None = None,
    ) -> torch.Tensor: ...


def check_core(
    q: torch.Tensor,
    gates: torch.Tensor,
    k: Cache,
    v: Cache,
    k_cmp: torch.Tensor,
    v_cmp: torch.Tensor,
    seq_lens: torch.Tensor,
    sizes: Sizes,
    block_indices: torch.Tensor,
    out: torch.Tensor | None,
) -> None:
    """Check shapes, dtypes, devices and sizes of one call; values (lengths, indices) are on the device, unread.

    Raises:
        InputError: names the argument, what it is and what was expected.
    """
    _check_sizes(sizes)
    if q.dim() != 4:
        raise InputError(f"q: got shape {tuple(q.shape)}, expected [B, G, h, D]")
    B, G, h, D = q.shape
    for name, cache in (("k", k), ("v", v)):
        if len(cache) != 3 or any(branch.dim() != 4 for branch in cache):
            raise InputError(f"{name}: got {_shapes(cache)}, expected [3, B, G, S, D], one tensor or three")
    S, Dv, M = k[SEL].shape[2], v[SEL].shape[3], k_cmp.shape[2] if k_cmp.dim() == 4 else -1
    wanted = {
        "gates": (gates, (B, G, h, 3)),
        **{f"k[{branch}]": (k[branch], (B, G, S, D)) for branch in (SEL, WIN)},
        **{f"v[{branch}]": (v[branch], (B, G, S, Dv)) for branch in (SEL, WIN)},
        "k_cmp": (k_cmp, (B, G, M, D)),
        "v_cmp": (v_cmp, (B, G, M, Dv)),
        "seq_lens": (seq_lens, (B,)),
        "block_indices": (block_indices, (B, G, sizes.sel_count)),
        **({"out": (out, (B, G, h, Dv))} if out is not None else {}),
    }
    integers = ("seq_lens", "block_indices")
    for name, (tensor, shape) in wanted.items():
        check_tensor(name, tensor, shape, q)
        dtype = torch.int32 if name in integers else q.dtype
        if tensor.dtype != dtype:
            raise InputError(f"{name}: got {tensor.dtype}, expected {dtype}")
    check_heads(h)
    check_head_dims(D, Dv)
    if q.dtype not in DTYPES:
        raise InputError(f"q: got {q.dtype}, expected one of float32, float16, bfloat16")
    if sizes.num_compressed(S) > M:
        raise InputError(
            f"k_cmp: got room for {M} compressed tokens, expected at least {sizes.num_compressed(S)}, "
            f"those of the caches' {S} tokens"
        )


def _check_sizes(sizes: Sizes) -> None:
    for key, value in zip(sizes._fields[:3], sizes[:3], strict=True):
        if value < 1 or value % max(sizes.cmp_stride, 1):
            raise InputError(f"sizes.{key}: got {value}, expected a multiple of cmp_stride = {sizes.cmp_stride}")
    if not ALWAYS_SELECTED <= sizes.sel_count <= shapes.MAX_SEL_COUNT:
        raise InputError(
            f"sizes.sel_count: got {sizes.sel_count}, expected {ALWAYS_SELECTED} to {shapes.MAX_SEL_COUNT}"
        )
    if sizes.window < 0:
        raise InputError(f"sizes.window: got {sizes.window}, expected 0 or more")


def _shapes(cache: Cache) -> str:
    return " and ".join(str(tuple(branch.shape)) for branch in cache) or "nothing"
