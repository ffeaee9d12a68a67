"""The float64 step that judges a cell, against the loops of the reference, at and around every boundary."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import boundaries, float64_weights, shapes

from nsa.attention import reference
from nsa.attention.layer import NsaAttention
from nsa.bench.decode import exact
from nsa.bench.decode.exact import CMP, SEL, WIN, ExactStep
from nsa.shapes import NsaShape


def caches(weights: dict[str, torch.Tensor], x: torch.Tensor, shape: NsaShape) -> SimpleNamespace:
    """The caches of x [B, T, dim] in float64, but for the last token and what it completes, which are NaN."""
    T = x.shape[1]
    _, k, v = exact.project(weights, x, shape, torch.arange(T).expand(len(x), -1))
    k, v = k.permute(2, 0, 3, 1, 4).clone(), v.permute(2, 0, 3, 1, 4).clone()
    made = SimpleNamespace(k=k, v=v)
    for name, source in (("k", k), ("v", v)):
        found = source.new_full((len(x), shape.groups, shape.num_compressed(T) + 1, source.shape[-1]), torch.nan)
        for i in range(shape.num_compressed(T - 1)):
            block = source[CMP, :, :, i * shape.cmp_stride : i * shape.cmp_stride + shape.cmp_block]
            found[:, :, i] = exact.compress(block, weights, f"compress_{name}", shape.phi)
        setattr(made, f"{name}_cmp", found)
        source[..., -1, :] = torch.nan
    return made


@settings(max_examples=25, deadline=None)
@given(shape=shapes(), seed=st.integers(0, 2**31), data=st.data())
def test_a_step_equals_the_loops(shape: NsaShape, seed: int, data: st.DataObject) -> None:
    """Output and chosen blocks of the last token are the reference's, whatever the shape and the length."""
    S = data.draw(st.sampled_from([T for T in boundaries(shape) if T <= 60]))
    layer = NsaAttention(shape, seed)
    weights = layer.state_dict()
    x = torch.randn(2, S, shape.dim, generator=torch.Generator().manual_seed(seed))
    step = ExactStep(weights, caches(weights, x, shape), shape, S)
    found = step.of(x[None, :, -1])
    importance = step.importance(found.q, found.k_cmp)
    wanted = [list(reference.decode_steps(float64_weights(layer), each.double().numpy(), shape))[-1] for each in x]
    blocks = torch.full((1, 2, shape.groups, shape.sel_count), -1)
    for b, one in enumerate(wanted):
        for g, chosen in enumerate(one.selected):
            blocks[0, b, g, : len(chosen)] = torch.tensor(chosen)
            same = reference.select_blocks(importance[0, b, g].numpy(), S, shape.sel_block, shape.sel_count)
            assert np.isclose(importance[0, b, g, same].sum(), importance[0, b, g, chosen].sum(), rtol=1e-12)
    selected = step.selected(found.q, found.k[:, :, SEL], found.v[:, :, SEL], blocks)
    output = step.output(found, {CMP: found.cmp, SEL: selected, WIN: found.win})[0]
    scale = max(np.abs(one.output).max() for one in wanted)
    np.testing.assert_allclose(output.numpy(), np.stack([one.output for one in wanted]), atol=1e-12 * scale, rtol=0)


def test_chunks_give_what_one_piece_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by computing some hidden states and some rows of a weight at a time, which changes nothing."""
    shape = NsaShape(dim=16, heads=4, groups=2, head_dim=8, value_dim=6, cmp_block=4, cmp_stride=2, sel_block=4)
    weights = NsaAttention(shape).state_dict()
    x = torch.randn(2, 81, shape.dim)
    fresh, blocks = torch.randn(5, 2, shape.dim), torch.randint(0, 20, (5, 2, 2, 16))

    def everything() -> list[torch.Tensor]:
        step = ExactStep(weights, caches(weights, x, shape), shape, 81)
        found = step.of(fresh)
        selected = step.selected(found.q, found.k[:, :, SEL], found.v[:, :, SEL], blocks)
        return [
            found.cmp,
            found.win,
            selected,
            step.importance(found.q, found.k_cmp),
            step.output(found, {SEL: selected}),
        ]

    whole = everything()
    monkeypatch.setattr(exact, "CHUNK_BYTES", 1)
    for one, pieces in zip(whole, everything(), strict=True):
        torch.testing.assert_close(one, pieces, rtol=1e-12, atol=1e-13)
