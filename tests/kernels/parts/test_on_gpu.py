"""The compiled kernels of the parts on a GPU: random shapes, captures, and the same bits each time."""

from __future__ import annotations

import pytest
import torch
from kernels.parts.cases import faults, random_case
from kernels.parts.near import sum_faults, window_faults
from kernels.parts.tokens import full_faults, linear_faults, token_faults

from nsa.bench.method.timing import CudaTimer
from nsa.kernels.parts.parts import TritonParts

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda")
TOLERANCE = {torch.float32: 2e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("seed", range(20))
def test_compressed_attention_and_routing_equal_the_oracle(seed: int, dtype: torch.dtype) -> None:
    """Any shape, ragged, NaN beyond the lengths: outputs to rounding, blocks exactly where the scores differ."""
    assert faults(random_case(seed, dtype, CUDA, longest=3000), TOLERANCE[dtype]) == []


def test_a_replay_gives_the_same_bits() -> None:
    """Captured without waiting for the device, replayed twice: the same output and the same blocks."""
    case, parts = random_case(1, torch.bfloat16, CUDA, longest=5000), TritonParts()
    blocks: list[torch.Tensor] = []

    def run() -> torch.Tensor:
        o, kept = parts.compressed(case.q, case.k, case.v, case.lengths, case.shape, True)
        blocks[:] = [parts.route(kept, case.lengths, case.shape)]
        return o

    captured = CudaTimer(CUDA).capture(lambda: None, run, 2)
    found = []
    for _ in range(2):
        captured.output.fill_(torch.nan)
        blocks[0].fill_(-7)
        captured.graph.replay()
        found.append((captured.output.clone(), blocks[0].clone()))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("seed", range(10))
def test_a_token_is_appended_as_by_torch(seed: int, dtype: torch.dtype) -> None:
    """Queries, gates, caches, emitted tokens, lengths and outputs, ragged, with both phi, in any shape."""
    assert token_faults(seed, dtype, CUDA, 4 * TOLERANCE[dtype]) == []


def test_a_full_sequence_stays_as_it_is() -> None:
    """A replay beyond the capacity writes nothing and leaves the length."""
    assert full_faults(CUDA) == []


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_product_of_one_row(dtype: torch.dtype) -> None:
    """With fewer columns than a step of the kernel, with more, and of two rows."""
    assert linear_faults(dtype, CUDA, TOLERANCE[dtype]) == []


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("seed", range(10))
def test_the_window_equals_float64(seed: int, dtype: torch.dtype) -> None:
    """Any shape, ragged, empty sequences, NaN before and behind each window."""
    assert window_faults(seed, dtype, CUDA, TOLERANCE[dtype]) == []


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_gated_sum_equals_torchs(dtype: torch.dtype) -> None:
    """Of any of the branches."""
    assert sum_faults(dtype, CUDA, TOLERANCE[dtype]) == []
