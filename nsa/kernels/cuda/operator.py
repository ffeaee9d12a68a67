"""The extension's operator, nsa::select_attention, loaded once from the library that the build stage made."""

from __future__ import annotations

from pathlib import Path

import torch

from nsa.errors import InputError
from nsa.kernels.contract import check_inputs, dense, strides
from nsa.kernels.limits import check_head_dims

BLOCK_SIZES = (16, 32, 64, 128)
MAX_STRIDE = 8 * (2**32 - 1)  # of q, k and v, in elements: the kernel counts 16-byte units in 32 bits
MAX_INDEX_STRIDE = 2**32 - 1


def load(library: Path) -> None:
    """Load the library and register its fake (meta) implementation; a second call does nothing.

    Raises:
        OSError: the library is damaged or was built for another platform.
    """
    if loaded():
        return
    torch.ops.load_library(str(library))
    torch.library.register_fake("nsa::select_attention", _fake)


def loaded() -> bool:
    """Whether the operator is registered."""
    return hasattr(torch.ops.nsa, "select_attention")


def _fake(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    block_indices: torch.Tensor,
    seq_lens: torch.Tensor,
    block_size: int,
) -> torch.Tensor:
    return q.new_empty(*q.shape[:3], v.shape[3])


def select_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    block_indices: torch.Tensor,
    seq_lens: torch.Tensor,
    block_size: int,
) -> torch.Tensor:
    """Selected attention, K and V read once and straight from the cache. See contract.SelectAttention.

    Any strides that are multiples of 16 bytes. It traces: torch.export and torch.compile(fullgraph=True) take it.

    Raises:
        InputError: float32 inputs, or sizes and strides that the kernel was not built for.
    """
    check_inputs(q, k, v, block_indices, seq_lens, block_size)
    if q.dtype == torch.float32:
        raise InputError("q, k, v: got float32, expected float16 or bfloat16 for the cuda backend")
    check_head_dims(q.shape[3], v.shape[3])
    if block_size not in BLOCK_SIZES:
        raise InputError(f"block_size: got {block_size}, expected one of {BLOCK_SIZES}")
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if not dense(tensor) or any(stride % 8 or not 0 <= stride <= MAX_STRIDE for stride in strides(tensor)[:3]):
            raise InputError(
                f"{name}: got strides {tensor.stride()}, "
                f"expected a contiguous last dimension, the others multiples of 8 up to {MAX_STRIDE}"
            )
        if (address := _address(tensor)) % 16:
            raise InputError(f"{name}: starts at {address:#x}, expected a multiple of 16 bytes")
    if not dense(block_indices) or not all(0 <= stride <= MAX_INDEX_STRIDE for stride in strides(block_indices)):
        raise InputError(
            f"block_indices: got strides {block_indices.stride()}, "
            f"expected a contiguous last dimension, the others up to {MAX_INDEX_STRIDE}"
        )
    if not dense(seq_lens):
        raise InputError(f"seq_lens: got stride {seq_lens.stride()[0]}, expected contiguous lengths")
    return torch.ops.nsa.select_attention(q, k, v, block_indices, seq_lens, block_size)


def _address(tensor: torch.Tensor) -> int:
    """Where the numbers start; 0 while a call is traced, when they are nowhere."""
    return 0 if torch.compiler.is_compiling() or type(tensor) is not torch.Tensor else tensor.data_ptr()
