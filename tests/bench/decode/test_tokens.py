"""Hidden states with topics and sinks: what they do to keys and to routing."""

from __future__ import annotations

import pytest
import torch
from standins import CPU

from nsa.attention.layer import NsaAttention
from nsa.bench.decode.cell import Cell
from nsa.bench.decode.exact import CMP, ExactStep
from nsa.bench.decode.tokens import SINKS, Tokens
from nsa.config import DecodeSettings
from nsa.kernels.sdpa.packed import gather
from nsa.shapes import NsaShape

S = 4096


@pytest.fixture(scope="module")
def cell() -> Cell:
    return Cell(DecodeSettings(batch=2), S, gather, CPU)


@pytest.fixture(scope="module")
def importance(cell: Cell) -> torch.Tensor:
    """[32, S_blk] of the blocks that are not forced: of 4 hidden states and 2 steps, 2 sequences and 2 groups."""
    found = []
    for emits, length in cell.steps.items():
        cell.restore(emits)
        step = ExactStep(cell.layer.state_dict(), cell.cache, cell.settings.model, length)
        exact = step.of(cell.fresh)
        found.append(step.importance(exact.q, exact.k_cmp)[..., 1:-2].flatten(0, 2))
    return torch.cat(found)


def test_rounding_does_not_choose_the_blocks(importance: torch.Tensor) -> None:
    """The n-th and the next importance differ by far more than rounding; with white noise the median is 3e-3."""
    others = NsaShape().sel_count - 3
    best = importance.sort(descending=True).values
    gap = (best[:, others - 1] - best[:, others]) / best[:, others - 1]
    assert gap.median() > 1e-2 and (gap > 1e-5).double().mean() > 0.95
    assert (importance.amax(-1) / importance.median(-1).values).median() > 4


def test_hidden_states_choose_different_blocks(importance: torch.Tensor) -> None:
    """No block is favoured by all, and most are chosen by some."""
    chosen = importance.topk(NsaShape().sel_count - 3).indices
    times = chosen.flatten().bincount(minlength=importance.shape[-1])
    assert times.max() < len(importance) and (times > 0).double().mean() > 0.75


def test_sinks_have_large_keys_and_much_of_the_attention(cell: Cell) -> None:
    """The first tokens' keys are larger than others, and get a hundred times their share."""
    cell.restore(cell.steps.get(True) == S)  # what the other step wrote is there again
    keys = cell.cache.k[CMP, :, :, : S - 1].double()
    size = keys.norm(dim=-1)
    assert size[..., :SINKS].mean() > 1.3 * size[..., SINKS:].mean()
    q = ExactStep(cell.layer.state_dict(), cell.cache, cell.settings.model, S).of(cell.fresh).q
    p = (torch.einsum("rbghd,bgtd->rbght", q, keys) / q.shape[-1] ** 0.5).softmax(-1)
    assert p[..., :SINKS].sum(-1).mean() > 100 * SINKS / S


@pytest.mark.parametrize("length", [1, 2, 5, 300])
def test_tokens_are_finite_and_follow_from_the_seed(length: int) -> None:
    """The same generator gives the same hidden states, in whatever chunks; short sequences have fewer sinks."""
    shape = NsaShape(dim=24, heads=4, groups=2, head_dim=8, value_dim=8)
    weights = NsaAttention(shape).state_dict()

    def drawn(seed: int) -> torch.Tensor:
        tokens = Tokens(weights, shape, 2, length, torch.Generator().manual_seed(seed))
        past = torch.cat([tokens.past(first, min(first + 3, length)) for first in range(0, length, 3)], 1)
        return torch.cat((past, tokens.current(3).transpose(0, 1)), 1)

    assert drawn(0).shape == (2, length + 3, 24) and drawn(0).isfinite().all()
    assert torch.equal(drawn(0), drawn(0)) and not torch.equal(drawn(0), drawn(1))
