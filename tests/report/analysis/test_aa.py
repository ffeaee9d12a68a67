"""A/A controls of a run hold together."""

from __future__ import annotations

import math

import pytest
from synthetic import CPU, GPU

from nsa.report.analysis.aa import controls
from nsa.report.analysis.stats import Estimate

PLAIN = Estimate(1.01, 1.001, 1.019, 10)
OTHER = GPU.model_copy(update={"name": "NVIDIA A100"})


def test_the_interval_that_blocks_holds_for_all_controls_of_the_model() -> None:
    """Cards of one model share a run's error; another model, a CPU and a control of one process do not count."""
    card = GPU.model_copy(update={"uuid": "GPU-1"})
    one = Estimate(1.01, -math.inf, math.inf, 1)
    ratios = {"a": (GPU, PLAIN), "b": (card, PLAIN), "c": (OTHER, PLAIN), "d": (GPU, one), "e": (CPU, PLAIN)}
    found = controls(ratios, 0.95)
    assert {name: control.controls for name, control in found.items()} == {"a": 2, "b": 2, "c": 1, "e": 1}
    assert [found[name].confidence for name in "abc"] == pytest.approx([0.975, 0.975, 0.95])
    assert (found["c"].ratio.low, found["c"].ratio.high) == pytest.approx((1.001, 1.019))
    assert found["a"].ratio.low < 1 < PLAIN.low
    assert (found["a"].excludes_one, found["c"].excludes_one) == (False, True)


def test_a_control_says_how_sure_it_is() -> None:
    """Of eight controls each has the interval at 1 - 0.05 / 8."""
    found = controls({str(n): (GPU, PLAIN) for n in range(8)}, 0.95)
    assert found["0"].confidence == pytest.approx(1 - 0.05 / 8)
    assert found["0"].ratio.value == PLAIN.value
