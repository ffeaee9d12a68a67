"""The core in Triton's interpreter: kernels/test_interpreter.py runs this file.

The interpreter has no bf16 (numpy has none) and no overlapping launches; test_on_gpu.py has both.
"""

from __future__ import annotations

import pytest
import torch
import triton
from cores import EVERY, Drawn, case
from kernels import interpreter
from kernels.triton_core.faults import CORE, fault
from strategies import CPU

from nsa.errors import InputError
from nsa.kernels.core import Parts, Sizes
from nsa.kernels.parts import host
from nsa.kernels.triton_core import kernels
from nsa.kernels.triton_core.operator import DecodeCore

interpreter.patch_once()

SMALL = Drawn(Sizes(8, 4, 16, 4, 30), (75, 0, 5), 75, 1, 3, 32, 64, torch.float32, Parts())

LONG = Drawn(Sizes(8, 4, 16, 4, 30), (600, 0, 263, 5), 600, 1, 3, 32, 32, torch.float32, Parts(sel=False))


def test_it_is_the_interpreter() -> None:
    """The tests below run the kernels' own text, without a GPU."""
    assert not isinstance(kernels.attend, triton.JITFunction)


@pytest.mark.parametrize("parts", EVERY, ids=str)
def test_every_part_mask_equals_the_oracle(parts: Parts) -> None:
    """Ragged rows, an empty one, more blocks than are selected; what a part that is off would read is NaN."""
    assert fault(SMALL._replace(parts=parts), 0, CPU) is None


@pytest.mark.parametrize(
    "made",
    [
        SMALL._replace(sizes=Sizes(8, 4, 8, 128, 0), heads=16),  # fewer blocks than n, no window
        SMALL._replace(sizes=Sizes(12, 4, 24, 3, 200), D=64, Dv=32),  # l' that is no power of two, w beyond the cache
        SMALL._replace(sizes=Sizes(160, 16, 32, 3, 1), heads=1),  # no compressed token: the lowest blocks
        SMALL._replace(sizes=Sizes(1, 1, 1, 5, 7), lengths=(40, 1), capacity=40),
        SMALL._replace(dtype=torch.float16, D=96, Dv=192, groups=2, lengths=(75, 33)),
    ],
    ids=lambda made: str(made.sizes),
)
def test_sizes_at_the_edges_equal_the_oracle(made: Drawn) -> None:
    """Sizes of every kind that the contract has, at few tokens."""
    assert fault(made, 1, CPU) is None


def test_of_equal_blocks_the_lowest_are_selected() -> None:
    """With all compressed keys alike the inner blocks weigh the same: the lower index wins, exactly."""
    call = case(SMALL._replace(lengths=(75,)), 0, CPU)
    call.k_cmp.copy_(call.k_cmp[:, :, :1].clone())
    CORE(*call)
    assert call.block_indices[0, 0].tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize(
    "made",
    [
        LONG,
        LONG._replace(sizes=Sizes(8, 8, 16, 4, 30), heads=16),  # l = d: no token reaches beyond its block
        LONG._replace(sizes=Sizes(12, 4, 8, 20, 30), heads=1),  # a token gives to the next block as much as l' holds
        LONG._replace(sizes=Sizes(4, 2, 64, 3, 0), dtype=torch.float16),  # two blocks a step of attention
    ],
    ids=lambda made: str(made.sizes),
)
def test_sums_of_blocks_in_place_of_scores_equal_the_oracle(made: Drawn, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept where there are many scores, over several steps of attention; lengths at the border of a step."""
    monkeypatch.setattr(host, "SUMMED_BYTES", -1)
    monkeypatch.setattr(host, "_weigh", None)
    assert fault(made, 5, CPU) is None


@pytest.mark.parametrize("seed", range(3))
def test_equal_sums_stay_equal_whatever_they_are_relative_to(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block in the middle outweighs the others, so that those behind it are relative to more: the first ones win."""
    monkeypatch.setattr(host, "SUMMED_BYTES", -1)
    call = case(LONG._replace(lengths=(600,), sizes=Sizes(8, 4, 16, 6, 30)), seed, CPU)
    call.q.mul_(4).round_().div_(4)  # so that products are exact: no rounding of theirs tells equal tokens apart
    call.k_cmp.copy_(call.k_cmp[:, :, :1].mul(4).round().div(4))
    call.k_cmp[:, :, 72:76] = (call.q.sum(2, keepdim=True) * 2).round()  # of block 18; its last gives half to the next
    CORE(*call)
    assert call.block_indices[0, 0].tolist() == [0, 1, 18, 19, 36, 37]


def test_strides_of_the_contract_are_taken_and_others_refused() -> None:
    """Padded heads, tokens and groups give the same bits; strided vectors and indices are one line."""
    call = case(SMALL, 2, CPU)
    want = CORE(*call)
    wide = {name: torch.stack([getattr(call, name)] * 2, -2)[..., 0, :] for name in ("q", "k_cmp", "v_cmp", "gates")}
    k, v = ([torch.cat([t, t], -1)[..., : t.shape[-1]] for t in cache] for cache in (call.k, call.v))
    out = torch.empty(*want.shape[:2], 2, *want.shape[2:])[:, :, 1]
    assert CORE(*call._replace(**wide, k=k, v=v), out) is out
    assert torch.equal(out, want)
    odd = call.q.transpose(2, 3).contiguous().transpose(2, 3)
    with pytest.raises(InputError, match=r"q: got strides .* expected 1 in the last dimension"):
        CORE(*call._replace(q=odd))
    with pytest.raises(InputError, match=r"block_indices: got strides .* expected a contiguous tensor"):
        CORE(*call._replace(block_indices=torch.stack([call.block_indices] * 2, -1)[..., 0]))


def test_the_record_says_how_a_call_was_split() -> None:
    """Each kind of call has one note, with its sizes and its splits."""
    core = DecodeCore()
    for seed in (3, 4):
        core(*case(SMALL, seed, CPU))
    (note,) = core.plans()
    assert isinstance(note, dict)
    assert [note[key] for key in ("rows", "window", "selected", "tokens", "win_splits")] == [3, 30, 64, 64, 1]
