"""The acceptance grid as the report sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from synthetic import CONFIG, GRID
from synthetic_check import check_facts

from nsa.records.shapes import GridShape
from nsa.report.analysis.kernel import floor_us, off_grid
from nsa.report.analysis.read import read_check

if TYPE_CHECKING:
    from tests.report.conftest import Lab


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_check_of_the_settings_is_on_the_grid(lab: Lab, device: str) -> None:
    """A record's dtype, context, groups and block size are those of the settings on its device."""
    record = read_check(lab.check("cuda", device=device))
    assert off_grid(record, CONFIG.check) is None
    other = GRID.model_copy(update={"context": 2048, "cpu_context": 2048})
    assert str(off_grid(record, other)).endswith("and the settings ask for 2048")


@pytest.mark.parametrize(
    ("sel_count", "context", "tokens"),
    [
        (8, 4096, 8 * 64),
        (8, 4090, 8 * 64 - 6),  # the last block holds 58
        (8, 300, 300),  # all five blocks
    ],
)
def test_the_floor_is_of_the_selected_tokens_at_the_fastest_rate(sel_count: int, context: int, tokens: int) -> None:
    """K and V of each selected token are read once; of a partial last block, only the tokens that are there."""
    facts = check_facts("cuda", 2, {"bandwidth_bytes_per_s": (3e12, 4e12), "read_bandwidth_bytes_per_s": (5e12, 2e12)})
    shape = GridShape(256, 4, 64, 128, sel_count)
    settings = GRID.model_copy(update={"context": context})
    assert floor_us(facts, shape, settings) == pytest.approx(256 * tokens * (64 + 128) * 2 / 5e12 * 1e6)


def test_a_check_on_a_cpu_has_no_floor() -> None:
    """No rate was measured there."""
    assert floor_us(check_facts("cpu", 1), GridShape(8, 4, 64, 128, 8), GRID) is None
