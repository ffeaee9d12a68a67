"""Whose fault it is: what a kernel raises is its backend's failure, what the harness raises is not."""

from __future__ import annotations

import pytest
import torch

from nsa.bench.method.failures import device_at_work, guarded, kernel_at_work, out_of_memory
from nsa.errors import BackendUnavailable, InputError, KernelFailed, NoMemory

OUT_OF_MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"),
    RuntimeError("CUDA driver error: out of memory"),  # under an extension
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
]
ON_THE_DEVICE = torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore lines")


class CompilationError(Exception):
    """As Triton has it: no RuntimeError."""


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (ON_THE_DEVICE, "cuda: AcceleratorError: CUDA error: an illegal memory access was encountered"),
        (CompilationError("\nat 3:1:\nptxas fatal"), "cuda: CompilationError: at 3:1:"),
        (AssertionError(), "cuda: AssertionError: AssertionError"),
        (KeyError("a bug of the kernel's"), 'cuda: KeyError: "a bug of the kernel\'s"'),
    ],
)
def test_whatever_a_kernel_raises_is_its_failure(raised: Exception, message: str) -> None:
    """The message is one line with the backend's name, and the whole is its cause."""
    with pytest.raises(KernelFailed) as caught, kernel_at_work("cuda"):
        raise raised
    assert str(caught.value) == message and caught.value.__cause__ is raised


@pytest.mark.parametrize("at_work", [kernel_at_work, device_at_work])
@pytest.mark.parametrize("raised", OUT_OF_MEMORY, ids=["torch on CUDA", "driver", "torch on a CPU"])
def test_an_allocator_that_gives_up_is_no_broken_kernel(at_work, raised: RuntimeError) -> None:
    """Every allocator's words are known, on the device and on the host."""
    assert out_of_memory(raised)
    with pytest.raises(NoMemory) as caught, at_work("cuda"):
        raise raised
    assert str(caught.value) == str(raised).splitlines()[0]


@pytest.mark.parametrize("at_work", [kernel_at_work, device_at_work])
@pytest.mark.parametrize(
    "raised",
    [
        InputError("q: got float32"),
        BackendUnavailable("cuda", "it is not built", "build it"),
        KernelFailed("it was told already"),
        KeyboardInterrupt(),
    ],
    ids=["refusal", "unavailable", "failure", "interrupt"],
)
def test_what_is_said_already_passes_as_it_is(at_work, raised: BaseException) -> None:
    """A refusal is no failure, and a failure inside another is told once."""
    with pytest.raises(type(raised)) as caught, at_work("cuda"):
        raise raised
    assert caught.value is raised


def test_a_device_that_fails_is_the_kernels_fault_wherever_it_is_noticed() -> None:
    """The harness asks the device next, and learns of it."""
    with pytest.raises(KernelFailed, match=r"^cuda, triton: AcceleratorError: "), device_at_work("cuda, triton"):
        raise ON_THE_DEVICE


@pytest.mark.parametrize(
    "raised", [RuntimeError("The size of tensor a must match"), KeyError("emits"), OSError("disk")]
)
def test_the_harness_own_faults_are_no_kernels(raised: Exception) -> None:
    """An error of ours beside a healthy device passes."""
    assert not out_of_memory(raised)
    with pytest.raises(type(raised)) as caught, device_at_work("cuda"):
        raise raised
    assert caught.value is raised


def test_a_guarded_kernel_is_the_kernel() -> None:
    """It is given what was given, returns what it returns, and fails as a kernel does."""

    def kernel(*arguments: object) -> torch.Tensor:
        if arguments[5] == 0:
            raise ZeroDivisionError("by block_size")
        return torch.tensor(list(map(float, arguments)))

    call = guarded("mine", kernel)
    assert call(1, 2, 3, 4, 5, 6).tolist() == [1, 2, 3, 4, 5, 6]
    with pytest.raises(KernelFailed, match=r"^mine: ZeroDivisionError: by block_size$"):
        call(1, 2, 3, 4, 5, 0)
