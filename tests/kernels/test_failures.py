"""Whose fault it is: what a backend raises is its failure, in one line."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from nsa.errors import BackendUnavailable, ConfigError, InputError, KernelFailed, NoMemory, RecordError
from nsa.kernels.failures import BackendBroken, kernel_at_work, out_of_memory

OUT_OF_MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"),
    RuntimeError("CUDA driver error: out of memory"),  # under an extension
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    MemoryError("of Python"),
]
ON_THE_DEVICE = torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nmore lines")


class CompilationError(Exception):
    """As Triton has it: no RuntimeError."""


class Speechless(Exception):
    """An error whose own text is an error."""

    def __str__(self) -> str:
        raise KeyError("no text")


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (ON_THE_DEVICE, "cuda: AcceleratorError: CUDA error: an illegal memory access was encountered"),
        (CompilationError("\nat 3:1:\nptxas fatal"), "cuda: CompilationError: at 3:1:"),
        (AssertionError(), "cuda: AssertionError: AssertionError"),
        (KeyError("a bug of the kernel's"), 'cuda: KeyError: "a bug of the kernel\'s"'),
        (SystemExit("a build gave up"), "cuda: SystemExit: a build gave up"),
        (BaseException("of a test framework"), "cuda: BaseException: of a test framework"),
        (Speechless(), "cuda: Speechless: Speechless"),
        (ConfigError("a setting that it does not take"), "cuda: a setting that it does not take"),
    ],
)
def test_whatever_a_backend_raises_is_its_failure(raised: BaseException, message: str) -> None:
    """The message is one line with the backend's name, and the whole is its cause."""
    with pytest.raises(KernelFailed) as caught, kernel_at_work("cuda"):
        raise raised
    assert str(caught.value) == message and caught.value.__cause__ is raised


def test_a_failure_to_load_asks_for_another_fix() -> None:
    """No sanitizer finds out why a package does not load."""
    with pytest.raises(BackendBroken) as caught, kernel_at_work("cuda", BackendBroken):
        raise ImportError("no module")
    assert caught.value.fix == "fix the backend, or leave it out of candidates"


@pytest.mark.parametrize("raised", OUT_OF_MEMORY, ids=["torch on CUDA", "driver", "torch on a CPU", "Python"])
def test_an_allocator_that_gives_up_is_no_broken_kernel(raised: BaseException) -> None:
    """Every allocator's words are known, on the device and on the host."""
    assert out_of_memory(raised)
    with pytest.raises(NoMemory) as caught, kernel_at_work("cuda"):
        raise raised
    assert str(caught.value) == str(raised).splitlines()[0]


@pytest.mark.parametrize(
    "raised",
    [
        InputError("q: got float32"),
        BackendUnavailable("cuda", "it is not built", "build it"),
        KernelFailed("it was told already"),
        NoMemory("it was told already"),
        RecordError("results/tune/triton.json: is damaged; delete it and rerun"),
        KeyboardInterrupt(),
    ],
    ids=["refusal", "unavailable", "failure", "memory", "damaged artifact", "interrupt"],
)
def test_what_is_said_already_passes_as_it_is(raised: BaseException) -> None:
    """A refusal is no failure, and a failure inside another is told once."""
    with pytest.raises(type(raised)) as caught, kernel_at_work("cuda"):
        raise raised
    assert caught.value is raised


def test_telling_imports_no_torch() -> None:
    """A backend that cannot even be asked costs milliseconds."""
    code = "import sys, nsa.kernels.failures; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
