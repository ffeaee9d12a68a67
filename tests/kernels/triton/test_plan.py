"""Launch configurations: the rule for every size, and what tuning tries."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsa.kernels.limits import HEAD_DIMS
from nsa.kernels.triton.plan import MAX_SPLITS, LaunchConfig, Size, candidates, rule, steps

H200 = Size(rows=256, heads=8, count=16, block=64, head_dim=128, value_dim=128, itemsize=2, processors=132)
sizes = st.builds(
    Size,
    rows=st.integers(1, 4096),
    heads=st.integers(1, 16),
    count=st.integers(0, 128),
    block=st.sampled_from([16, 32, 48, 64, 128]),
    head_dim=st.sampled_from(HEAD_DIMS),
    value_dim=st.sampled_from(HEAD_DIMS),
    itemsize=st.sampled_from([2, 4]),
    processors=st.integers(1, 200),
)


@given(size=sizes)
def test_every_candidate_can_be_launched(size: Size) -> None:
    """Every candidate has tiles that Triton takes, no empty split and no more splits than a combination holds."""
    found = list(candidates(size))
    assert found[0] == rule(size) and len(found) == len(set(found))
    for config in found:
        assert config.tokens in (16, 32, 64) and config.warps in (2, 4, 8)
        assert 1 <= config.splits <= min(MAX_SPLITS, steps(size, config.tokens))
        assert not config.prefetch or config.splits < steps(size, config.tokens)  # a next step exists


def test_few_rows_fill_the_gpu_and_many_are_not_combined() -> None:
    """Four rows are split until the GPU is full; a thousand rows take one launch."""
    assert rule(replace(H200, rows=4)).splits == 16
    assert rule(replace(H200, rows=64)).splits == 4
    assert rule(H200).splits == 1
    assert rule(replace(H200, rows=1024)).splits == 1


# of the fastest configurations on one H200 (D = Dv, l' = 64, h = 8), with what the rule's own may cost beside them
FASTEST = [
    (1024, 64, 16, LaunchConfig(32, 2, 1, True)),
    (1024, 128, 8, LaunchConfig(32, 4, 1, True)),
    (256, 64, 8, LaunchConfig(64, 4, 2, True)),
    (256, 128, 8, LaunchConfig(64, 8, 1, True)),
    (64, 64, 16, LaunchConfig(64, 4, 8, False)),
    (64, 128, 8, LaunchConfig(64, 8, 4, False)),
    (4, 64, 8, LaunchConfig(64, 4, 8, False)),
    (4, 128, 16, LaunchConfig(64, 8, 16, False)),
]


@pytest.mark.parametrize(("rows", "width", "count", "expected"), FASTEST)
def test_the_rule_is_near_what_was_measured(rows: int, width: int, count: int, expected: LaunchConfig) -> None:
    """For these sizes the rule chooses one of the fastest configurations that were measured."""
    assert rule(replace(H200, rows=rows, head_dim=width, value_dim=width, count=count)) == expected
