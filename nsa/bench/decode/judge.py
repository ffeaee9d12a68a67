"""Timed steps held against a float64 step: their outputs, the blocks that they chose, what they wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from nsa.bench.decode.cell import Cell
from nsa.bench.decode.choice import Choices, judge_choice
from nsa.bench.decode.errors import Errors, worse, worst
from nsa.bench.decode.exact import CMP, SEL, WIN, Exact, ExactStep
from nsa.bench.decode.kept import Kept, Taken
from nsa.records.decode import Judged


@torch.no_grad()
def judge(cell: Cell, steps: Sequence[Kept], process: int) -> Judged:
    """Judge every step that was kept of a cell's arms; heavy arithmetic, so after the timing.

    Outputs are judged for the blocks that the step chose, and these by the importance in float64 of the query and the
    compressed keys as the step rounded them: a block that rounding swaps is then no error of the output.
    """
    outputs: Errors = {}
    states: Errors = dict(cell.prefilled)
    chosen: dict[str, list[Choices]] = {}
    lengths_right = True
    for emits, S in cell.steps.items():
        cell.restore(emits)
        step = ExactStep(cell.layer.state_dict(), cell.cache, cell.settings.model, S)
        every = step.of(cell.fresh)
        for kept in steps:
            if kept.emits != emits or not kept.taken:
                continue
            exact = every.of([each.which for each in kept.taken])
            states = worse(states, _states(kept.taken, exact))
            outputs = worse(outputs, {kept.name: _output(step, kept, exact, cell.frozen[emits])})
            lengths_right &= all(bool((each.seq_lens == S).all()) for each in kept.taken)
            if kept.arm.parts.route:
                chosen.setdefault(kept.name, []).append(_choices(step, kept.taken))
    return Judged(
        process=process,
        steps=sum(len(kept.taken) for kept in steps),
        outputs=outputs,
        states=states,
        lengths_right=lengths_right,
        caches_kept=cell.as_prefilled(),
        rows=sum(found.rows for found in chosen.get("all", ())),  # the other arms have the same hidden states
        clear=sum(found.clear for found in chosen.get("all", ())),
        wrong=sum(found.wrong for each in chosen.values() for found in each),
    )


def _output(step: ExactStep, kept: Kept, exact: Exact, frozen: torch.Tensor) -> float | None:
    """The worst relative error of an arm's outputs."""
    parts, taken, branches = kept.arm.parts, kept.taken, dict[int, torch.Tensor]()
    if parts.cmp:
        branches[CMP] = exact.cmp
    if parts.sel:
        blocks = _stack([each.blocks for each in taken]) if parts.route else frozen.expand(len(taken), -1, -1, -1)
        branches[SEL] = step.selected(exact.q, exact.k[:, :, SEL], exact.v[:, :, SEL], blocks)
    if parts.win:
        branches[WIN] = exact.win
    return worst(_stack([each.output for each in taken]), step.output(exact, branches))


def _choices(step: ExactStep, taken: Sequence[Taken]) -> Choices:
    emitted = _stack([each.k_cmp for each in taken]) if step.emits else None
    importance = step.importance(_stack([each.q for each in taken]), emitted)
    return judge_choice(importance, _stack([each.blocks for each in taken]), step.S, step.shape)


def _states(taken: Sequence[Taken], exact: Exact) -> Errors:
    """The worst relative errors of the query and of what the steps wrote into the caches."""
    pairs: Mapping[str, tuple[list[torch.Tensor | None], torch.Tensor | None]] = {
        "query": ([each.q for each in taken], exact.q),
        "key": ([each.k.transpose(0, 1) for each in taken], exact.k),
        "value": ([each.v.transpose(0, 1) for each in taken], exact.v),
        "k_cmp": ([each.k_cmp for each in taken], exact.k_cmp),
        "v_cmp": ([each.v_cmp for each in taken], exact.v_cmp),
    }
    return {name: worst(_stack(found), right) for name, (found, right) in pairs.items() if right is not None}


def _stack(tensors: Sequence[torch.Tensor | None]) -> torch.Tensor:
    """Tensors that are all there."""
    return torch.stack([tensor for tensor in tensors if tensor is not None])
