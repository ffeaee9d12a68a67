"""The kernels of the step's parts in Triton's interpreter: kernels/test_interpreter.py runs this file."""

from __future__ import annotations

import pytest
import torch
from kernels import interpreter
from kernels.parts.cases import faults, random_case
from kernels.parts.near import sum_faults, window_faults
from kernels.parts.tokens import decoded_faults, full_faults, linear_faults, token_faults
from strategies import CPU

from nsa.bench.decode.routing_check import routing_fault
from nsa.bench.method.reads import compressed_by_parts, window_by_kernel
from nsa.kernels.parts import host
from nsa.kernels.parts.parts import TritonParts
from nsa.kernels.step import Lengths
from nsa.shapes import NsaShape

interpreter.patch_once()


@pytest.mark.parametrize(
    ("seed", "dtype"),
    [*((seed, torch.float32) for seed in range(16)), *((seed, torch.float16) for seed in (0, 4, 6, 8))],
)
def test_compressed_attention_and_routing_equal_the_oracle(seed: int, dtype: torch.dtype) -> None:
    """Any shape, ragged, NaN beyond the lengths: outputs to rounding, blocks exactly where the scores differ."""
    assert faults(random_case(seed, dtype, CPU), 2e-5 if dtype == torch.float32 else 5e-3) == []


@pytest.mark.parametrize("seed", [1, 3, 9, 14, 22])  # whose l, d and l' allow it
def test_routing_by_sums_of_blocks_equals_the_oracle(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are many scores their sums are kept: the same blocks as float64 chooses from queries and keys."""
    monkeypatch.setattr(host, "SUMMED_BYTES", -1)
    monkeypatch.setattr(host, "_weigh", None)
    assert faults(random_case(seed, torch.float32, CPU), 2e-5) == []


@pytest.mark.parametrize("S", [320, 323, 1000])
def test_ties_go_to_the_lower_index(S: int) -> None:
    """With queries of zero every compressed token weighs the same: the lowest blocks of the highest sum win."""
    case = random_case(0, torch.float32, CPU)
    shape = NsaShape(dim=32, heads=4, groups=1, cmp_block=8, cmp_stride=4, sel_block=16, sel_count=5)
    seq_lens = torch.tensor([S], dtype=torch.int32)
    M = shape.num_compressed(S)
    lengths = Lengths(seq_lens, S, True)
    k = torch.randn(1, 1, M, 32)
    made = case._replace(q=torch.zeros(1, 1, 4, 32), k=k, v=k, lengths=lengths, shape=shape)
    assert faults(made, 1e-5) == []
    current = (S - 1) // 16
    _, kept = TritonParts().compressed(made.q, k, k, lengths, shape, True)
    assert TritonParts().route(kept, lengths, shape)[0, 0].tolist() == [0, 1, 2, current - 1, current]


@pytest.mark.parametrize("seed", range(6))
def test_reads_of_the_compressed_branch_are_counted_from_its_output(seed: int) -> None:
    """Every compressed token of a sequence reaches its output once, and none beyond its length."""
    case = random_case(seed, torch.float32, CPU, longest=300)
    got = compressed_by_parts(TritonParts(), case.lengths, case.shape, case.q)
    for b, S in enumerate(case.lengths.seq_lens.tolist()):
        assert got[b].tolist() == [case.shape.num_compressed(S)] * case.shape.groups


def test_the_choice_by_crafted_scores_is_the_oracles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forced blocks, ragged lengths and exact ties, as every decode cell checks them, with n of 3 to 8."""
    monkeypatch.setattr("nsa.bench.decode.routing_check.CASES", 6)  # each further one has an n larger by 1
    assert routing_fault(CPU, TritonParts().select_blocks) is None


@pytest.mark.parametrize("seed", range(5))
def test_a_token_is_appended_as_by_torch(seed: int) -> None:
    """Queries, gates, caches, emitted tokens, lengths and outputs, ragged, with both phi, in any shape."""
    assert token_faults(seed, torch.float32, CPU, 2e-5) == []


def test_a_full_sequence_stays_as_it_is() -> None:
    """A replay beyond the capacity writes nothing and leaves the length."""
    assert full_faults(CPU) == []


@pytest.mark.parametrize("phi", ["mean", "mlp"])
def test_tokens_through_a_core_equal_the_oracle_whatever_the_host_knows(phi: str) -> None:
    """From an empty cache, each token by a call that knows no length on the host, as a replay does."""
    assert decoded_faults(phi) == []


def test_a_product_of_one_row() -> None:
    """With fewer columns than a step of the kernel, with more, and of two rows."""
    assert linear_faults(torch.float32, CPU, 1e-6) == []


@pytest.mark.parametrize("seed", range(8))
def test_the_window_equals_float64(seed: int) -> None:
    """Any shape, ragged, empty sequences, NaN before and behind each window."""
    assert window_faults(seed, torch.float32, CPU, 1e-5) == []


def test_the_gated_sum_equals_torchs() -> None:
    """Of any of the branches."""
    assert sum_faults(torch.float32, CPU, 1e-6) == []


def test_reads_of_the_window_are_counted_from_its_output() -> None:
    """As many as the window has, and one more where a kernel reads one more."""
    shape, parts = NsaShape(groups=1, heads=2, window=40), TritonParts()
    lengths = Lengths(torch.tensor([100, 7], dtype=torch.int32), 100, False)
    like = torch.zeros(1)
    assert window_by_kernel(parts.window, lengths, shape, 128, like).tolist() == [[40], [7]]

    def wider(*arguments):
        return parts.window(*arguments[:4], arguments[4] + 1)

    assert window_by_kernel(wider, lengths, shape, 128, like).tolist() == [[41], [7]]
