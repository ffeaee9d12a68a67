"""How calls are cut: the rule for every size, and what tuning tries."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsa.kernels.contract import HEAD_DIMS
from nsa.kernels.triton.plan import MAX_SPLITS, Plan, Size, candidates, rule, steps

H200 = Size(rows=256, heads=8, count=16, block=64, head_dim=128, value_dim=128, itemsize=2, processors=132)
sizes = st.builds(
    Size,
    rows=st.integers(1, 4096),
    heads=st.integers(1, 16),
    count=st.integers(0, 64),
    block=st.sampled_from([16, 32, 48, 64, 128]),
    head_dim=st.sampled_from(HEAD_DIMS),
    value_dim=st.sampled_from(HEAD_DIMS),
    itemsize=st.sampled_from([2, 4]),
    processors=st.integers(1, 200),
)


@given(size=sizes)
def test_every_candidate_can_be_launched(size: Size) -> None:
    """Breaks if a cut has a tile that Triton refuses, an empty split or more partial results than a combination holds."""
    found = list(candidates(size))
    assert found[0] == rule(size) and len(found) == len(set(found))
    for plan in found:
        assert plan.tokens in (16, 32, 64) and plan.warps in (2, 4, 8)
        assert 1 <= plan.splits <= min(MAX_SPLITS, steps(size, plan.tokens))
        assert not plan.prefetch or plan.splits < steps(size, plan.tokens)  # a next step exists


def test_few_rows_fill_the_gpu_and_many_are_not_combined() -> None:
    """Breaks if one sequence runs on four of 132 processors, or a thousand rows pay for a second launch."""
    assert rule(replace(H200, rows=4)).splits == 16
    assert rule(replace(H200, rows=64)).splits == 4
    assert rule(H200).splits == 1
    assert rule(replace(H200, rows=1024)).splits == 1


# of the fastest launch_configs on one H200 (D = Dv, l' = 64, h = 8), with what the rule's own may cost beside them
FASTEST = [
    (1024, 64, 16, Plan(32, 2, 1, True)),
    (1024, 128, 8, Plan(32, 4, 1, True)),
    (256, 64, 8, Plan(64, 4, 2, True)),
    (256, 128, 8, Plan(64, 8, 1, True)),
    (64, 64, 16, Plan(64, 4, 8, False)),
    (64, 128, 8, Plan(64, 8, 4, False)),
    (4, 64, 8, Plan(64, 4, 8, False)),
    (4, 128, 16, Plan(64, 8, 16, False)),
]


@pytest.mark.parametrize(("rows", "width", "count", "expected"), FASTEST)
def test_the_rule_is_near_what_was_measured(rows: int, width: int, count: int, expected: Plan) -> None:
    """Breaks if a size that nobody tuned runs slower than it needs to."""
    assert rule(replace(H200, rows=rows, head_dim=width, value_dim=width, count=count)) == expected
