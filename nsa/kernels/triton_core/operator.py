"""The host's side of the core: refuse what it cannot do, allocate, launch. Nothing waits for the device."""

from __future__ import annotations

import math

import torch
import triton
from pydantic import JsonValue

from nsa.errors import InputError
from nsa.kernels.compiling import compiles
from nsa.kernels.contract import dense
from nsa.kernels.core import SEL, WIN, Cache, Parts, Sizes, check_core
from nsa.kernels.parts import host
from nsa.kernels.splits import on, overlaps, processors
from nsa.kernels.step import Lengths
from nsa.kernels.tiles import padded
from nsa.kernels.triton_core import kernels
from nsa.kernels.triton_core.plan import Call, Plan, plan

MAX_SELECTED = 2**30  # n·l' tokens of a row, which the kernel counts in 32 bits
Partial = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # of splits: outputs, maxima, sums


class DecodeCore:
    """The core in at most five launches. See nsa.kernels.core.Core.

    Any strides but in the last dimension of q, of the caches and of out; block_indices contiguous. The first call of a
    kind compiles: make it before a capture.
    """

    def __init__(self) -> None:
        self._plans: dict[Call, Plan] = {}

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
    ) -> torch.Tensor:
        """Compute one call.

        Raises:
            InputError: an argument is outside the contract, a vector is strided, or n·l' is above 2³⁰.
            NotCompiled: a first launch compiles, and cannot.
        """
        check_core(q, gates, k, v, k_cmp, v_cmp, seq_lens, sizes, block_indices, out)
        out = q.new_empty(*q.shape[:3], v[SEL].shape[3]) if out is None else out
        read = {"k[1]": k[SEL], "v[1]": v[SEL], "k[2]": k[WIN], "v[2]": v[WIN], "k_cmp": k_cmp, "v_cmp": v_cmp}
        for name, tensor in ({"q": q, "out": out} | read).items():
            if not dense(tensor):
                raise InputError(f"{name}: got strides {tensor.stride()}, expected 1 in the last dimension")
        if not block_indices.is_contiguous():
            raise InputError(f"block_indices: got strides {block_indices.stride()}, expected a contiguous tensor")
        if (selected := sizes.sel_count * sizes.sel_block) > MAX_SELECTED:
            raise InputError(f"sizes: got n·l' = {selected}, expected at most {MAX_SELECTED}")
        call = call_of(q, k, v, sizes, parts)
        if call not in self._plans:
            self._plans[call] = plan(call)
        return run(self._plans[call], q, gates, k, v, k_cmp, v_cmp, seq_lens, sizes, parts, block_indices, out)

    def plans(self) -> list[JsonValue]:
        """For the record: how the calls so far were split."""
        return [{**call._asdict(), **made._asdict()} for call, made in self._plans.items()]


def call_of(q: torch.Tensor, k: Cache, v: Cache, sizes: Sizes, parts: Parts) -> Call:
    """What the plan of a call depends on."""
    (B, G, _, D), capacity = q.shape, k[SEL].shape[2]
    window = min(sizes.window, capacity) if parts.win else 0
    selected = min(sizes.sel_count, sizes.num_blocks(capacity)) * sizes.sel_block if parts.sel else 0
    return Call(B * G, D, v[SEL].shape[3], q.element_size(), window, selected, processors(q.device))


@compiles("triton_core")
def run(
    made: Plan,
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
    out: torch.Tensor,
) -> torch.Tensor:
    """Launch one plan on inputs that `DecodeCore` would take.

    Raises:
        NotCompiled: a first launch compiles, and cannot.
    """
    if out.numel() == 0:
        return out
    capacity = k[SEL].shape[2]
    M, weighed = sizes.num_compressed(capacity), parts.route and sizes.num_blocks(capacity) > sizes.sel_count
    compressed = near = kept = None
    if parts.cmp and M:
        compressed, kept = host.attend_compressed(q, k_cmp[:, :, :M], v_cmp[:, :, :M], seq_lens, sizes, weighed)
    if parts.route:
        host.route(kept, Lengths(seq_lens, capacity, False), sizes, block_indices)
    with on(q.device):
        if made.win_splits + made.sel_splits:
            overlap = (compressed is not None or parts.route) and overlaps(q.device)
            near = _attend(made, q, k, v, seq_lens, sizes, parts, block_indices, overlap)
        _gated_sum(made, q, compressed, kept, near, gates, out)
    return out


def _partial(q: torch.Tensor, splits: int, Dv: int) -> Partial:
    B, G, h, _ = q.shape
    sizes = ((B, G, splits, h, Dv), (B, G, splits, h), (B, G, splits, h))
    outputs, maxima, sums = (torch.empty(size, dtype=torch.float32, device=q.device) for size in sizes)
    return outputs, maxima, sums


def _attend(
    made: Plan,
    q: torch.Tensor,
    k: Cache,
    v: Cache,
    seq_lens: torch.Tensor,
    sizes: Sizes,
    parts: Parts,
    block_indices: torch.Tensor,
    overlap: bool,
) -> Partial:
    """The window's splits, then those of the selected blocks."""
    (B, G, h, D), (capacity, Dv) = q.shape, v[SEL].shape[2:]
    splits = made.win_splits + made.sel_splits
    left = _partial(q, splits, Dv)
    branches = (k[WIN], v[WIN], k[SEL], v[SEL])
    kernels.attend[(B, G, splits)](
        *(q, *branches, block_indices, seq_lens, *left),
        *(*q.stride()[:3], *(stride for cache in branches for stride in cache.stride()[:2])),
        *(*block_indices.stride(), seq_lens.stride(0)),
        *(h, min(sizes.sel_count, sizes.num_blocks(capacity)), sizes.window, made.win_splits, made.chunk),
        math.log2(math.e) / math.sqrt(D),
        **{name: cache.stride(2) for name, cache in zip(("KW_T", "VW_T", "KS_T", "VS_T"), branches, strict=True)},
        D=D,
        DV=Dv,
        D_PADDED=padded(D),
        DV_PADDED=padded(Dv),
        BLOCK=sizes.sel_block,
        TOKENS=made.tokens,
        STAGES=made.stages,
        WIN=made.win_splits > 0,
        SEL=made.sel_splits > 0,
        ROUTED=parts.route,
        OVERLAP=overlap,
        num_warps=made.warps,
        launch_pdl=overlap,
    )
    return left


def _gated_sum(
    made: Plan,
    q: torch.Tensor,
    compressed: torch.Tensor | None,
    kept: host.Scores | None,
    near: Partial | None,
    gates: torch.Tensor,
    out: torch.Tensor,
) -> None:
    B, G, h, Dv = out.shape
    unread = (gates, gates, gates)
    cmp = unread if compressed is None or kept is None else (compressed, kept.partial_m, kept.partial_l)
    cmp_splits = 0 if compressed is None else compressed.shape[2]
    counts = (cmp_splits, made.win_splits, made.sel_splits)
    widths = [triton.next_power_of_2(count) if count else 0 for count in counts]
    overlap = any(counts) and overlaps(q.device)
    kernels.gated_sum[(B, G, h)](
        *(*cmp, *(near or unread), gates, out, *gates.stride(), *out.stride()[:3]),
        *(h, cmp_splits, made.win_splits, made.win_splits + made.sel_splits),
        DV=Dv,
        DV_PADDED=padded(Dv),
        CMP=widths[0],
        WIN=widths[1],
        SEL=widths[2],
        OVERLAP=overlap,
        num_warps=max(1, min(8, max(widths) * padded(Dv) // 512)),
        launch_pdl=overlap,
    )
