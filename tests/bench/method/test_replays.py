"""The inputs of timed replays: each its own, given back afterwards, and judged by what was right for each."""

from __future__ import annotations

import pytest
import torch
from standins import CPU

from nsa.bench.method.accuracy import oracle
from nsa.bench.method.inputs import Call, full_case
from nsa.bench.method.replays import CHUNK, Judge, Replays
from nsa.records.shapes import CheckShape

SHAPE = CheckShape(24, 4, 32, 64, 3, 16, 100, 4, "float32")  # the last of the seven blocks holds 4 tokens


def clone(call: Call) -> Call:
    return Call(*(tensor.clone() for tensor in call[:5]), call.block_size)


@pytest.fixture
def call() -> Call:
    return full_case(SHAPE, 3, CPU)


def test_queries_of_a_burst_are_those_of_no_replay(call: Call) -> None:
    """Each is new, and they count as replays; the rows in which a token changes are the seed's, but for two."""
    replays, other = Replays(call, 0, changes=True), Replays(call, 1, changes=True)
    first, second = replays.queries(3), replays.queries(3)
    every = [*first, *second, replays.draw(replays.count).q]
    assert replays.count == 6 and all(not torch.equal(a, b) for i, a in enumerate(every) for b in every[:i])
    assert replays.changed.tolist() != other.changed.tolist()
    assert all({0, 23} <= set(each.changed.tolist()) and len(each.changed) == 16 for each in (replays, other))


def test_no_replay_has_the_inputs_of_another(call: Call) -> None:
    """Queries, keys and values of each replay are new, and the same replay draws the same again."""
    replays, seen = Replays(call, 0, changes=True), list[Call]()
    for replay in range(6):
        replays.refresh()
        seen.append(clone(call))
        drawn = replays.draw(replay)
        assert torch.equal(drawn.q, call.q)
        replays.count += 1  # as who keeps its output does
    for name in ("q", "k", "v"):
        tensors = [getattr(one, name) for one in seen]
        assert all(not torch.equal(one, other) for i, one in enumerate(tensors) for other in tensors[:i])
    assert all(torch.equal(one.block_indices, call.block_indices) for one in seen)


def test_what_changed_is_given_back(call: Call) -> None:
    """After the replays K and V are what they were, bit by bit, NaN beyond the lengths included."""
    before, replays = clone(call), Replays(call, 0, changes=True)
    for _ in range(5):
        replays.refresh()
        replays.count += 1
    replays.restore()
    for now, then in zip(call[1:5], before[1:5], strict=True):
        assert torch.equal(now.view(torch.uint8), then.view(torch.uint8))


def test_a_replay_that_is_repeated_has_its_own_inputs_again(call: Call) -> None:
    """A replay that the host held up is timed again: what it returns is judged by the draw of its number."""
    replays = Replays(call, 0, changes=True)
    replays.refresh()
    first = clone(call)
    replays.refresh()
    assert all(
        torch.equal(now.view(torch.uint8), then.view(torch.uint8))
        for now, then in zip(call[:5], first[:5], strict=True)
    )


def test_without_changes_only_the_queries_are_new(call: Call) -> None:
    """K and V that other calls share stay as they are."""
    before, replays = clone(call), Replays(call, 0, changes=False)
    replays.refresh()
    assert not torch.equal(call.q, before.q)
    assert torch.equal(call.k.view(torch.uint8), before.k.view(torch.uint8)) and len(replays.changed) == 0


def test_the_changed_tokens_are_selected_ones_of_the_first_and_the_last_row_too(call: Call) -> None:
    """Each lies in a block of its row, before the sequence's end, and the judged rows begin with the changed ones."""
    replays = Replays(call, 0, changes=True)
    assert replays.changed[0] == 0 and replays.changed[-1] == 23
    for replay in range(20):
        drawn = replays.draw(replay)
        for row, token in zip(replays.changed.tolist(), drawn.token.tolist(), strict=True):
            assert token < 100 and token // 16 in call.block_indices[row // 4, row % 4].tolist()
    assert Judge(replays, 0).rows[: len(replays.changed)].tolist() == replays.changed.tolist()


def test_a_changed_token_moves_the_output_far_beyond_rounding(call: Call) -> None:
    """Whoever reads the old token is off by more than ten times what any dtype's rounding may cost."""
    replays = Replays(call, 0, changes=True)
    replays.refresh()
    changed = oracle(call)
    replays.restore()
    stale = oracle(call)
    b, g = replays.changed // 4, replays.changed % 4
    error = ((changed - stale)[b, g].norm(dim=-1) / changed[b, g].norm(dim=-1)).amax(-1)
    assert (error > 0.3).all()


def test_every_replay_is_judged_by_its_own_inputs(call: Call) -> None:
    """Right outputs have no error, in more replays than are judged at once; one wrong replay, or NaN, shows."""
    replays, outputs = Replays(call, 7, changes=True), list[torch.Tensor]()
    for _ in range(CHUNK + 3):
        replays.refresh()
        outputs.append(oracle(call).float())
        replays.count += 1
    replays.restore()
    judge, every = Judge(replays, 1), list(range(CHUNK + 3))
    assert judge.worst(every, outputs) < 1e-6
    assert judge.worst(every, [outputs[0], *outputs[:-1]]) > 0.1  # each a replay late
    assert judge.worst([], []) == 0
    outputs[-1][-1, -1, -1, 0] = torch.nan  # the last row is always judged
    assert judge.worst(every, outputs) != judge.worst(every, outputs)
    assert judge.worst([0], [outputs[0][..., :-1]]) != 0


def test_a_row_without_a_token_is_judged_too(call: Call) -> None:
    """It must be zero."""
    call.block_indices[0, 0] = -1
    replays = Replays(call, 0, changes=False)
    replays.refresh()
    right = oracle(call).float()
    judge = Judge(replays, 0)
    judge.rows[0] = 0
    judge = Judge(replays, 0)
    assert judge.worst([0], [right]) < 1e-6
