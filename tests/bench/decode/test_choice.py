"""Which choices of blocks are right: exactly the best where importance is clear, as good as them where it is close."""

from __future__ import annotations

import pytest
import torch

from nsa.bench.decode.choice import Choices, judge_choice
from nsa.shapes import NsaShape

SHAPE = NsaShape(sel_count=5)  # two beside block 0 and the last two
S = 8 * 64
BEST = [0.1, 0.5, 0.3, 0.2, 0.4, 0.1, 0.9, 0.9]


def judged(importance: list[float], blocks: list[int], length: int = S, shape: NsaShape = SHAPE) -> Choices:
    one = torch.tensor(importance, dtype=torch.float64)[None, None, None]
    return judge_choice(one, torch.tensor(blocks, dtype=torch.int32)[None, None, None], length, shape)


@pytest.mark.parametrize(
    ("blocks", "wrong"),
    [
        ([0, 1, 4, 6, 7], 0),
        ([0, 1, 2, 6, 7], 1),  # not the best
        ([1, 2, 4, 6, 7], 1),  # a forced one is missing
        ([0, 4, 1, 6, 7], 1),  # not ascending
        ([0, 1, 6, 7, -1], 1),  # too few
    ],
)
def test_a_clear_row_must_have_the_best_blocks(blocks: list[int], wrong: int) -> None:
    """Where the margin is larger than rounding there is one right answer."""
    assert judged(BEST, blocks) == Choices(1, 1, wrong)


@pytest.mark.parametrize(
    ("blocks", "wrong"),
    [
        ([0, 1, 4, 6, 7], 0),
        ([0, 1, 2, 6, 7], 0),  # as good
        ([0, 2, 4, 6, 7], 1),  # without the best
        ([0, 1, 3, 6, 7], 1),
        ([0, 1, 1, 6, 7], 1),  # one twice
        ([1, 2, 4, 6, 7], 1),
        ([0, 1, 4, 6, 8], 1),  # beyond the last
    ],
)
def test_a_close_row_may_have_either(blocks: list[int], wrong: int) -> None:
    """Within rounding the lower sum may be 1e-5 less than the best, and not more."""
    close = [*BEST[:2], 0.4 * (1 - 1e-6), *BEST[3:]]
    assert judged(close, blocks) == Choices(1, 0, wrong)


def test_few_blocks_are_all_selected() -> None:
    """With at most n blocks there is nothing to choose: all, then -1."""
    assert judged([0.0, 0.0], [0, 1, -1, -1, -1], 100) == Choices(1, 1, 0)
    assert judged([0.0, 0.0], [0, -1, -1, -1, -1], 100) == Choices(1, 1, 1)
    forced = NsaShape(sel_count=3)
    assert judged(BEST, [0, 6, 7], S, forced) == Choices(1, 1, 0)
    assert judged(BEST, [1, 6, 7], S, forced) == Choices(1, 1, 1)
