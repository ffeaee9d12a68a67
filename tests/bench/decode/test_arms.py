"""The arms of a cell, and the steps that stand for S."""

from __future__ import annotations

import pytest

from nsa.bench.decode.arms import ARMS, Arm, emission
from nsa.kernels.core import Parts
from nsa.records import words
from nsa.shapes import NsaShape


def test_the_arms_are_those_that_records_name() -> None:
    """Every arm that a record names is timed, the control is the whole step, and `sel` takes frozen block indices."""
    assert list(ARMS) == list(words.ARMS)
    assert ARMS["all"] == ARMS["all_again"]
    assert [name for name, arm in ARMS.items() if arm.frozen] == ["sel"]
    assert ARMS["none"] == Arm(Parts(cmp=False, route=False, sel=False, win=False))
    assert ARMS["all_without_sel"] == Arm(Parts(sel=False))


@pytest.mark.parametrize(
    ("S", "steps", "weight"),
    [
        (31, {False: 31}, 0.0),  # the first block is not full: nothing emits
        (32, {True: 32, False: 31}, 1 / 16),
        (128, {True: 128, False: 127}, 1 / 16),
        (129, {True: 128, False: 129}, 1 / 16),
        (143, {True: 144, False: 143}, 1 / 16),
        (136, {True: 128, False: 136}, 1 / 16),
    ],
)
def test_emission_pairs_a_step_with_its_neighbour(S: int, steps: dict[bool, int], weight: float) -> None:
    """S is measured itself, beside its nearest neighbour that differs in emitting, weighted 1/d and 1 - 1/d."""
    assert emission(NsaShape(), S) == (steps, weight)
    assert S in steps.values()
    assert emission(NsaShape(cmp_stride=1, cmp_block=4), S) == ({True: S}, 1.0)
