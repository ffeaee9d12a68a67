"""Calls of the fused core: shapes of its kernels of one launch, drawn, and what is wrong with a call."""

from __future__ import annotations

import random

import torch
from cores import Drawn, case

from nsa.bench.method.core_oracle import core_oracle, routing_fault
from nsa.errors import InputError
from nsa.kernels.core import Parts, Sizes
from nsa.kernels.fused import operator, plan

LIMIT = {torch.float16: 2e-3, torch.bfloat16: 1.5e-2}  # worst-row relative error, as of the selection kernel
GPU = torch.device("cuda")


def paper_like(seed: int) -> Drawn:
    """A random shape that the kernels of one launch take: any lengths, heads, windows and arms."""
    draw = random.Random(seed)
    capacity = draw.choice(
        [draw.randint(1, 1200), draw.randint(1, 3000), draw.randint(1, 66000), draw.randint(1, 132000)]
    )
    lengths = tuple(draw.choice([capacity, draw.randint(0, capacity)]) for _ in range(draw.choice([1, 1, 2, 4, 9, 20])))
    sizes = Sizes(32, 16, 64, draw.choice([16, 16, 3, 12]), draw.choice([512, 512, 0, 100, 1000]))
    D, Dv = draw.choice([(128, 128), (128, 128), *plan.WIDTHS])
    return Drawn(
        sizes,
        lengths if capacity < 10000 else lengths[:2],
        capacity,
        draw.choice([1, 2, 4]),
        draw.choice([16, 16, draw.randint(1, 16)]),
        D,
        Dv,
        draw.choice([torch.float16, torch.bfloat16]),
        draw.choice((*plan.ARMS, Parts(), Parts())),
    )


def fault(made: Drawn, seed: int) -> str | None:
    """What is wrong with one call."""
    call = case(made, seed, GPU)
    out = torch.full((*call.q.shape[:3], made.Dv), torch.nan, dtype=made.dtype, device=GPU)
    if made.parts.route:
        call.block_indices.fill_(-7)
    try:
        operator.decode_core(*call, out)
    except InputError as error:
        return None if "does not fit" in str(error) else str(error)
    judged = core_oracle(*call)
    if made.parts.route and (
        wrong := routing_fault(call.block_indices.cpu(), judged.importance.cpu(), call.seq_lens.cpu(), made.sizes)
    ):
        return wrong
    error, norm = (out.double() - judged.output).norm(dim=-1), judged.output.norm(dim=-1)
    if not bool((error <= LIMIT[made.dtype] * norm).all()):  # NaN, too, and a row of zeros must be zeros
        return f"relative error {(error / norm).nan_to_num(torch.inf).max().item():.3g}"
    return None
