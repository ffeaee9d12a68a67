"""Cards: what each gate says, and where its figures stand on the axis."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from nsa.report.analysis.stats import Estimate
from nsa.report.page.html.cards import TONES, axis
from nsa.report.verdict import words

if TYPE_CHECKING:
    from nsa.report.page.html.cards import Axis

MARKS = {"from": 1.2}


def drawn(*found: Estimate) -> Axis:
    return axis("speedup", [(str(place), each) for place, each in enumerate(found)], MARKS, " ×")


def test_every_verdict_has_a_tone() -> None:
    """No verdict is left without a colour and a shape, and the decided ones differ from the others."""
    every = {words.GO, words.NO_GO, words.ACCEPT, words.REJECT, words.INCONCLUSIVE, words.NOT_MEASURED}
    assert set(TONES) == every
    assert TONES[words.GO] == TONES[words.ACCEPT] != TONES[words.REJECT] == TONES[words.NO_GO]
    assert len({TONES[words.GO], TONES[words.REJECT], TONES[words.INCONCLUSIVE], TONES[words.NOT_MEASURED]}) == 4


def test_an_interval_stands_right_of_a_threshold_that_it_exceeds() -> None:
    """Places on the axis have the order of the figures, and all lie on it."""
    found = drawn(Estimate(2.0, 1.5, 2.5, 3), Estimate(1.0, 0.9, 1.1, 3))
    above, below = found.intervals
    mark = found.thresholds[0].at
    assert 0 < below.low < below.value < below.high < mark < above.low < above.value < above.high < 100
    assert mark == pytest.approx(100 * 1.2 / (1.08 * 2.5), abs=0.01)
    assert above.text == "2.00 [1.50, 2.50]"


def test_one_process_has_a_point_and_no_interval() -> None:
    """What one process measured is drawn as a point, and says so."""
    (line,) = drawn(Estimate(2.0, -math.inf, math.inf, 1)).intervals
    assert (line.low, line.high, line.text) == (None, None, "2.00 (1 process)")


def test_a_figure_below_zero_stands_at_the_axis_begin() -> None:
    """A share may be below 0 by chance; it is drawn on the axis all the same."""
    (line,) = drawn(Estimate(-0.1, -0.2, 0.1, 3)).intervals
    assert (line.low, line.value) == (0.0, 0.0)
