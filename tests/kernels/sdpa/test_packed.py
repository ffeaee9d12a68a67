"""Every packed SDPA variant against the float64 oracle, over the whole selection contract."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nsa.attention import reference
from nsa.errors import InputError
from nsa.kernels.sdpa.packed import VARIANTS

TOLERANCE = {torch.float32: 2e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}


def draw_call(data: st.DataObject, dtype: torch.dtype) -> tuple:
    """A ragged, padded, poisoned call of the contract."""
    B, G, h = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2)), data.draw(st.integers(1, 16))
    D, Dv = (data.draw(st.sampled_from([32, 64, 96, 128, 192, 256])) for _ in range(2))
    block, blocks, n = (
        data.draw(st.sampled_from([16, 32, 64])),
        data.draw(st.integers(1, 6)),
        data.draw(st.integers(1, 8)),
    )
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**31)))
    lengths = data.draw(st.lists(st.integers(0, blocks * block), min_size=B, max_size=B))
    q = torch.randn(B, G, h, D, generator=generator).to(dtype)
    k = torch.randn(B, G, blocks * block, D, generator=generator).to(dtype)
    v = torch.randn(B, G, blocks * block, Dv, generator=generator).to(dtype)
    indices = torch.full((B, G, n), -1, dtype=torch.int32)
    for b, length in enumerate(lengths):
        k[b, :, length:], v[b, :, length:] = torch.nan, torch.nan
        for g in range(G):
            existing = range(-(-length // block))
            chosen = sorted(data.draw(st.sets(st.sampled_from(existing), max_size=n))) if existing else []
            indices[b, g, : len(chosen)] = torch.tensor(chosen, dtype=torch.int32)
    return q, k, v, indices, torch.tensor(lengths, dtype=torch.int32), block


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("variant", VARIANTS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_variants_equal_the_oracle(variant: str, dtype: torch.dtype, data: st.DataObject) -> None:
    """Breaks if a variant drops a token, reads beyond a length, ignores -1 or mixes up heads."""
    call = draw_call(data, dtype)
    got = VARIANTS[variant](*call)
    numbers = [tensor.double().numpy() for tensor in call[:3]]
    exact = reference.select_attention(*numbers, call[3].numpy(), call[4].numpy(), call[5])
    assert got.dtype == dtype
    np.testing.assert_allclose(got.double().numpy(), exact, atol=TOLERANCE[dtype], rtol=0)
    assert (got.double().numpy()[~exact.any(-1)] == 0).all()  # empty rows: exactly zero


def test_gather_takes_strided_and_expanded_caches_where_index_select_refuses() -> None:
    """Breaks if strides are ignored, or if a variant copies a cache behind the caller's back."""
    k = torch.randn(1, 2, 64, 32).expand(3, -1, -1, -1)
    v = torch.randn(3, 2, 64, 80)[..., ::2]
    call = (torch.randn(3, 2, 4, 32), k, v, torch.tensor([0, 2, -1], dtype=torch.int32).expand(3, 2, 3))
    lengths = torch.tensor([64, 40, 33], dtype=torch.int32)
    got = VARIANTS["gather"](*call, lengths, 16)
    exact = reference.select_attention(*(t.double().numpy() for t in call[:3]), call[3].numpy(), lengths.numpy(), 16)
    np.testing.assert_allclose(got.numpy(), exact, atol=2e-5)
    with pytest.raises(InputError, match="expected contiguous caches"):
        VARIANTS["index_select"](*call, lengths, 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.__setitem__(0, c[0][0]), r"q: got shape \(2, 4, 32\), expected \[B, G, h, D\]"),
        (lambda c: c.__setitem__(1, c[1][..., :16]), "k: got shape"),
        (lambda c: c.__setitem__(2, c[2][:1]), "v: got shape"),
        (lambda c: c.__setitem__(0, c[0].repeat(1, 1, 5, 1)), "h = 20"),
        (lambda c: c.__setitem__(1, c[1].double()), "float64"),
        (lambda c: c.__setitem__(3, c[3].long()), "int64"),
        (lambda c: c.__setitem__(4, c[4][:1]), "seq_lens: got shape"),
        (lambda c: c.__setitem__(5, 0), "block_size: got 0"),
    ],
)
def test_bad_calls_name_the_argument(change, message: str) -> None:
    """Breaks if a wrong argument is computed with instead of being refused."""
    call = [
        torch.randn(2, 2, 4, 32),
        torch.randn(2, 2, 64, 32),
        torch.randn(2, 2, 64, 32),
        torch.zeros(2, 2, 3, dtype=torch.int32),
        torch.ones(2, dtype=torch.int32),
        16,
    ]
    change(call)
    with pytest.raises(InputError, match=message):
        VARIANTS["gather"](*call)
