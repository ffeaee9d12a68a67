"""Inputs of decode cores: drawn again they are the same, and each timed replay has its own."""

from __future__ import annotations

import pytest
import torch

from nsa.bench.core.inputs import CoreCall, Draw, allocate, fill, unselected
from nsa.bench.core.judge import lowest
from nsa.bench.core.replays import CHANGED, Replays
from nsa.bench.method.accuracy import same_bits
from nsa.kernels.core import SEL, WIN, Sizes
from nsa.records.shapes import CoreShape
from nsa.records.words import KEYS

SHAPE = CoreShape(2, 2, 3, 32, 32, 300, 32, 16, 64, 4, 100, "float32")
CPU = torch.device("cpu")


def same(one: CoreCall, other: CoreCall) -> bool:
    """Whether all that a core may read is the same, to the last bit."""
    return all(same_bits(tensor, other.read()[name]) for name, tensor in one.read().items())


def filled(draw: Draw) -> CoreCall:
    """A call that holds a draw."""
    call = allocate(SHAPE, CPU)
    fill(call, draw)
    return call


@pytest.mark.parametrize("keys", KEYS)
def test_a_draw_is_the_same_whenever_it_is_written(keys: str) -> None:
    """Another seed gives other numbers; what lies beyond the lengths is NaN."""
    draw = Draw(keys, 3, (300, 77))
    call = filled(draw)
    assert same(call, filled(draw))
    for cache in (call.k[SEL], call.v[WIN]):
        assert cache[1, :, 77:].isnan().all() and cache[1, :, :77].isfinite().all() and cache[0].isfinite().all()
    assert call.k_cmp[1, :, 3:].isnan().all() and call.k_cmp[1, :, :3].isfinite().all()
    assert not same(filled(Draw(keys, 4, (300, 77))), call)


def test_sinks_and_topics_move_the_probabilities() -> None:
    """With sinks the first compressed token has most of the weight; with topics some have more than others."""

    def weights(keys: str) -> torch.Tensor:
        call = filled(Draw(keys, 3, (300, 300)))
        return (call.q @ call.k_cmp.transpose(-1, -2) / 32**0.5).softmax(-1).mean((0, 1, 2))

    noise, sinks = weights("noise"), weights("sinks")
    assert noise[0] < 0.2 and sinks[0] > 2 * noise[0] and sinks[0] == sinks.max()
    assert not torch.equal(weights("topics"), noise)


def test_each_replay_has_inputs_of_its_own() -> None:
    """Queries, gates and some tokens differ from replay to replay, and are the same when asked again."""
    draw = Draw("noise", 3, (300, 300))
    call = filled(draw)
    replays = Replays(call, draw)
    seen = []
    for replay in range(3):
        replays.apply(replay)
        seen.append([tensor.clone() for tensor in call.written().values()])
    assert all(not torch.equal(one, other) for one, other in zip(seen[0], seen[1], strict=True))
    for cache, capacity, places in zip(range(2, 8), (300, 300, 300, 300, 17, 17), (0, 0, 1, 1, 2, 2), strict=True):
        places = replays.places[places].tolist()
        changed = (seen[0][cache] != seen[1][cache]).any(-1)  # [B, G, tokens]
        assert places[0] == capacity - 1 and len(places) == CHANGED == len({*places})
        assert all(row.nonzero()[:, 0].tolist() == sorted(places) for row in changed.flatten(0, 1))
    replays.apply(1)
    assert all(torch.equal(one, now) for one, now in zip(seen[1], call.written().values(), strict=True))
    assert not torch.equal(*replays.queries(2, 5)) and torch.equal(replays.queries(1, 1)[0], seen[1][0])


def test_only_blocks_that_nobody_selects_are_poisoned() -> None:
    """Forced blocks and those near the n-th stay; a row with few blocks has none."""
    sizes = Sizes(32, 16, 64, 4, 100)
    importance = torch.tensor([[[0.0, 5.0, 4.999, 1.0, 2.0, 0.0, 0.0, 0.0]], [[0.0] * 8]], dtype=torch.float64)
    found = unselected(importance, (512, 200), sizes)
    assert found[0, 0].tolist() == [False, False, False, True, True, True, False, False]
    assert not found[1].any()


@pytest.mark.parametrize(
    ("S", "blocks"),
    [(0, [-1] * 4), (64, [0, -1, -1, -1]), (200, [0, 1, 2, 3]), (512, [0, 1, 6, 7]), (513, [0, 1, 7, 8])],
)
def test_of_equal_blocks_the_lowest_are_right(S: int, blocks: list[int]) -> None:
    """The forced ones, then the lowest."""
    assert lowest(S, Sizes(32, 16, 64, 4, 100)) == blocks
