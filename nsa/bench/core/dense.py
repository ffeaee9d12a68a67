"""Dense attention over a decode core's caches: the kernels that a core must beat, each as one call.

Those of PyTorch are tried one by one; FlashInfer and FlashAttention-3 take part where they are installed.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

OF_TORCH = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
OF_PACKAGES = {
    "flashinfer": "flashinfer",
    "fa3": "flash_attn_interface",
}  # a kernel's name, and what is imported for it


class Dense(Protocol):
    """softmax(q·Kᵀ/√D)·V over all tokens: q [B, G, h, D], k [B, G, S, D], v [B, G, S, Dv] -> [B, G, h, Dv]."""

    def __call__(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor: ...


def kernels() -> tuple[dict[str, Dense], dict[str, str]]:
    """The kernels that are installed, by name, and why the others are not."""
    found: dict[str, Dense] = {name: _of_torch(backend) for name, backend in OF_TORCH.items()}
    absent: dict[str, str] = {}
    makers: Mapping[str, Callable[[object], Dense]] = {"flashinfer": _flashinfer, "fa3": _fa3}
    for name, package in OF_PACKAGES.items():
        try:
            found[name] = makers[name](importlib.import_module(package))
        except ImportError as error:
            absent[name] = f"not installed ({error})"
    return found, absent


def able(dense: Mapping[str, Dense], q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> dict[str, str]:
    """Why kernels refuse a call, by name; those that take it are not there."""
    refused: dict[str, str] = {}
    for name, kernel in dense.items():
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                kernel(q, k, v)
        except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
            if isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError):
                raise
            refused[name] = _why(error, [str(each.message) for each in said])
    return refused


def _why(error: Exception, said: list[str]) -> str:
    """A refusal in one line that is the same for every shape: what PyTorch has warned of, or the error.

    It warns of other kernels, too, which this one's call has switched off.
    """
    lines = [re.split(r"[.:]? *(?=Query\.|Got |\(Triggered)", text.strip())[0].rstrip(".:") for text in said]
    told = [line for line in lines if not line.endswith(("because", "runtime disabled"))]
    return "; ".join(dict.fromkeys(told)) or str(error).partition("\n")[0]


def _of_torch(backend: SDPBackend) -> Dense:
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        B, G, h, D = q.shape
        with sdpa_kernel([backend]):
            o = scaled_dot_product_attention(q.reshape(B, G * h, 1, D), k, v, enable_gqa=True)
        return o.reshape(B, G, h, -1)

    return attend


def _flashinfer(package: object) -> Dense:
    """Decode of FlashInfer on a cache of one page a sequence, planned once for each size and outside the graph."""
    wrapper_of = package.BatchDecodeWithPagedKVCacheWrapper  # type: ignore[attr-defined]  # it may not be installed
    planned: dict[tuple[object, ...], Callable[[torch.Tensor, tuple[torch.Tensor, torch.Tensor]], torch.Tensor]] = {}

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        B, G, h, D = q.shape
        S, size = k.shape[2], (q.shape, k.shape, v.shape, q.dtype)
        if size not in planned:
            pages = torch.arange(B + 1, dtype=torch.int32, device=q.device)
            room = torch.empty(128 << 20, dtype=torch.uint8, device=q.device)
            last = torch.full((B,), S, dtype=torch.int32, device=q.device)
            wrapper = wrapper_of(
                room,
                "HND",
                use_cuda_graph=True,
                use_tensor_cores=True,
                paged_kv_indptr_buffer=pages.clone(),
                paged_kv_indices_buffer=pages[:B].clone(),
                paged_kv_last_page_len_buffer=last.clone(),
            )
            wrapper.plan(pages, pages[:B], last, G * h, G, D, S, q_data_type=q.dtype, kv_data_type=k.dtype)
            planned[size] = wrapper.run
        return planned[size](q.reshape(B, G * h, D), (k, v)).reshape(B, G, h, -1)

    return attend


def _fa3(package: object) -> Dense:
    """FlashAttention-3's decode; heads come after tokens, as views."""
    with_cache = package.flash_attn_with_kvcache  # type: ignore[attr-defined]  # it may not be installed

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        B, G, h, D = q.shape
        o: torch.Tensor = with_cache(q.reshape(B, 1, G * h, D), k.transpose(1, 2), v.transpose(1, 2))
        return o.reshape(B, G, h, -1)

    return attend
