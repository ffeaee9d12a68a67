"""Kernels and devices at work: their failures and wrong answers are the backend's, the harness' own are not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from nsa.bench.method.failures import device_at_work, guarded
from nsa.bench.method.inputs import Call
from nsa.errors import InputError, KernelFailed, NoMemory
from nsa.kernels.failures import BackendBroken

ON_THE_DEVICE = torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore lines")
CALL = Call(
    q=torch.zeros(1, 2, 4, 8),
    k=torch.zeros(1, 2, 16, 8),
    v=torch.zeros(1, 2, 16, 6),
    block_indices=torch.zeros(1, 2, 1, dtype=torch.int32),
    seq_lens=torch.ones(1, dtype=torch.int32),
    block_size=16,
)
OUTPUT = torch.zeros(1, 2, 4, 6)


def kernel(output: object) -> Callable[..., torch.Tensor]:
    """A kernel that returns this, or raises it."""

    def call(*_: object) -> torch.Tensor:
        if isinstance(output, Exception):
            raise output
        return output  # type: ignore[return-value]

    return call


def test_a_device_that_fails_is_the_kernels_fault_wherever_it_is_noticed() -> None:
    """The harness asks the device next, and learns of it."""
    with pytest.raises(KernelFailed, match=r"^cuda, triton: AcceleratorError: "), device_at_work("cuda, triton"):
        raise ON_THE_DEVICE


@pytest.mark.parametrize("raised", [RuntimeError("CUDA error: out of memory\nmore"), MemoryError("too much")])
def test_a_device_that_is_full_is_no_broken_kernel(raised: Exception) -> None:
    """Whoever asks for too much beside a kernel, it does not fit."""
    with pytest.raises(NoMemory) as caught, device_at_work("cuda"):
        raise raised
    assert str(caught.value) == str(raised).splitlines()[0]


@pytest.mark.parametrize(
    "raised",
    [
        RuntimeError("The size of tensor a must match"),
        KeyError("emits"),
        OSError("disk"),
        InputError("q: got float32"),
        KernelFailed("it was told already"),
    ],
)
def test_the_harness_own_faults_are_no_kernels(raised: Exception) -> None:
    """An error of ours beside a healthy device passes, and so does what has been said already."""
    with pytest.raises(type(raised)) as caught, device_at_work("cuda"):
        raise raised
    assert caught.value is raised


def test_a_guarded_kernel_is_the_kernel() -> None:
    """It is given what was given, returns what it returns, and fails as a kernel does."""
    given: list[object] = []

    def records(*arguments: object) -> torch.Tensor:
        given.extend(arguments)
        return OUTPUT

    assert guarded("mine", records)(*CALL) is OUTPUT and all(a is b for a, b in zip(given, CALL, strict=True))
    with pytest.raises(KernelFailed, match=r"^mine: ZeroDivisionError: by block_size$"):
        guarded("mine", kernel(ZeroDivisionError("by block_size")))(*CALL)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (None, "it returned NoneType"),
        ((OUTPUT,), "it returned tuple"),
        (OUTPUT.to("meta"), r"it returned \(1, 2, 4, 6\) torch.float32 on meta"),
        (OUTPUT.to_sparse(), r"it returned \(1, 2, 4, 6\) torch.float32 torch.sparse_coo on cpu"),
    ],
)
def test_what_no_oracle_can_judge_is_a_failure(output: object, said: str) -> None:
    """An answer that is no tensor on the device is the backend's fault, not the harness' that trips over it."""
    with pytest.raises(BackendBroken, match=rf"^mine: {said}, expected a dense tensor on cpu$"):
        guarded("mine", kernel(output))(*CALL)


@pytest.mark.parametrize("output", [OUTPUT.flatten(), OUTPUT[..., :1], OUTPUT.double(), OUTPUT.int()])
def test_a_step_needs_the_whole_output(output: torch.Tensor) -> None:
    """Another shape or dtype fails the cell that would go on with it; a check calls it a wrong result."""
    assert guarded("mine", kernel(output))(*CALL) is output
    with pytest.raises(BackendBroken, match=r"^mine: it returned .*, expected \(1, 2, 4, 6\) torch.float32$"):
        guarded("mine", kernel(output), whole=True)(*CALL)


def test_a_refusal_after_a_call_that_was_taken_is_a_failure() -> None:
    """A kernel says once whether it takes a shape."""
    refuses = kernel(InputError("q: no"))
    with pytest.raises(InputError, match=r"^q: no$"):
        guarded("mine", refuses)(*CALL)
    with pytest.raises(KernelFailed, match=r"^mine: it refuses a call after it took one of this shape: q: no$"):
        guarded("mine", refuses, takes=True)(*CALL)
