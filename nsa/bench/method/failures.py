"""Whose fault it is: what a kernel raises is its backend's failure, what the harness raises is not."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nsa.errors import KernelFailed, NoMemory, NsaError
from nsa.kernels.contract import SelectAttention

NO_MEMORY = ("out of memory", "can't allocate memory")


@contextmanager
def kernel_at_work(name: str) -> Iterator[None]:
    """Whatever is raised inside is a kernel's: a compiler's error, a launch that fails, an assertion of its own.

    Args:
        name: of the backend or the variant, for the message.

    Raises:
        InputError, BackendUnavailable: as they were raised: a refusal is no failure.
        NoMemory: the device's memory is full.
        KernelFailed: anything else, with its first line; the whole is in the job's log.
    """
    try:
        yield
    except NsaError:
        raise
    except Exception as error:
        raise _failure(name, error) from error


@contextmanager
def device_at_work(name: str) -> Iterator[None]:
    """A process whose device fails, or is full, failed because of the kernels that it runs; other errors pass.

    A kernel that fails on the device is noticed by whatever asks the device next, in the harness or not.

    Args:
        name: what runs there.

    Raises:
        NoMemory, KernelFailed: as kernel_at_work.
    """
    try:
        yield
    except RuntimeError as error:
        if not (out_of_memory(error) or isinstance(error, torch.AcceleratorError)):
            raise
        raise _failure(name, error) from error


def guarded(name: str, kernel: SelectAttention) -> SelectAttention:
    """A kernel whose every call is kernel_at_work."""

    def call(
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        block_indices: torch.Tensor,
        seq_lens: torch.Tensor,
        block_size: int,
    ) -> torch.Tensor:
        with kernel_at_work(name):
            return kernel(q, k, v, block_indices, seq_lens, block_size)

    return call


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocator gave up: CUDA's or the CPU's of torch, or the driver's own under an extension."""
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


def _failure(name: str, error: Exception) -> NoMemory | KernelFailed:
    traceback.print_exception(error)  # into the job's log
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if out_of_memory(error):
        return NoMemory(first)
    return KernelFailed(f"{name}: {type(error).__name__}: {first}")
