"""The kernel check of kernels that cheat: every one is rejected for the right reason."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from wrong.cheats import CHEATS
from wrong.judgement import ShowRow, assert_rejected


@pytest.fixture(autouse=True, scope="module")
def frozen() -> Iterator[None]:
    """What was there before is hidden from those that look through all memory, and would take seconds a call."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("name", CHEATS)
def test_a_kernel_that_cheats_is_rejected(name: str, show_row: ShowRow) -> None:
    """The check that is meant to rejects it; where no other does, it passes with that one off, and only then."""
    assert_rejected(name, CHEATS[name], show_row)
