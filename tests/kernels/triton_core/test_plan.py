"""Plans of the Triton core: they cover the tokens, fit a multiprocessor, and follow no length."""

from __future__ import annotations

import itertools

from nsa.kernels.limits import HEAD_DIMS
from nsa.kernels.triton_core.plan import MAX_SPLITS, STEP_BYTES, Call, plan


def test_every_token_has_its_program() -> None:
    """Whatever the sizes, splits cover their branch, none is empty, and a combination can hold them."""
    for rows, width, itemsize, window, selected in itertools.product(
        (1, 4, 128, 1024), HEAD_DIMS, (2, 4), (0, 1, 512, 200_000), (0, 3, 1024, 8192, 1 << 20)
    ):
        made = plan(Call(rows, width, width, itemsize, window, selected, 132))
        for count, splits in ((window, made.win_splits), (selected, made.sel_splits)):
            share = made.tokens * made.chunk
            assert ((splits - 1) * share < count <= splits * share and splits <= MAX_SPLITS) or count == splits == 0
        assert made.tokens == 16 or made.tokens * 2 * width * itemsize <= STEP_BYTES


def test_few_rows_are_split_and_many_are_not() -> None:
    """One sequence takes a program a step; where rows fill the device a program takes several."""
    one, many = (plan(Call(rows, 128, 128, 2, 512, 1024, 132)) for rows in (4, 1024))
    assert (one.chunk, one.win_splits, one.sel_splits) == (1, 8, 16)
    assert (many.win_splits, many.sel_splits) == (1, 1)
