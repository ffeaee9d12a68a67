"""The judgement of a decode cell itself: every wrong layer is rejected by the checks that are meant for it."""

from __future__ import annotations

import pytest
from standins import ON_CPU
from wrong.layers import BLOCKS, CACHE, LAYERS, STEP

from nsa.bench.decode.job import Job
from nsa.bench.decode.replicate import replicate
from nsa.bench.workers import Turn
from nsa.config import DecodeSettings, DtypeByDevice
from nsa.kernels import registry
from nsa.kernels.contract import Backend, SelectAttention
from nsa.kernels.sdpa.packed import gather
from nsa.records.decode import DecodeFacts
from nsa.report.verdict.checks import Check, output_not_finite, reads_differ, routing_wrong
from nsa.report.verdict.launches import skipped_part_launched
from nsa.report.verdict.step_checks import step_checks
from nsa.shapes import NsaShape

SMALL = NsaShape(
    dim=64,
    heads=4,
    groups=2,
    head_dim=16,
    value_dim=16,
    cmp_block=8,
    cmp_stride=4,
    sel_block=16,
    sel_count=6,
    window=48,
)
SETTINGS = DecodeSettings(model=SMALL, batch=2, iters=4, warmup=1, processes=1)
S = 402  # 26 blocks; the neighbour that emits is 400


def facts_of(monkeypatch: pytest.MonkeyPatch, select: SelectAttention, settings: DecodeSettings, S: int) -> DecodeFacts:
    """What the stage records of a cell whose backend has this kernel."""
    monkeypatch.setattr(registry, "load", lambda name, *_: Backend(name, select))
    return replicate(Job("sdpa", S, settings, ON_CPU, 0), Turn()).facts


def fired(facts: DecodeFacts) -> dict[str, Check]:
    """The blocking checks on what a cell gave that fire, by name."""
    made = [
        *step_checks("cell", facts),
        reads_differ("cell", facts.reads),
        routing_wrong("cell", facts.routing_fault),
        output_not_finite("cell", facts.outputs_finite),
        skipped_part_launched("cell", facts),
    ]
    return {check.name: check for check in made if check.blocks}


@pytest.mark.parametrize("name", LAYERS)
def test_a_wrong_layer_is_rejected_for_the_right_reason(name: str, monkeypatch: pytest.MonkeyPatch, show_row) -> None:
    """The checks that are meant for a mistake fire, with the words for it, and no others."""
    wrong = LAYERS[name]
    wrong.make(monkeypatch)
    found = fired(facts_of(monkeypatch, wrong.select, SETTINGS, S))
    said = [check.message for check in found.values()]
    show_row("wrong layers", ("layer", "rejected by"), (name, "; ".join(sorted(found))))
    assert set(found) == wrong.checks
    assert any(wrong.because in message for message in said), said


def test_every_check_of_a_step_has_a_layer_that_it_alone_rejects() -> None:
    """Without any one of these checks, a wrong layer would pass."""
    assert all({check} in [wrong.checks for wrong in LAYERS.values()] for check in (STEP, CACHE, BLOCKS))


@pytest.mark.parametrize(
    ("S", "batch", "seed", "dtype"),
    [
        (128, 1, 0, "float32"),
        (128, 3, 5, "bfloat16"),
        (256, 3, 1, "float32"),
        (512, 1, 2, "bfloat16"),
        (1024, 3, 3, "float32"),
        (1024, 1, 4, "bfloat16"),
        (2048, 3, 0, "bfloat16"),
    ],
)
def test_a_right_layer_passes(S: int, batch: int, seed: int, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No check fires on the layer as it is: the default sizes, any seed, float32 and half precision."""
    settings = DecodeSettings(batch=batch, seed=seed, iters=4, warmup=1, dtype=DtypeByDevice(cpu=dtype))
    facts = facts_of(monkeypatch, gather, settings, S)
    assert fired(facts) == {}
    assert facts.judged[0].steps == 2 * 8 * 4  # emitting or not, arms, blocks


@pytest.mark.parametrize("seed", range(5))
def test_the_right_layer_passes_where_the_wrong_ones_do_not(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the sizes by which mistakes are found no check fires either, whatever the seed."""
    assert fired(facts_of(monkeypatch, gather, SETTINGS.model_copy(update={"seed": seed}), S)) == {}
