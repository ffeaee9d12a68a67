"""The kernel in Triton's interpreter: kernels/test_interpreter.py runs this file.

The interpreter has no bf16 (numpy has none) and no overlapping launches; test_on_gpu.py has both.
"""

from __future__ import annotations

import mmap
from itertools import product

import numpy as np
import pytest
import torch
import triton
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernels import interpreter
from kernels.triton.calls import LAYOUTS, Kind, random_call
from strategies import CPU

from nsa.attention import reference
from nsa.bench.method.inputs import Call, full_case, ragged_case
from nsa.kernels.limits import HEAD_DIMS
from nsa.kernels.triton import kernel
from nsa.kernels.triton.plan import LaunchConfig
from nsa.kernels.triton.select import SelectAttention, run
from nsa.records.shapes import CheckShape

interpreter.patch_once()

TOLERANCE = {torch.float32: 2e-5, torch.float16: 5e-3}
CONFIGS = [LaunchConfig(tokens, 4, *rest) for tokens, *rest in product((16, 64), (1, 3), (False, True))]
MAP_NORESERVE = 0x4000  # Linux's, which Python names from 3.13 on
SMALL = Kind(torch.float32, 32, 64, 16, "plain")

kinds = st.builds(
    Kind,
    dtype=st.sampled_from(list(TOLERANCE)),
    head_dim=st.sampled_from(HEAD_DIMS),
    value_dim=st.sampled_from(HEAD_DIMS),
    block=st.sampled_from([16, 32, 48, 64, 128]),
    layout=st.sampled_from(LAYOUTS),
)


def error(got: torch.Tensor, call: Call) -> float:
    """The largest absolute error; infinite where a number is not finite or an empty row is not exactly zero."""
    numbers = [tensor.double().numpy() for tensor in call[:3]]
    exact = reference.select_attention(*numbers, call.block_indices.numpy(), call.seq_lens.numpy(), call.block_size)
    result = got.double().numpy()
    if not np.isfinite(result).all() or (result[~exact.any(-1)] != 0).any():
        return float("inf")
    return float(np.abs(result - exact).max())


def far_apart(tensor: torch.Tensor, axis: int, stride: int) -> torch.Tensor:
    """The same numbers, one axis so many elements apart: memory that is only reserved, and costs where it is used."""
    strides = [*tensor.stride()]
    strides[axis] = stride
    numbers = 1 + sum((size - 1) * step for size, step in zip(tensor.shape, strides, strict=True))
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    reserved = mmap.mmap(-1, numbers * tensor.itemsize, flags=flags)
    far = torch.frombuffer(reserved, dtype=tensor.dtype).as_strided(tensor.shape, strides)
    return far.copy_(tensor)


def test_it_is_the_interpreter() -> None:
    """The tests below run the kernel's own text, without a GPU."""
    assert not isinstance(kernel.attend, triton.JITFunction)


@settings(max_examples=48, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), kind=kinds, config=st.sampled_from(CONFIGS))
@example(seed=0, kind=Kind(torch.float16, 96, 192, 128, "part"), config=LaunchConfig(64, 4, 4, True))
def test_every_launch_configuration_equals_the_oracle(seed: int, kind: Kind, config: LaunchConfig) -> None:
    """Every configuration reads the named tokens of each row, none beyond its length, and combines its splits."""
    call = random_call(seed, kind, CPU, rows=3, blocks=3)
    some = max(1, 8 * config.tokens // kind.block)  # of 8 steps at most, where a block has no more: one takes 5 ms
    call = call._replace(block_indices=call.block_indices[..., :some])
    got = run(config, *call)
    assert got.dtype == kind.dtype
    assert error(got, call) < TOLERANCE[kind.dtype]


@pytest.mark.parametrize("seed", range(4))
def test_an_untuned_call_is_launched_by_the_rule(seed: int) -> None:
    """What the rule chooses fits the call, and its result equals the oracle's."""
    call = random_call(seed, Kind(torch.float32, 64, 128, 32, "plain"), CPU, rows=4, blocks=5)
    assert error(SelectAttention({})(*call), call) < TOLERANCE[torch.float32]


def test_rows_of_128_blocks() -> None:
    """As many blocks a row as the contract allows, split and not, give the oracle's output."""
    shape = CheckShape(2, 2, 32, 64, 128, 16, 16 * 131, 2, "float32")
    for call in (full_case(shape, 0, CPU), ragged_case(shape, 1, CPU)):
        assert error(SelectAttention({})(*call), call) < TOLERANCE[torch.float32]
        assert error(run(LaunchConfig(64, 4, 1, True), *call), call) < TOLERANCE[torch.float32]


def test_strides_of_dimensions_of_size_one_mean_nothing() -> None:
    """One sequence, group, head and token, and vectors of one number, whatever their strides."""
    q, k, v = (torch.randn(9).as_strided((1, 1, 1, 1), stride) for stride in ((7, 5, 3, 9), (8, 6, 5, 4), (3, 3, 3, 3)))
    indices = torch.zeros(1, dtype=torch.int32).as_strided((1, 1, 1), (3, 5, 7))
    call = Call(q, k, v, indices, torch.ones(3, dtype=torch.int32)[::3], 16)
    assert error(SelectAttention({})(*call), call) < TOLERANCE[torch.float32]


def test_large_scores_of_either_sign_do_not_overflow() -> None:
    """Scores of 3e4 and of -3e4 give the oracle's output, with splits and without."""
    q, k, *others = random_call(7, SMALL, CPU, rows=2, blocks=4)
    for factor in (3e4, -3e4):
        call = Call(q.abs() * factor, k.nan_to_num().abs(), *others)
        for config in (LaunchConfig(16, 4, 1, False), LaunchConfig(16, 4, 4, False)):
            assert error(run(config, *call), call) < 1e-2


def test_no_row_and_no_block_give_an_answer() -> None:
    """A batch of no row gives an empty output, and n = 0 gives zeros."""
    call = random_call(3, SMALL, CPU, rows=4, blocks=3)
    select_attention = SelectAttention({})
    none = [tensor[:0] for tensor in call[:5]]
    assert select_attention(*none, call.block_size).shape == (0, *call.q.shape[1:3], 64)
    assert (select_attention(*call._replace(block_indices=call.block_indices[..., :0])) == 0).all()


FAR = 2**31 + 64  # elements; three heads at half of it are as far


@pytest.mark.parametrize("config", [LaunchConfig(16, 4, 1, False), LaunchConfig(64, 4, 2, True)], ids=str)
@pytest.mark.parametrize(
    ("name", "axis", "stride"),
    [
        *(("q", axis, stride) for axis, stride in enumerate((FAR, FAR, 2**30 + 64))),
        *((name, axis, FAR) for name in ("k", "v") for axis in range(3)),
        *(("block_indices", axis, FAR) for axis in range(3)),
        ("seq_lens", 0, FAR),
    ],
)
def test_no_stride_is_too_long(name: str, axis: int, stride: int, config: LaunchConfig) -> None:
    """A tensor may reach beyond 2³¹ elements along any of its axes: every place is computed in 64 bits."""
    generator = torch.Generator().manual_seed(axis)
    q, k, v = (torch.randn(2, 2, size, 32, generator=generator).half() for size in (3, 64, 64))
    indices = torch.tensor([0, 1, 3], dtype=torch.int32).expand(2, 2, 3).contiguous()
    call = Call(q, k, v, indices, torch.tensor([64, 50], dtype=torch.int32), 16)
    far = call._replace(**{name: far_apart(getattr(call, name), axis, stride)})
    assert torch.equal(run(config, *far), run(config, *call))
    assert error(run(config, *call), call) < TOLERANCE[torch.float16]
