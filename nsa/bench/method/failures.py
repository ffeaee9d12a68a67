"""Kernels and devices at work: their failures are the backend's (nsa.kernels.failures), and so is a wrong answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeGuard

import torch

from nsa.errors import InputError, KernelFailed
from nsa.kernels.contract import SelectAttention
from nsa.kernels.core import SEL, Cache, Core, Parts, Sizes
from nsa.kernels.failures import BackendBroken, failure, kernel_at_work, out_of_memory


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
    except (RuntimeError, MemoryError) as error:
        if not (out_of_memory(error) or isinstance(error, torch.AcceleratorError)):
            raise
        raise failure(name, error) from error


def guarded(name: str, kernel: SelectAttention, *, whole: bool = False, takes: bool = False) -> SelectAttention:
    """A kernel whose every call is kernel_at_work, and returns a tensor on the device that it was given.

    Args:
        name: of the backend or the variant.
        kernel: what is called.
        whole: the tensor must have the output's shape and dtype, too; elsewhere another one is a wrong result.
        takes: the kernel has taken such a call before, so that to refuse one now is a failure.
    """

    def call(
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        block_indices: torch.Tensor,
        seq_lens: torch.Tensor,
        block_size: int,
    ) -> torch.Tensor:
        with kernel_at_work(name):
            try:
                output: object = kernel(q, k, v, block_indices, seq_lens, block_size)
            except InputError as error:
                if takes:
                    raise KernelFailed(f"{name}: it refuses a call after it took one of this shape: {error}") from error
                raise
        if not is_plain(output) or output.layout != torch.strided or output.device != q.device:
            raise BackendBroken(f"{name}: it returned {_described(output)}, expected a dense tensor on {q.device}")
        if whole and (output.shape != (*q.shape[:3], v.shape[3]) or output.dtype != q.dtype):
            expected = f"{(*q.shape[:3], v.shape[3])} {q.dtype}"
            raise BackendBroken(f"{name}: it returned {_described(output)}, expected {expected}")
        return output

    return call


def guarded_core(name: str, core: Core) -> Core:
    """A core whose every call is kernel_at_work, and returns a tensor of the output's shape, dtype and device."""

    def call(
        q: torch.Tensor,
        gates: torch.Tensor,
        k: Cache,
        v: Cache,
        k_cmp: torch.Tensor,
        v_cmp: torch.Tensor,
        seq_lens: torch.Tensor,
        sizes: Sizes,
        parts: Parts,
        block_indices: torch.Tensor,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        with kernel_at_work(name):
            output: object = core(q, gates, k, v, k_cmp, v_cmp, seq_lens, sizes, parts, block_indices, out)
        shape = (*q.shape[:3], v[SEL].shape[3])
        plain = is_plain(output) and output.layout == torch.strided and output.device == q.device
        if not (plain and is_plain(output) and output.shape == shape and output.dtype == q.dtype):
            expected = f"{shape} {q.dtype} on {q.device}"
            raise BackendBroken(f"{name}: it returned {_described(output)}, expected {expected}")
        return output

    return call


def is_plain(output: object) -> TypeGuard[torch.Tensor]:
    """Whether a kernel returned a tensor; one of another type may compute when it is read, after the timing."""
    return type(output) is torch.Tensor


def _described(output: object) -> str:
    if not is_plain(output):
        return type(output).__name__
    return f"{tuple(output.shape)} {output.dtype} {output.layout} on {output.device}".replace(" torch.strided", "")
