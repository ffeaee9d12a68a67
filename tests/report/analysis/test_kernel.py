"""The acceptance grid as the report sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from synthetic import CONFIG, GRID

from nsa.report.analysis.kernel import off_grid
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
