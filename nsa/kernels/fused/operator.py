"""The extension's operator, nsa::decode_core, loaded once from the library that the build stage made."""

from __future__ import annotations

import functools
from dataclasses import asdict
from pathlib import Path

import torch
from pydantic import JsonValue

from nsa.errors import InputError
from nsa.kernels.core import SEL, WIN, Cache, Parts, Sizes, check_core
from nsa.kernels.fused import plan as plans

_made: dict[plans.Call, plans.Plan] = {}  # on the one device that a process uses


def load(library: Path) -> None:
    """Load the library and register its fake (meta) implementation; a second call does nothing.

    Raises:
        OSError: the library is damaged or was built for another platform.
    """
    if loaded():
        return
    torch.ops.load_library(str(library))
    torch.library.register_fake("nsa::decode_core", lambda *_: None)


def loaded() -> bool:
    """Whether the operator is registered."""
    return hasattr(torch.ops.nsa, "decode_core")


def decode_core(
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
    """The decode core of the extension. See nsa.kernels.core.Core.

    Any strides that are multiples of 16 bytes.

    Raises:
        InputError: float32 inputs, strides that the kernels were not built for, or sizes that do not fit the device.
    """
    check_core(q, gates, k, v, k_cmp, v_cmp, seq_lens, sizes, block_indices, out)
    if q.dtype == torch.float32:
        raise InputError("q: got float32, expected float16 or bfloat16 for the fused core")
    out = q.new_empty(*q.shape[:3], v[SEL].shape[3]) if out is None else out
    caches = {"k[1]": k[SEL], "v[1]": v[SEL], "k[2]": k[WIN], "v[2]": v[WIN], "k_cmp": k_cmp, "v_cmp": v_cmp}
    for name, tensor in ({"q": q, "out": out} | caches).items():
        if tensor.stride(3) != 1 or any(stride % 8 for stride in tensor.stride()[:3]) or tensor.data_ptr() % 16:
            raise InputError(
                f"{name}: got strides {tensor.stride()}, "
                "expected a contiguous last dimension, the others multiples of 8"
            )
    for name, tensor in (("gates", gates), ("block_indices", block_indices), ("seq_lens", seq_lens)):
        if tensor.stride(-1) != 1 and tensor.shape[-1] > 1:
            raise InputError(f"{name}: got strides {tensor.stride()}, expected a contiguous last dimension")
    made = plan(q, v[SEL], k[SEL].shape[2], sizes, parts)
    on = parts.cmp | parts.route << 1 | parts.sel << 2 | parts.win << 3
    torch.ops.nsa.decode_core(
        q, gates, *list(caches.values())[:4], k_cmp, v_cmp, seq_lens, block_indices, out, list(sizes), made.numbers, on
    )
    return out


def notes() -> list[JsonValue]:
    """For the record: the plan of each size that was called so far."""
    return [
        {**call._asdict(), "sizes": list(call.sizes), "parts": asdict(call.parts), "plan": made._asdict()}
        for call, made in _made.items()
    ]


def plan(q: torch.Tensor, v: torch.Tensor, capacity: int, sizes: Sizes, parts: Parts) -> plans.Plan:
    """The plan that a call with these tensors runs by."""
    B, G, h, D = q.shape
    call = plans.Call(B, G, h, D, v.shape[3], capacity, sizes, parts)
    if call not in _made:
        device = q.device.index if q.device.index is not None else torch.cuda.current_device()
        _made[call] = plans.plan(call, _device(device))
    return _made[call]


@functools.cache
def _device(index: int) -> plans.Device:
    found = torch.cuda.get_device_properties(index)
    shared = found.shared_memory_per_block_optin  # type: ignore[attr-defined]  # torch's stubs lack it
    return plans.Device((found.major, found.minor), found.multi_processor_count, shared)
