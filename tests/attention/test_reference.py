"""The oracle against figures worked out by hand: nothing else judges what judges the backends."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from nsa.attention import reference

Array = reference.Array
LN2, LN3 = math.log(2), math.log(3)

# --- one attention ----------------------------------------------------------------------------------------------------


def test_one_token_returns_its_value() -> None:
    """One token has weight 1, so that its value is the output."""
    output, p = reference.attend(np.array([[5.0, -7.0]]), np.array([[3.0, 4.0]]), np.array([[1.0, 2.0, 3.0]]))
    assert_array_equal(output, [[1, 2, 3]])
    assert_array_equal(p, [[1]])


def test_two_tokens_with_known_logits() -> None:
    """Logits are divided by sqrt D: D = 4, so q . k = 2 ln 2 becomes ln 2, whose softmax with 0 is 2/3, 1/3."""
    q = np.array([[2 * LN2, 0, 0, 0], [0, 0, 0, 2 * LN3]])
    k = np.array([[1.0, 0, 0, 0], [0, 0, 0, 1.0]])  # logits: head 0 (ln 2, 0), head 1 (0, ln 3)
    output, p = reference.attend(q, k, np.array([[3.0], [9.0]]))
    assert_allclose(p, [[2 / 3, 1 / 3], [1 / 4, 3 / 4]], rtol=1e-14)
    assert_allclose(output, [[5.0], [7.5]], rtol=1e-14)  # 2 + 3; 3/4 + 27/4


def test_huge_logits_do_not_overflow() -> None:
    """The softmax subtracts the maximum: exp(1000) is infinite."""
    output, _ = reference.attend(np.array([[1000.0]]), np.array([[1.0], [0.0]]), np.array([[4.0], [5.0]]))
    assert_array_equal(output, [[4]])


# --- the selection contract -------------------------------------------------------------------------------------------

TOKENS = np.array([1.0, 2, 4, 8, 16, 32, 64])  # with q = 0 the output is a mean of these, and shows which were read


def mean_selected(indices: list[int], seq_len: int, tokens: Array = TOKENS) -> float:
    """The output of one row with q = 0, blocks of 2 and Dv = 1: the mean of the tokens that were attended to."""
    output = reference.select_attention(
        np.zeros((1, 1, 1, 2)),
        np.where(np.isnan(tokens), np.nan, 1.0)[None, None, :, None].repeat(2, axis=3),
        tokens[None, None, :, None],
        np.array([[indices]], dtype=np.int32),
        np.array([seq_len], dtype=np.int32),
        2,
    )
    assert output.shape == (1, 1, 1, 1) and output.dtype == np.float64
    return float(output.item())


@pytest.mark.parametrize(
    ("indices", "seq_len", "expected"),
    [
        pytest.param([0], 7, (1 + 2) / 2, id="one block"),
        pytest.param([0, 2], 7, (1 + 2 + 16 + 32) / 4, id="two blocks"),
        pytest.param([2, 0], 7, (1 + 2 + 16 + 32) / 4, id="any order"),
        pytest.param([1, 3], 7, (4 + 8 + 64) / 3, id="partial last block"),
        pytest.param([0, 2], 5, (1 + 2 + 16) / 3, id="clipped by seq_len"),
        pytest.param([1, -1, -1], 7, (4 + 8) / 2, id="padding at the end"),
        pytest.param([-1, 1, -1, 2], 7, (4 + 8 + 16 + 32) / 4, id="padding anywhere"),
        pytest.param([0, 2], 4, (1 + 2) / 2, id="a block beyond seq_len adds nothing"),
        pytest.param([2, 3], 4, 0, id="only blocks beyond seq_len"),
        pytest.param([-1, -1], 7, 0, id="no block"),
        pytest.param([], 7, 0, id="no column"),
        pytest.param([0, 1], 0, 0, id="seq_len 0"),
    ],
)
def test_selected_tokens(indices: list[int], seq_len: int, expected: float) -> None:
    """Blocks are clipped to the length, padding is no block, and a row without a token is zero."""
    assert mean_selected(indices, seq_len) == pytest.approx(expected, rel=1e-14, abs=0)  # zero exactly


def test_nan_beyond_seq_len_stays_there() -> None:
    """A token beyond the length is left alone, not multiplied by zero: 0 * NaN is NaN."""
    poisoned = np.where(np.arange(7) < 3, TOKENS, np.nan)
    assert mean_selected([0, 1, 3], 3, poisoned) == pytest.approx(7 / 3, rel=1e-14)


def test_rows_are_independent() -> None:
    """Each sequence, group and head uses its own length, blocks, keys, values and queries.

    B = G = h = 2, D = 1. Head 0 has q = 0 and gives means; head 1 has q = ln a and gives a token with key 1 a times
    the weight of one with key 0. Sequence 0 holds 4 tokens: its group 0 reads (3, 6) with key 1 on 3 and a = 2, its
    group 1 (90, 120) with key 1 on 120 and a = 5. Sequence 1 holds 3: its group 0 reads the one token left of block 1,
    300, its group 1 (600, 900) with key 1 on 600 and a = 4.
    """
    q = np.zeros((2, 2, 2, 1))
    q[:, :, 1, 0] = np.log([[2, 5], [1, 4]])
    k = np.array([[[1, 0, 1, 0], [0, 1, 0, 1]], [[0, 0, 0, 0], [1, 0, 1, 0]]], dtype=np.float32)
    v = np.array([[[3, 6, 30, 60], [9, 12, 90, 120]], [[1, 2, 300, 7], [600, 900, 4, 5]]], dtype=np.float32)
    indices = np.array([[[0], [1]], [[1], [0]]])
    output = reference.select_attention(q, k[..., None], v[..., None], indices, np.array([4, 3]), 2)
    expected = np.array([[[4.5, 4], [105, 115]], [[300, 300], [750, 660]]])
    assert_allclose(output[..., 0], expected, rtol=1e-14)


def test_low_precision_inputs_are_judged_in_float64() -> None:
    """Inputs in float16 are multiplied in float64.

    With a = 1 + 2^-10 the logits a * a and a differ by 2^-10 + 2^-20, and float16 drops the last term.
    """
    a = 1 + 2**-10
    q, k = np.array([a], dtype=np.float16).reshape(1, 1, 1, 1), np.array([a, 1], dtype=np.float16).reshape(1, 1, 2, 1)
    v = np.array([1 / 3, 0]).reshape(1, 1, 2, 1)
    output = reference.select_attention(q, k, v, np.array([[[0]]]), np.array([2]), 2)
    assert output.item() == pytest.approx(1 / 3 / (1 + math.exp(-(2**-10) - 2**-20)), rel=1e-14)


# --- routing ----------------------------------------------------------------------------------------------------------


def test_importance_weights_of_the_paper_shape() -> None:
    """Overlaps for l=32, d=16, l'=64 are 1/2, 1, 1, 1, 1/2 on i = 4j-1 ... 4j+3."""
    S = 256  # S_cmp = (256 - 32) / 16 + 1 = 15, S_blk = 4
    weights = np.array([reference.block_importance(np.eye(15)[[i]], S, 32, 16, 64) for i in range(15)])  # [i, j]
    expected = np.zeros((15, 4))
    expected[0:4, 0] = [1, 1, 1, 0.5]  # nothing precedes token 0
    expected[3:8, 1] = [0.5, 1, 1, 1, 0.5]
    expected[7:12, 2] = [0.5, 1, 1, 1, 0.5]
    expected[11:15, 3] = [0.5, 1, 1, 1]  # i = 15 would end at token 272
    assert_array_equal(weights, expected)


def test_importance_in_a_partial_last_block_and_over_heads() -> None:
    """The partial last block counts, and the heads of a group are summed.

    S = 144: S_cmp = 8, S_blk = 3. With p = 2^i: block 0 has 1 + 2 + 4 + 8/2 = 11, block 1 has
    8/2 + 16 + 32 + 64 + 128/2 = 180, block 2 has 128/2 = 64. The second head adds 2 at i = 3: 1 and 1.
    """
    p_cmp = np.array([[1, 2, 4, 8, 16, 32, 64, 128], [0, 0, 0, 2, 0, 0, 0, 0]], dtype=np.float64)
    assert_array_equal(reference.block_importance(p_cmp, 144, 32, 16, 64), [12, 181, 64])


def test_importance_with_wide_compression_blocks() -> None:
    """A compressed token touches every block that it covers: l=8, d=2, l'=2, so each touches four.

    S = 10: i = 0 covers tokens 0-7, i = 1 covers 2-9, a quarter of each per block.
    """
    assert_array_equal(reference.block_importance(np.array([[4.0, 8.0]]), 10, 8, 2, 2), [1, 3, 3, 3, 2])


def test_importance_before_the_first_compressed_token() -> None:
    """With S < l, where nothing is compressed yet, every block has importance zero."""
    assert_array_equal(reference.block_importance(np.zeros((2, 0)), 20, 32, 16, 16), [0, 0])


@pytest.mark.parametrize(
    ("importance", "S", "sel_count", "expected"),
    [
        pytest.param([0, 9, 8, 7, 6, 5, 0, 0], 32, 3, [0, 6, 7], id="forced only"),
        pytest.param([0, 5, 9, 7, 6, 8, 0, 0], 32, 5, [0, 2, 5, 6, 7], id="then by score, ascending result"),
        pytest.param([9, 1, 2, 3, 4, 5, 9, 9], 32, 4, [0, 5, 6, 7], id="a high score on a forced block is no second"),
        pytest.param([0, 1, 3, 3, 3, 1, 0, 0], 32, 5, [0, 2, 3, 6, 7], id="ties: the lower index"),
        pytest.param([0, 0, 0, 0, 0, 0, 0, 0], 32, 5, [0, 1, 2, 6, 7], id="all zero: the lower index"),
        pytest.param([0, 1, 2, 3, 4, 5, 0, 0], 29, 4, [0, 5, 6, 7], id="current block partial"),
        pytest.param([0, 1, 0], 12, 4, [0, 1, 2], id="fewer blocks than n"),
        pytest.param([0, 1, 2, 0], 16, 4, [0, 1, 2, 3], id="as many blocks as n"),
        pytest.param([3], 1, 3, [0], id="one block is all three forced ones"),
        pytest.param([3, 3], 5, 3, [0, 1], id="two blocks"),
        pytest.param([], 0, 3, [], id="nothing yet"),
    ],
)
def test_selected_blocks(importance: list[float], S: int, sel_count: int, expected: list[int]) -> None:
    """Forced blocks are selected once each, ties go to the lower index, and the order is ascending."""
    assert reference.select_blocks(np.array(importance, dtype=np.float64), S, 4, sel_count) == expected


# --- the pieces -------------------------------------------------------------------------------------------------------


def test_rope_angles() -> None:
    """RoPE has base 10000 and pairs i with i + D/2: D = 4 pairs (0, 2) at t and (1, 3) at t / 100."""
    rotated = reference.rope(np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), 3)
    c, s, c100, s100 = math.cos(3), math.sin(3), math.cos(0.03), math.sin(0.03)
    expected = [[c, 0, s, 0], [0, c100, 0, s100], [-s, 0, c, 0], [0, -s100, 0, c100]]
    assert_allclose(rotated, expected, rtol=1e-14)


def test_rope_leaves_position_zero() -> None:
    """Positions count from 0, where nothing is turned."""
    assert_array_equal(reference.rope(np.array([1.0, 2, 3, 4]), 0), [1, 2, 3, 4])


def test_rope_depends_on_the_distance_only() -> None:
    """The dot product of a turned q and k depends on t - s alone."""
    q, k = np.array([1.0, -2, 0.5, 3]), np.array([0.3, 1, -1, 2])
    near = reference.rope(q, 7) @ reference.rope(k, 2)
    far = reference.rope(q, 1007) @ reference.rope(k, 1002)
    assert_allclose(far, near, rtol=1e-12)
    assert abs(near - reference.rope(q, 8) @ reference.rope(k, 2)) > 0.1


def test_mean_compression() -> None:
    """The mean runs over the tokens of the block, for each channel."""
    assert_array_equal(reference.compress(np.array([[1.0, 20], [3, 40]]), {}, "compress_k", "mean"), [2, 30])


def test_mlp_compression() -> None:
    """The MLP takes the block token by token, with its position and every bias.

    Block + position = (11, 22, 33, 44) token by token; GELU(x) = x in float64 from 11 on. With first weights 1 and
    bias 100, 0, 0, 0 the hidden layer is (111, 22, 33, 44); the second layer takes 111 + 44 + 1 and 33 - 22 + 2.
    """
    weights = {
        "compress_v.position": np.array([[1.0, 2], [3, 4]]),
        "compress_v.0.weight": np.eye(4),
        "compress_v.0.bias": np.array([100.0, 0, 0, 0]),
        "compress_v.2.weight": np.array([[1.0, 0, 0, 1], [0, -1, 1, 0]]),
        "compress_v.2.bias": np.array([1.0, 2]),
    }
    block = np.array([[10.0, 20], [30, 40]])
    assert_allclose(reference.compress(block, weights, "compress_v", "mlp"), [156, 13], rtol=1e-14)


def test_gelu_is_the_exact_one() -> None:
    """GELU is the exact form: GELU(1) is the normal distribution at 1, 0.841344746; the tanh form gives 0.841191991."""
    one, zero = np.ones((1, 1)), np.zeros(1)
    weights = {"k.position": 0 * one, "k.0.weight": one, "k.0.bias": zero, "k.2.weight": one, "k.2.bias": zero}
    assert_allclose(reference.compress(one, weights, "k", "mlp"), [0.8413447460685429], rtol=1e-14)


def test_gate() -> None:
    """Gates are sigmoid(MLP(x)) with SiLU inside, laid out [H, 3].

    x = 2 and bias ln 3 - 2 give SiLU(ln 3) = 3/4 ln 3; times 4/3, 0, -4/3 the logits are ln 3, 0, -ln 3 and the
    gates 3/4, 1/2, 1/4; head 1 has the logits ln 3, ln 3, ln 3 + ln 3: 3/4, 3/4, 9/10.
    """
    weights = {
        "gate.0.weight": np.array([[1.0]]),
        "gate.0.bias": np.array([LN3 - 2]),
        "gate.2.weight": np.array([[4 / 3], [0], [-4 / 3], [4 / 3], [4 / 3], [4 / 3]]),
        "gate.2.bias": np.array([0, 0, 0, 0, 0, LN3]),
    }
    assert_allclose(reference.gate(np.array([2.0]), weights, 2), [[0.75, 0.5, 0.25], [0.75, 0.75, 0.9]], rtol=1e-14)


def test_the_oracle_imports_nothing_of_the_package() -> None:
    """The oracle shares no code with what it judges."""
    source = Path(reference.__file__).read_text()
    assert not re.search(r"^\s*(from|import)\s+(nsa|\.)", source, re.MULTILINE)
