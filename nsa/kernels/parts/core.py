"""The decode core in Triton: five launches, whose sizes follow the caches' capacity and not the lengths."""

from __future__ import annotations

import math

import torch
import triton

from nsa.kernels.parts import core_kernels, host
from nsa.kernels.parts.host import Lengths, attend_compressed, on, overlaps, processors, route
from nsa.kernels.triton.plan import padded
from nsa.shapes import NsaShape


def core(
    q: torch.Tensor,
    gates: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    k_cmp: torch.Tensor,
    v_cmp: torch.Tensor,
    seq_lens: torch.Tensor,
    shape: NsaShape,
    longest: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """q [B, G, h, D], gates [B, G, h, 3], k [3, B, G, S, D], v [3, B, G, S, Dv], k_cmp [B, G, M, D] -> o, indices."""
    (B, G, h, D), Dv = q.shape, v.shape[4]
    lengths = Lengths(seq_lens, longest)
    M, kept, cmp_o = shape.num_compressed(longest), None, None
    keep = shape.num_blocks(longest) > shape.sel_count
    if M:
        cmp_o, kept = attend_compressed(q, k_cmp[:, :, :M], v_cmp[:, :, :M], lengths, shape, keep)
    indices = route(kept if keep else None, lengths, shape)
    steps = triton.cdiv(min(shape.sel_count * shape.sel_block, longest), host.REST.tokens)
    steps_win = triton.cdiv(min(shape.window, longest), host.REST.tokens)
    chunk = max(1, triton.cdiv((steps + steps_win) * B * G, host.REST.programs * processors(q.device)))
    selected = triton.cdiv(triton.cdiv(shape.sel_count * shape.sel_block, host.REST.tokens), chunk)
    splits = selected + triton.cdiv(steps_win, chunk)
    partial_o, partial_m, partial_l = (
        torch.empty(size, dtype=torch.float32, device=q.device)
        for size in ((B, G, splits, h, Dv), (B, G, splits, h), (B, G, splits, h))
    )
    o = torch.empty(B, G, h, Dv, dtype=q.dtype, device=q.device)
    overlap = overlaps(q.device)
    with on(q.device):
        core_kernels.attend_selected_and_window[(B, G, splits)](
            *(q, k, v, indices, seq_lens, partial_o, partial_m, partial_l),
            *(*q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *indices.stride(), seq_lens.stride(0)),
            *(h, shape.sel_count, shape.window, chunk, selected, math.log2(math.e) / math.sqrt(D)),
            K_T=k.stride(3),
            V_T=v.stride(3),
            D=D,
            DV=Dv,
            D_PADDED=padded(D),
            DV_PADDED=padded(Dv),
            BLOCK=shape.sel_block,
            TOKENS=host.REST.tokens,
            STAGES=host.REST.stages,
            OVERLAP=overlap,
            num_warps=host.REST.warps,
            **({"launch_pdl": True} if overlap else {}),
        )
        cmp_splits = 0 if kept is None else kept.partial_m.shape[2]
        core_kernels.gated_sum[(B * G, h)](
            *((partial_o, partial_m, partial_l) if kept is None else (cmp_o, kept.partial_m, kept.partial_l)),
            *(partial_o, partial_m, partial_l, gates, o, h, cmp_splits, splits, selected),
            DV=Dv,
            DV_PADDED=padded(Dv),
            CMP_PADDED=triton.next_power_of_2(max(1, cmp_splits)),
            SELECTED_PADDED=triton.next_power_of_2(selected),
            WINDOW_PADDED=triton.next_power_of_2(max(1, splits - selected)),
            OVERLAP=overlap,
            num_warps=4,
            **({"launch_pdl": True} if overlap else {}),
        )
    return o, indices
