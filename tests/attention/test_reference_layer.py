"""The oracle's whole layer on cases small enough to work out by hand: wiring, layout, causality, reads."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from nsa.attention import reference
from nsa.shapes import NsaShape

Array = reference.Array
LN3 = math.log(3)

TINY = NsaShape(
    dim=2, heads=1, groups=1, head_dim=2, value_dim=2, cmp_block=2, cmp_stride=2, sel_block=2, sel_count=3, window=1
)


def layer_weights(shape: NsaShape, qkv: Array, gate_logits: Array, out: Array) -> dict[str, Array]:
    """Weights with gates that do not depend on x: gate_logits [H, 3] are the last bias."""
    return {
        "qkv.weight": np.asarray(qkv, dtype=np.float64),
        "gate.0.weight": np.zeros((1, shape.dim)),
        "gate.0.bias": np.zeros(1),
        "gate.2.weight": np.zeros((3 * shape.heads, 1)),
        "gate.2.bias": np.asarray(gate_logits, dtype=np.float64).reshape(-1),
        "out.weight": np.asarray(out, dtype=np.float64),
    }


def test_layer_with_uniform_attention() -> None:
    """Each branch has its own values and gate, and the output projection comes last.

    q = 0 makes each attention a mean; v is x for cmp, 10 x for sel, 100 x for win; the gates are 3/4, 1/2, 1/4.
    S = 1: nothing is compressed, so 1/2 * 10 x0 + 1/4 * 100 x0 = 30 x0.
    S = 2: the block (x0, x1) is compressed: 3/8 (x0 + x1) + 5/2 (x0 + x1) + 25 x1.
    S = 3: it is still the only one: 3/8 (x0 + x1) + 5/3 (x0 + x1 + x2) + 25 x2. The projection swaps and doubles.
    """
    eye = np.eye(2)
    qkv = np.vstack([0 * eye, eye, eye, eye, eye, 10 * eye, 100 * eye])
    weights = layer_weights(TINY, qkv, np.array([[LN3, 0, -LN3]]), np.array([[0, 1], [2, 0]]))
    x0, x1, x2 = x = np.array([[1.0, 2], [3, -4], [-5, 6]])
    before = np.array(
        [
            30 * x0,
            2.875 * (x0 + x1) + 25 * x1,
            0.375 * (x0 + x1) + 5 / 3 * (x0 + x1 + x2) + 25 * x2,
        ]
    )
    expected = np.stack([before[:, 1], 2 * before[:, 0]], axis=1)
    assert_allclose(reference.decode(weights, x, TINY), expected, rtol=1e-13)


def test_layer_rotates_queries_and_keys() -> None:
    """Queries and the keys of each branch are turned by their positions, each branch with its own keys.

    l = d = 1 and w = 2, so that all three branches see the same two tokens. Only x[0] = 1 feeds q = (a, 0) and
    k = (c, 0): at t = 1 the logits are a c cos(1) / sqrt 2 and a c / sqrt 2, and a = sqrt 2 ln 3 / (1 - cos 1) makes
    them differ by c ln 3. With c = 1, 2, -1 for cmp, sel, win the current token weighs 3/4, 9/10, 1/4.
    The values come from x[1] = 8, 16, times 1, 10, 100: 14 + 152 + 1000 = 1166; the gates are 1/2.
    """
    shape = NsaShape(
        dim=2, heads=1, groups=1, head_dim=2, value_dim=1, cmp_block=1, cmp_stride=1, sel_block=2, sel_count=3, window=2
    )
    first = np.array([[1, 0], [0, 0]])  # x -> (x[0], 0)
    q = math.sqrt(2) * LN3 / (1 - math.cos(1)) * first
    qkv = np.vstack([q, first, 2 * first, -first, [0, 1], [0, 10], [0, 100]])
    weights = layer_weights(shape, qkv, np.zeros((1, 3)), np.array([[1], [0]]))
    output = reference.decode(weights, np.array([[1.0, 8], [1.0, 16]]), shape)
    assert_allclose(output, [[444, 0], [583, 0]], rtol=1e-13)


def test_layer_of_several_heads_and_groups() -> None:
    """Heads and groups lie group by group in qkv, in the gate and before the projection.

    H = 4, G = 2, Dv = 1. One token, nothing compressed: head j of group g gives g_sel v_sel[g] + g_win v_win[g]
    with v_sel = (8, 16), v_win = (80, 160). The gates (sel, win) are (3/4, 1/2), (1/2, 3/4), (1/4, 1/2), (1/2, 1/4).
    """
    shape = NsaShape(
        dim=4, heads=4, groups=2, head_dim=2, value_dim=1, cmp_block=2, cmp_stride=2, sel_block=2, sel_count=3, window=4
    )
    qkv = np.zeros((4 * 2 + 3 * 2 * 2 + 3 * 2, 4))
    qkv[-6:, 0] = [1, 2, 8, 16, 80, 160]  # v of cmp, sel, win, group by group
    logits = np.array([[9, LN3, 0], [9, 0, LN3], [9, -LN3, 0], [9, 0, -LN3]])
    weights = layer_weights(shape, qkv, logits, np.eye(4))
    output = reference.decode(weights, np.array([[1.0, 0, 0, 0]]), shape)
    assert_allclose(output, [[6 + 40, 4 + 60, 4 + 80, 8 + 40]], rtol=1e-13)


def test_queries_and_compressed_keys_are_laid_out_by_head_and_group() -> None:
    """Queries are head-major, a group reads its own keys, and p_cmp keeps their order.

    l = d = 1 and two tokens: x[0] = 1, 0 feeds the keys and x[1] = 1, 1 the queries. At t = 1 the key of token 0 is
    (s, 0) with s = 1 in group 0 and -1 in group 1, that of token 1 is 0. Head j has q = (a_j, 0) with
    a_j = sqrt 2 ln(j + 2) / cos 1: its logits are s ln(j + 2) and 0.
    """
    shape = NsaShape(
        dim=2, heads=4, groups=2, head_dim=2, value_dim=1, cmp_block=1, cmp_stride=1, sel_block=2, sel_count=3, window=2
    )
    qkv = np.zeros((4 * 2 + 3 * 2 * 2 + 3 * 2, 2))
    qkv[0:8:2, 1] = [math.sqrt(2) * math.log(j + 2) / math.cos(1) for j in range(4)]
    qkv[8:12:2, 0] = [1, -1]  # k of cmp: (s, 0) for both groups
    weights = layer_weights(shape, qkv, np.zeros((4, 3)), np.zeros((2, 4)))
    *_, step = reference.decode_steps(weights, np.array([[1.0, 1], [0, 1]]), shape)
    assert_allclose(step.p_cmp[0], [[2 / 3, 1 / 3], [3 / 4, 1 / 4]], rtol=1e-13)
    assert_allclose(step.p_cmp[1], [[1 / 5, 4 / 5], [1 / 6, 5 / 6]], rtol=1e-13)


def test_routing_follows_the_compressed_attention_of_each_group() -> None:
    """Each group selects blocks by its own p_cmp, and the selected branch reads these.

    Blocks of one token, l = d = 1, n = 4; S = 6 forces 0, 4, 5 and leaves one place for 1, 2 or 3. q = (1, 0) at t = 5.
    Group 0: token 3 has the key (-9, 0), two positions back, so its logit -9 cos(2) / sqrt 2 is positive, the others'
    are 0: block 3. Group 1: the sign is turned, block 3 loses and 1 and 2 tie: block 1.
    With v_sel = 2^t and uniform selected attention: (1 + 8 + 16 + 32) / 4 and (1 + 2 + 16 + 32) / 4, half of each.
    """
    shape = NsaShape(
        dim=3, heads=2, groups=2, head_dim=2, value_dim=1, cmp_block=1, cmp_stride=1, sel_block=1, sel_count=4, window=1
    )
    qkv = np.zeros((2 * 2 + 3 * 2 * 2 + 3 * 2, 3))
    qkv[0:4:2, 0] = 1  # q = (x[0], 0)
    qkv[4:8:2, 1] = [-9, 9]  # k of cmp from x[1], which marks token 3
    qkv[-4:-2, 2] = 1  # v of sel from x[2]
    weights = layer_weights(shape, qkv, np.zeros((2, 3)), np.array([[1, 0], [0, 1], [0, 0]]))
    x = np.array([[1.0, t == 3, 2**t] for t in range(6)])
    *_, step = reference.decode_steps(weights, x, shape)
    assert step.selected == [[0, 3, 4, 5], [0, 1, 4, 5]]
    assert_allclose(step.output, [57 / 8, 51 / 8, 0], rtol=1e-13)
    assert step.reads == 6 + 4 + 1


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        pytest.param(1, [1, 2, 4, 8], id="w = 1: the token itself"),
        pytest.param(2, [1, 3 / 2, 6 / 2, 12 / 2], id="w = 2"),
        pytest.param(3, [1, 3 / 2, 7 / 3, 14 / 3], id="w = 3"),
        pytest.param(9, [1, 3 / 2, 7 / 3, 15 / 4], id="wider than the context"),
    ],
)
def test_window(window: int, expected: list[float]) -> None:
    """The window holds the last w tokens, the current one included (v_win = 1, 2, 4, 8, uniform)."""
    shape = NsaShape(
        dim=1,
        heads=1,
        groups=1,
        head_dim=2,
        value_dim=1,
        cmp_block=2,
        cmp_stride=2,
        sel_block=2,
        sel_count=3,
        window=window,
    )
    qkv = np.zeros((2 + 6 + 3, 1))
    qkv[-1] = 2  # v of win; the gate of one half takes it back
    weights = layer_weights(shape, qkv, np.zeros((1, 3)), np.ones((1, 1)))
    output = reference.decode(weights, np.array([[1.0], [2], [4], [8]]), shape)
    assert_allclose(output[:, 0], expected, rtol=1e-14)


def test_compressed_tokens_overlap_and_wait_for_a_full_block() -> None:
    """A compressed token appears with its block's last token (l = 4, d = 2, v_cmp = 2^(t + 1)).

    S < 4: none. S = 4 and 5: the mean of tokens 0-3. S = 6: also that of tokens 2-5; their mean, uniform attention.
    The gate halves v_cmp to 1, 2, 4, ...: 15/4, 15/4, then (15/4 + 60/4) / 2 = 75/8.
    """
    shape = NsaShape(
        dim=1, heads=1, groups=1, head_dim=2, value_dim=1, cmp_block=4, cmp_stride=2, sel_block=2, sel_count=3, window=1
    )
    qkv = np.zeros((2 + 6 + 3, 1))
    qkv[-3] = 2
    weights = layer_weights(shape, qkv, np.zeros((1, 3)), np.ones((1, 1)))
    output = reference.decode(weights, np.array([[1.0], [2], [4], [8], [16], [32]]), shape)
    assert_allclose(output[:, 0], [0, 0, 0, 15 / 4, 15 / 4, 75 / 8], rtol=1e-14)


def test_mlp_compression_in_the_layer_uses_both_networks() -> None:
    """Keys are compressed by compress_k, values by compress_v.

    One token, l = d = 1: the compressed value is the output bias 6 of compress_v (its weights are 0), and half of it
    passes the gate. At the second token the compressed keys are (b, 0) twice, so they weigh the same: 3 again.
    """
    shape = NsaShape(
        dim=1,
        heads=1,
        groups=1,
        head_dim=2,
        value_dim=1,
        cmp_block=1,
        cmp_stride=1,
        sel_block=1,
        sel_count=3,
        window=1,
        phi="mlp",
    )
    weights = layer_weights(shape, np.zeros((2 + 6 + 3, 1)), np.zeros((1, 3)), np.ones((1, 1)))
    for name, width, bias in (("compress_k", 2, [4.0, 0]), ("compress_v", 1, [6.0])):
        weights[f"{name}.position"] = np.ones((1, width))
        weights[f"{name}.0.weight"], weights[f"{name}.0.bias"] = np.ones((3, width)), np.zeros(3)
        weights[f"{name}.2.weight"], weights[f"{name}.2.bias"] = np.zeros((width, 3)), np.array(bias)
    assert_allclose(reference.decode(weights, np.ones((2, 1)), shape), [[3], [3]], rtol=1e-14)


def test_the_future_does_not_reach_the_past() -> None:
    """No branch looks ahead: the last token is NaN, and the outputs before it are untouched by it."""
    generator = np.random.default_rng(0)
    weights = layer_weights(TINY, generator.normal(size=(14, 2)), np.zeros((1, 3)), np.eye(2))
    x = generator.normal(size=(9, 2))
    x[8] = np.nan
    with np.errstate(invalid="ignore"):
        outputs = reference.decode(weights, x, TINY)
    assert_array_equal(outputs[:8], reference.decode(weights, x[:8], TINY))


def test_reads_at_the_guide_defaults() -> None:
    """Each branch reads the tokens of the closed form, worked out here by hand.

    S:     compressed            selected                          window
    1      0                     1                                 1     = 2
    31     0                     31                                31    = 62
    32     1                     32                                32    = 65
    128    96/16 + 1 = 7         128                               128   = 263
    512    480/16 + 1 = 31       512                               512   = 1055
    1024   992/16 + 1 = 63       1024                              512   = 1599
    1025   993//16 + 1 = 63      15 * 64 + 1 = 961 of 17 blocks    512   = 1536
    1100   1068//16 + 1 = 67     15 * 64 + 12 = 972 of 18 blocks   512   = 1551
    """
    shape = NsaShape(dim=1, heads=1, groups=1, head_dim=2, value_dim=1)  # the other sizes are the guide's
    weights = layer_weights(shape, np.ones((2 + 6 + 3, 1)), np.zeros((1, 3)), np.ones((1, 1)))
    x = np.random.default_rng(0).normal(size=(1100, 1))
    reads = {S: step.reads for S, step in enumerate(reference.decode_steps(weights, x, shape), start=1)}
    by_hand = {1: 2, 31: 62, 32: 65, 128: 263, 512: 1055, 1024: 1599, 1025: 1536, 1100: 1551}
    assert {S: reads[S] for S in by_hand} == by_hand
