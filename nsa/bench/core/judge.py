"""Whether what a decode core, or dense attention, gave is right: faults, and the worst row's error against float64."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch

from nsa.bench.core.inputs import CoreCall
from nsa.bench.method.accuracy import same_bits
from nsa.bench.method.core_oracle import clear_rows, core_oracle, routing_fault
from nsa.kernels.core import SEL, Sizes


class Judged(NamedTuple):
    """What is said of one output.

    Attributes:
        error: the worst row's relative L2; NaN where there is none.
        fault: the first that was seen.
        rows, clear: (sequence, group) rows whose blocks were judged, and those in which rounding cannot have decided.
    """

    error: float
    fault: str | None
    rows: int = 0
    clear: int = 0


def judge(
    call: CoreCall,
    output: torch.Tensor,
    chosen: torch.Tensor,
    sequences: Iterable[int] | None = None,
    tied: bool = False,
) -> Judged:
    """Judge a core's output and blocks, on inputs as they were when it ran.

    Args:
        output: what it wrote, [B, G, h, Dv].
        chosen: the blocks that it chose, [B, G, n].
        sequences: which are judged; all by default.
        tied: whether all inner blocks are equally important, so that exactly the lowest must be chosen.
    """
    expected = (*call.q.shape[:3], call.v[SEL].shape[3])
    if tuple(output.shape) != expected or output.dtype != call.q.dtype:
        return Judged(
            torch.nan, f"the output is {tuple(output.shape)} {output.dtype}, expected {expected} {call.q.dtype}"
        )
    worst, rows_judged, clear, lengths = 0.0, 0, 0, call.seq_lens.tolist()
    for b in range(len(output)) if sequences is None else sequences:
        mine = call.sequence(b)._replace(block_indices=chosen[b : b + 1])
        exact = core_oracle(*mine)
        rows = chosen[b : b + 1].cpu()
        if call.parts.route:
            fault = routing_fault(rows, exact.importance.cpu(), torch.tensor([lengths[b]]), call.sizes)
        else:
            given = torch.equal(chosen[b], call.block_indices[b])
            fault = None if given else "the blocks that it was given were changed"
        wanted = lowest(lengths[b], call.sizes)
        if fault is None and tied and rows[0].tolist() != [wanted] * rows.shape[1]:
            fault = f"blocks of equal importance: {rows[0, 0].tolist()}, expected the lowest, {wanted}"
        if fault is not None:
            return Judged(torch.nan, f"sequence {b}: {fault.replace('row 0, ', 'group ')}")
        if not bool(output[b].isfinite().all()):
            return Judged(
                torch.nan, f"sequence {b} of {lengths[b]} tokens: the output is not finite, or was not written"
            )
        error = relative_error(output[b], exact.output[0])
        if error == torch.inf:
            return Judged(torch.nan, f"sequence {b} of {lengths[b]} tokens: a row that must be zero is not")
        worst = max(worst, error)
        rows_judged += rows.shape[1]
        clear += clear_rows(exact.importance, [lengths[b]], call.sizes)
    return Judged(worst, None, rows_judged, clear)


def relative_error(output: torch.Tensor, exact: torch.Tensor) -> float:
    """The largest ‖o - exact‖ / ‖exact‖ over all rows; infinite where a row that must be zero is not."""
    norm = exact.norm(dim=-1)
    error = (output.double() - exact).norm(dim=-1)
    return float(torch.where(norm > 0, error / norm, torch.where(error > 0, torch.inf, 0.0)).max())


def lowest(S: int, sizes: Sizes) -> list[int]:
    """The blocks to choose of a row whose inner blocks are equally important."""
    blocks = sizes.num_blocks(S)
    last = [block for block in (blocks - 2, blocks - 1) if block >= 0]
    first = [block for block in range(blocks) if block not in last][: max(0, sizes.sel_count - len(last))]
    chosen = sorted({*first, *last})
    return chosen + [-1] * (sizes.sel_count - len(chosen))


def judge_dense(call: CoreCall, output: torch.Tensor, sequences: Sequence[int]) -> Judged:
    """Judge dense attention over all tokens of the selected branch's cache: output [B, G, h, Dv]."""
    expected = (*call.q.shape[:3], call.v[SEL].shape[3])
    if tuple(output.shape) != expected or not bool(output.isfinite().all()):
        return Judged(torch.nan, f"the output is {tuple(output.shape)}, expected {expected}, finite")
    errors = []
    for b in sequences:
        q, k, v = (each[b].double() for each in (call.q, call.k[SEL], call.v[SEL]))
        p = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        errors.append(relative_error(output[b], p @ v))
    return Judged(max(errors), None)


def differ(one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]) -> bool:
    """Whether two calls gave other outputs or blocks, in bits."""
    return not all(map(same_bits, one, other))
