"""What is wrong with one call of the core: its output and its choice against the float64 oracle."""

from __future__ import annotations

import torch
from cores import Drawn, case

from nsa.bench.method.core_oracle import core_oracle, routing_fault
from nsa.kernels.triton_core.operator import DecodeCore

# worst-row relative error
LIMIT = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.5e-2}
CORE = DecodeCore()


def fault(made: Drawn, seed: int, device: torch.device) -> str | None:
    """What is wrong with the call of a shape, with NaN wherever nothing may be read; None: nothing."""
    call = case(made, seed, device)
    out = torch.full((*call.q.shape[:3], made.Dv), torch.nan, dtype=made.dtype, device=device)
    if made.parts.route:
        call.block_indices.fill_(-7)
    CORE(*call, out)
    judged = core_oracle(*call)
    if made.parts.route and (
        wrong := routing_fault(call.block_indices.cpu(), judged.importance.cpu(), call.seq_lens.cpu(), made.sizes)
    ):
        return wrong
    error, norm = (out.double() - judged.output).norm(dim=-1), judged.output.norm(dim=-1)
    if not bool((error <= LIMIT[made.dtype] * norm).all()):  # NaN, too, and a row of zeros must be zeros
        return f"relative error {(error / norm).nan_to_num(torch.inf).max().item():.3g}"
    return None
