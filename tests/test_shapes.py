"""The shape's rules and closed forms, against figures worked out by hand and against plain counting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsa.errors import ConfigError
from nsa.shapes import NsaShape


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"dim": 0}, "dim: got 0, expected a whole number"),
        ({"window": -1}, "window: got -1, expected a whole number"),
        ({"cmp_block": 32.0}, "cmp_block: got 32.0, expected a whole number"),
        ({"sel_count": True}, "sel_count: got True, expected a whole number"),
        ({"phi": "max"}, "phi: got 'max', expected mean or mlp"),
        ({"heads": 9}, "heads: got 9, expected a multiple of groups = 2"),
        ({"heads": 34}, "heads: got 34, expected at most 16 per group"),
        ({"head_dim": 33}, "head_dim: got 33, expected an even number"),
        ({"cmp_block": 40}, "cmp_block: got 40, expected a multiple of cmp_stride = 16"),
        ({"sel_block": 72}, "sel_block: got 72, expected a multiple of cmp_stride = 16"),
        ({"sel_count": 2}, "sel_count: got 2, expected a whole number from 3 to 128 (block 0, the current block"),
        ({"sel_count": 129}, "sel_count: got 129, expected a whole number from 3 to 128"),
        ({"window": 2**31}, "window: got 2147483648, expected a whole number of at most 2147483647"),
        ({"w": 512}, "unknown key 'w' in the settings; known keys: dim, heads"),
    ],
)
def test_an_impossible_shape_is_refused(sizes: dict[str, object], message: str) -> None:
    """A size that is no size, or sizes that do not fit together, are one line."""
    with pytest.raises(ConfigError) as caught:
        NsaShape(**sizes)  # type: ignore[arg-type]
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("S", "compressed", "blocks", "selected", "reads"),
    [
        (1, 0, 1, 1, 2),
        (31, 0, 1, 31, 62),
        (32, 1, 1, 32, 65),
        (48, 2, 1, 48, 98),
        (100, 5, 2, 100, 205),
        (128, 7, 2, 128, 263),  # 7 + 128 + 128
        (1024, 63, 16, 1024, 1599),  # 63 + 1024 + 512: every block is still selected
        (1025, 63, 17, 961, 1536),  # 15 whole blocks and one token of the current one
        (2000, 124, 32, 976, 1612),
        (2048, 127, 32, 1024, 1663),
    ],
)
def test_closed_forms_at_hand_computed_contexts(
    S: int, compressed: int, blocks: int, selected: int, reads: int
) -> None:
    """Compressed tokens, blocks and reads have the values worked out by hand."""
    shape = NsaShape()
    assert shape.num_compressed(S) == compressed
    assert shape.num_blocks(S) == blocks
    assert shape.selected_tokens(S) == selected
    assert shape.reads_expected(S) == reads


@given(
    S=st.integers(1, 600),
    stride=st.integers(1, 8),
    cmp_strides=st.integers(1, 5),
    sel_strides=st.integers(1, 5),
    sel_count=st.integers(3, 8),
    window=st.integers(1, 700),
)
def test_closed_forms_agree_with_counting(
    S: int, stride: int, cmp_strides: int, sel_strides: int, sel_count: int, window: int
) -> None:
    """For any shape the closed forms are what plain counting gives."""
    shape = NsaShape(
        cmp_stride=stride,
        cmp_block=stride * cmp_strides,
        sel_block=stride * sel_strides,
        sel_count=sel_count,
        window=window,
    )
    starts = range(0, S, shape.cmp_stride)
    compressed = [start for start in starts if start + shape.cmp_block <= S]
    blocks = [range(start, min(start + shape.sel_block, S)) for start in range(0, S, shape.sel_block)]
    selected = blocks[-1:] + blocks[:-1][: shape.sel_count - 1]  # the current block is always among them
    in_window = [token for token in range(S) if token >= S - shape.window]

    assert shape.num_compressed(S) == len(compressed)
    assert shape.emits(S) == (shape.num_compressed(S) > shape.num_compressed(S - 1))
    assert shape.num_blocks(S) == len(blocks)
    assert shape.selected_tokens(S) == sum(len(block) for block in selected)
    assert shape.reads_expected(S) == len(compressed) + sum(len(block) for block in selected) + len(in_window)


def test_heads_per_group_is_the_guides_h() -> None:
    """The acceptance grid's H is the heads that share one row's keys, not all heads of the layer."""
    assert NsaShape(heads=12, groups=3).heads_per_group == 4
