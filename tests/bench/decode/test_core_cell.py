"""A decode cell whose steps run through a core: right ones pass every check, and each wrong one is rejected."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from standins import CPU, ON_CPU
from wrong.mistakes import ties_upwards

from nsa.attention.composition import compose
from nsa.bench.decode.arms import ARMS
from nsa.bench.decode.cell import Cell
from nsa.bench.decode.job import Job
from nsa.bench.decode.replicate import replicate
from nsa.bench.workers import Turn
from nsa.config import DecodeSettings
from nsa.kernels import registry
from nsa.kernels.contract import Backend
from nsa.kernels.core import SEL, WIN, Core, Parts, Sizes
from nsa.kernels.sdpa.packed import gather
from nsa.records.decode import DecodeFacts
from nsa.report.verdict.checks import output_not_finite, reads_differ, routing_wrong
from nsa.report.verdict.launches import skipped_part_launched
from nsa.report.verdict.step_checks import step_checks
from nsa.shapes import NsaShape

SMALL = NsaShape(
    dim=32,
    heads=4,
    groups=2,
    head_dim=32,
    value_dim=32,
    cmp_block=8,
    cmp_stride=4,
    sel_block=16,
    sel_count=6,
    window=48,
)
SETTINGS = DecodeSettings(model=SMALL, batch=2, iters=4, warmup=1, processes=1)
S = 402  # 26 blocks; the neighbour that emits is 400
RIGHT = compose(gather)


def facts_of(monkeypatch: pytest.MonkeyPatch, core: Core, S: int = S) -> DecodeFacts:
    """What the stage records of a cell whose backend has this core and no selection kernel."""
    monkeypatch.setattr(registry, "load", lambda name, *_: Backend(name, core=core))
    return replicate(Job("fused", S, SETTINGS, ON_CPU, 0), Turn()).facts


def fired(facts: DecodeFacts) -> set[str]:
    """The blocking checks on what a cell gave that fire."""
    made = [
        *step_checks("cell", facts),
        reads_differ("cell", facts.reads),
        routing_wrong("cell", facts.routing_fault),
        output_not_finite("cell", facts.outputs_finite),
        skipped_part_launched("cell", facts),
    ]
    return {check.name for check in made if check.blocks}


@pytest.mark.parametrize("S", [3, 40, S])
def test_a_right_core_passes(S: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a compressed token, with every block selected, and with some."""
    facts = facts_of(monkeypatch, RIGHT, S)
    assert fired(facts) == set()
    assert facts.contract == "core" and facts.off_unread and set(facts.launches or {}) == set(ARMS)


def test_its_steps_are_those_of_the_selection_kernel() -> None:
    """Each arm gives what the layer's step gives with the same kernel, and reads the same."""
    own, other = Cell(SETTINGS, S, gather, CPU), Cell(SETTINGS, S, None, CPU, RIGHT)
    assert own.reads == other.reads
    for name in ARMS:
        torch.testing.assert_close(other.arm(name, True).output, own.arm(name, True).output, atol=2e-6, rtol=1e-5)


def test_an_arm_without_parts_does_not_call_the_core() -> None:
    """Of the step without a part nothing but the fixed work is left."""
    called: list[Parts] = []

    def watched(*arguments) -> torch.Tensor:
        called.append(arguments[8])
        return RIGHT(*arguments)

    cell = Cell(SETTINGS, S, None, CPU, watched)
    called.clear()
    for name in ARMS:
        cell.arm(name, True)
    assert called == [arm.parts for name, arm in ARMS.items() if name != "none"]


def wider(*arguments) -> torch.Tensor:
    """A window of w + 1 tokens."""
    sizes: Sizes = arguments[7]
    return RIGHT(*arguments[:7], sizes._replace(window=sizes.window + 1), *arguments[8:])


def whole(*arguments) -> torch.Tensor:
    """All parts run, and the gates of those that are off are zero."""
    q, gates, *rest = arguments
    parts: Parts = arguments[8]
    on = torch.tensor([parts.cmp, parts.sel, parts.win])
    return RIGHT(q, gates * on, *rest[:6], Parts(route=parts.route), *rest[7:])


def peeking(*arguments) -> torch.Tensor:
    """A window cache that is read whether the window is on or not; NaN would not show."""
    return RIGHT(*arguments) * (1 + 1e-4 * arguments[2][WIN][..., 0, :].isnan().any())


def without_sel(*arguments) -> torch.Tensor:
    """No selected branch in any arm."""
    parts: Parts = arguments[8]
    return RIGHT(*arguments[:8], Parts(parts.cmp, parts.route, False, parts.win), *arguments[9:])


def easier_blocks(*arguments) -> torch.Tensor:
    """The blocks that it is given are overwritten by the first ones, and it attends to those."""
    parts: Parts = arguments[8]
    if parts.sel and not parts.route:
        arguments[9].copy_(torch.arange(arguments[9].shape[2]))
    return RIGHT(*arguments)


def easier_keys(*arguments) -> torch.Tensor:
    """All keys of the selected branch are overwritten by the first one, but for the newest."""
    keys = arguments[2][SEL]
    if keys.shape[2] > S:
        keys[:, :, : S - 3] = keys[:, :, :1].clone()
    return RIGHT(*arguments)


@pytest.mark.parametrize(
    ("core", "checks"),
    [
        (wider, {"reads_differ", "step_wrong"}),
        (whole, {"output_not_finite", "skipped_part_launched"}),
        (peeking, {"skipped_part_launched"}),
        (without_sel, {"reads_differ", "step_wrong"}),
        (easier_blocks, {"step_wrong"}),
        (easier_keys, {"cache_wrong"}),
    ],
)
def test_a_wrong_core_is_rejected(
    core: Callable[..., torch.Tensor], checks: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the checks that are meant for its mistake."""
    assert fired(facts_of(monkeypatch, core)) == checks


def test_ties_to_the_higher_index_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A core's routing is asked with scores that tie."""
    monkeypatch.setattr("nsa.attention.composition.select_blocks", ties_upwards)
    assert fired(facts_of(monkeypatch, RIGHT)) == {"routing_wrong"}
