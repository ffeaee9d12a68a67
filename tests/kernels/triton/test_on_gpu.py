"""The compiled Triton kernel on a GPU: random shapes of the whole contract, captures, and the same bits each time."""

from __future__ import annotations

import pytest
import torch
from kernels.triton.calls import LAYOUTS, Kind, random_call

from nsa.bench.method.accuracy import oracle, run_poisoned, worst_row_error
from nsa.bench.method.inputs import full_case, ragged_case
from nsa.bench.method.timing import CudaTimer
from nsa.kernels.triton.plan import candidates
from nsa.kernels.triton.select import SelectAttention, run, size_of
from nsa.records.shapes import CheckShape

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda")
select_attention = SelectAttention({})
TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}  # of the worst row, relative
WIDTHS = [(32, 256), (64, 64), (96, 192), (128, 128), (192, 96), (256, 32), (64, 128), (256, 256)]
DTYPES = list(TOLERANCE)
BLOCKS = (64, 16, 128, 32)
# every dtype with every pair of widths; blocks and layouts in turn, for each kind is compiled
KINDS = [
    Kind(dtype, *widths, BLOCKS[(i + j) % 4], LAYOUTS[(i + 2 * j) % 3])
    for i, dtype in enumerate(DTYPES)
    for j, widths in enumerate(WIDTHS)
]
SHAPES_PER_KIND = 25
GRID = CheckShape(64, 8, 128, 128, 16, 64, 4096, 4, "bfloat16")


def require_right(call, kernel=select_attention) -> None:
    """Fail on a fault, an input that changed, or an error that rounding does not explain."""
    output, fault = run_poisoned(kernel, call)
    assert fault is None
    assert worst_row_error(output, oracle(call)) < TOLERANCE[call.q.dtype]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_random_shapes_equal_the_oracle(kind: Kind) -> None:
    """The compiled kernel equals the oracle for every dtype, width, block, layout and length."""
    for seed in range(SHAPES_PER_KIND):
        require_right(random_call(seed, kind, CUDA, rows=40, blocks=6 if seed % 5 else 70))


@pytest.mark.parametrize("rows", [4, 256])
def test_every_candidate_of_tuning_is_right(rows: int) -> None:
    """Every configuration that tuning may freeze gives the oracle's output."""
    call = ragged_case(CheckShape(rows, 5, 64, 128, 8, 64, 1000, 4, "bfloat16"), 1, CUDA)
    for config in candidates(size_of(call.q, call.v, call.block_indices, call.block_size)):
        require_right(call, lambda *arguments, config=config: run(config, *arguments))


@pytest.mark.parametrize("rows", [4, 64, 1024])
def test_replays_of_a_capture_give_the_same_bits_and_follow_their_inputs(rows: int) -> None:
    """A call can be captured; its replays give equal bits, and read the lengths of the moment of the replay."""
    shape = CheckShape(rows, 8, 64, 64, 16, 64, 2048, 4, "bfloat16")
    call = full_case(shape, 0, CUDA)
    eager = select_attention(*call)
    captured = CudaTimer(CUDA).capture(lambda: None, lambda: select_attention(*call), warmup=1)
    for _ in range(50):
        captured.output.fill_(torch.nan)
        captured.graph.replay()
        assert torch.equal(captured.output, eager)
    call.seq_lens.fill_(1500)
    call.k[:, :, 1500:] = torch.nan
    call.v[:, :, 1500:] = torch.nan
    captured.graph.replay()
    assert worst_row_error(captured.output, oracle(call)) < TOLERANCE[torch.bfloat16]


def test_a_call_waits_for_nothing() -> None:
    """A call reads no length, no index and no result back to the host."""
    call = full_case(GRID, 0, CUDA)
    select_attention(*call)
    torch.cuda.set_sync_debug_mode("error")
    try:
        select_attention(*call)
    finally:
        torch.cuda.set_sync_debug_mode("default")
