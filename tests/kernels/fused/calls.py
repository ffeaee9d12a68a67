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


def planned(name: str, ranks: int, made: Drawn) -> plan.Plan:
    """The plan of a kind of kernel with so many thread blocks a row, whatever is planned for the shape."""
    if name != "three":
        warps = 8 if name in ("stream", "chunks") else 16
        return plan.Plan(name, 1, 1, 1, ranks, warps)  # type: ignore[arg-type]
    batch = len(made.lengths)
    call = plan.Call(batch, made.groups, made.heads, made.D, made.Dv, made.capacity, made.sizes, made.parts)
    return plan.three_launches(call, operator._device(0))


def tie_fault(made: Drawn, seed: int) -> str | None:
    """What is wrong with the choice among 20 copies of a block, more than n, between random tokens."""
    call = case(made, seed, GPU)
    inner = range(4, made.sizes.num_blocks(min(made.lengths)) - 6, 2)
    places = sorted(random.Random(seed).sample(inner, 20))
    copies = 3 * call.q.mean(2, keepdim=True) + 0.5 * call.k_cmp[:, :, 1:6]
    for block in places:  # its four compressed tokens and the one before, which reaches into it
        call.k_cmp[:, :, 4 * block - 1 : 4 * block + 4] = copies
    operator.decode_core(*call)
    importance = core_oracle(*call).importance.cpu()
    for b, S in enumerate(made.lengths):
        last = made.sizes.num_blocks(S) - 1
        others = [block for block in range(1, last - 1) if block not in places]
        for group in range(made.groups):
            better = [x for x in others if importance[b, group, x] > importance[b, group, places].max()]
            taken = places[: made.sizes.sel_count - 3 - len(better)]
            if len(taken) < 4:
                return f"only {len(taken)} of the copies are among the most important blocks"
            expected = sorted({0, *taken, *better, last - 1, last})
            if (chosen := call.block_indices[b, group].tolist()) != expected:
                return f"row {b}, {group}: {chosen}, expected {expected}"
    return None
