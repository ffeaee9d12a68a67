"""The kernel check of honest kernels that are wrong: every one is rejected for the right reason."""

from __future__ import annotations

import pytest
from wrong.corpora import HONEST_AND_WRONG
from wrong.judgement import ShowRow, assert_rejected


@pytest.mark.parametrize("name", HONEST_AND_WRONG)
def test_an_honest_kernel_that_is_wrong_is_rejected(name: str, show_row: ShowRow) -> None:
    """The check that is meant to rejects it; where no other does, it passes with that one off, and only then."""
    assert_rejected(name, HONEST_AND_WRONG[name], show_row)
