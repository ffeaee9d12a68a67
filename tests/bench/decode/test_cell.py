"""A decode cell: its reads, its state between arms, and that what lies beyond a length is never read."""

from __future__ import annotations

import pytest
import torch
from standins import CPU

from nsa.attention.layer import Keys
from nsa.bench.decode.arms import ARMS
from nsa.bench.decode.cell import Cell, parts_of, visible
from nsa.config import DecodeSettings
from nsa.errors import InputError
from nsa.kernels.sdpa.packed import gather, index_select
from nsa.shapes import NsaShape


@pytest.mark.parametrize(("batch", "S"), [(1, 1), (1, 31), (2, 128), (1, 700), (1, 1024), (1, 1500)])
def test_counted_reads_equal_the_closed_form(batch: int, S: int) -> None:
    """Every branch is given as many tokens as the algorithm says, averaged over sequences and groups."""
    cell = Cell(DecodeSettings(model=NsaShape(), batch=batch), S, gather, CPU)
    assert cell.reads.actual == NsaShape().reads_expected(S)
    assert cell.bytes_read == NsaShape().reads_expected(S) * batch * 2 * (32 + 32) * 4


def test_visible_keys_are_counted_from_the_mask() -> None:
    """Tokens that a mask hides from every query do not count."""
    mask = torch.ones(1, 1, 4, 7, dtype=torch.bool)
    mask[..., :2] = False
    assert visible(Keys(torch.zeros(1, 2, 5, 4), None)) == 5
    assert visible(Keys(torch.zeros(1, 2, 7, 4), mask)) == 5
    assert visible(None) == 0


def test_arms_repeat_bit_for_bit_from_the_same_state() -> None:
    """Arms start from one state, in whatever order they run, and the A/A control is the same arm."""
    cell = Cell(DecodeSettings(), 200, gather, CPU)
    for emits in cell.steps:
        first = {name: cell.arm(name, emits).output for name in ARMS}
        again = {name: cell.arm(name, emits).output for name in reversed(ARMS)}
        assert all(torch.equal(first[name], again[name]) for name in ARMS)
        assert torch.equal(first["all"], first["all_again"])
        assert not torch.equal(first["all"], first["all_without_sel"])


def test_poison_beyond_the_length_is_seen() -> None:
    """A kernel that reads one token too many gives NaN, and the caches are as before afterwards."""

    def one_too_many(q, k, v, block_indices, seq_lens, block_size):
        return gather(q, k, v, block_indices, seq_lens + 1, block_size)

    honest = Cell(DecodeSettings(), 100, gather, CPU)
    assert honest.finite_when_poisoned()
    before = honest.cache.k.clone()
    assert honest.finite_when_poisoned() and torch.equal(honest.cache.k, before)  # nothing is lost
    assert not Cell(DecodeSettings(), 100, one_too_many, CPU).finite_when_poisoned()


def test_the_parts_are_kernels_on_a_gpu_and_operators_elsewhere_or_on_request() -> None:
    """Which way a cell takes follows from its device and decode.parts alone."""
    best, torch_only = DecodeSettings(), DecodeSettings(parts="torch")
    assert parts_of(best, torch.device("cuda")) == "triton"
    assert parts_of(torch_only, torch.device("cuda")) == parts_of(best, CPU) == "torch"


def test_a_packing_that_refuses_does_not_compete() -> None:
    """A cell times the step with every packing that takes it, and says why another does not; none is judged here."""

    def refuses(*_: object) -> torch.Tensor:
        raise InputError("q: got something, expected something else")

    cell = Cell(DecodeSettings(model=NsaShape()), 1100, gather, CPU)
    refused = cell.take_variants({"index_select": index_select, "refuses": refuses})
    assert list(cell.variants) == ["index_select"]
    assert refused == {"refuses": "q: got something, expected something else"}
    assert cell.arms == [*ARMS, "all@index_select", "sel@index_select"]
    assert cell.arm("all@index_select", True).output.shape == cell.arm("all", True).output.shape
