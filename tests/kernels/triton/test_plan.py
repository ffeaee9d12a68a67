"""How calls are cut: the rule for every size, and cuts that were measured and frozen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsa.errors import RecordError
from nsa.kernels.contract import HEAD_DIMS
from nsa.kernels.triton import plan as plans
from nsa.kernels.triton.plan import MAX_SPLITS, Plan, Size, candidates, choose, freeze, frozen, rule, steps

H200 = Size(rows=256, heads=8, count=16, block=64, head_dim=128, value_dim=128, itemsize=2, processors=132)
DEVICE = "a GPU, torch 2, triton 3"

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


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of this test's own."""
    monkeypatch.setattr(plans, "CACHE", tmp_path / "cache" / "plans.json")
    frozen.cache_clear()
    yield plans.CACHE
    frozen.cache_clear()


@given(size=sizes)
def test_every_candidate_can_be_launched(size: Size) -> None:
    """Breaks if a cut has a tile that Triton refuses, an empty split or more partial results than a combination holds."""
    found = list(candidates(size))
    assert found[0] == rule(size) and len(found) == len(set(found))
    for plan in found:
        assert plan.tokens in (16, 32, 64) and plan.warps in (4, 8)
        assert 1 <= plan.splits <= min(MAX_SPLITS, steps(size, plan.tokens))
        assert not plan.prefetch or plan.splits < steps(size, plan.tokens)  # a next step exists


def test_few_rows_fill_the_gpu_and_many_are_not_combined() -> None:
    """Breaks if one sequence runs on four of 132 processors, or a thousand rows pay for a second launch."""
    assert rule(replace(H200, rows=4)).splits == 16
    assert rule(replace(H200, rows=64)).splits == 4
    assert rule(H200).splits == 1 and rule(H200).prefetch
    assert rule(replace(H200, rows=1024)) == Plan(tokens=64, warps=4, splits=1, prefetch=False)


def test_a_frozen_cut_is_chosen_for_its_size_and_device_alone() -> None:
    """Breaks if a measured cut is lost, or is used where it was not measured."""
    mine, other = Plan(32, 4, 2, True), Plan(16, 8, 1, False)
    freeze(H200, DEVICE, mine)
    freeze(replace(H200, heads=4), DEVICE, other)
    assert choose(H200, DEVICE) == mine and choose(replace(H200, heads=4), DEVICE) == other
    for size, device in ((replace(H200, itemsize=4), DEVICE), (H200, DEVICE.replace("triton 3", "triton 4"))):
        assert choose(size, device) == rule(size)


def test_nothing_changes_a_cut_between_warm_up_and_timing(empty_cache: Path) -> None:
    """Breaks if another process that tunes changes what this one times."""
    freeze(H200, DEVICE, Plan(32, 4, 2, True))
    assert choose(H200, DEVICE) == Plan(32, 4, 2, True)
    empty_cache.write_text("{}")
    assert choose(H200, DEVICE) == Plan(32, 4, 2, True)


@pytest.mark.parametrize("content", ["[1]", '{"a GPU": {"tokens": 64}}', '{"a GPU": 3}', "no JSON"])
def test_a_broken_cache_is_an_error_and_no_silent_rule(empty_cache: Path, content: str) -> None:
    """Breaks if a damaged file quietly changes which kernel is timed."""
    empty_cache.parent.mkdir()
    empty_cache.write_text(content)
    with pytest.raises(RecordError, match=r"delete it|JSON"):
        choose(H200, DEVICE)
