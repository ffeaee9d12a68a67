"""The host's side of the Triton kernel: refuse what it cannot do, allocate, launch. Nothing waits for the device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict

import torch
import triton
from pydantic import JsonValue

from nsa.errors import InputError
from nsa.kernels.contract import check_inputs, dense
from nsa.kernels.splits import launch_combine, on, overlaps, processors
from nsa.kernels.tiles import padded
from nsa.kernels.triton import kernel
from nsa.kernels.triton.plan import LaunchConfig, Size, rule

MAX_WIDTH = 256  # of D and Dv: wider tiles do not fit into a multiprocessor


class SelectAttention:
    """Selected attention, launched as was measured for a call's size, else by the rule; see contract.SelectAttention.

    Any strides between sequences, groups, heads and tokens; the numbers of one q, k or v vector must be contiguous.
    Bits are the same on each call. The first call of a kind compiles: make it before a capture.
    """

    def __init__(self, tuned: Mapping[Size, LaunchConfig]) -> None:
        self._tuned = tuned
        self._chosen: dict[Size, LaunchConfig] = {}

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        block_indices: torch.Tensor,
        seq_lens: torch.Tensor,
        block_size: int,
    ) -> torch.Tensor:
        """Compute one call.

        Raises:
            InputError: an argument is outside the contract, a vector is strided, or D or Dv is above 256.
        """
        check_inputs(q, k, v, block_indices, seq_lens, block_size)
        for name, tensor in (("q", q), ("k", k), ("v", v)):
            if tensor.shape[-1] > MAX_WIDTH:
                raise InputError(f"{name}: got a width of {tensor.shape[-1]}, expected at most {MAX_WIDTH}")
            if not dense(tensor):
                raise InputError(f"{name}: got strides {tensor.stride()}, expected 1 in the last dimension")
        size = size_of(q, v, block_indices, block_size)
        return run(self._chosen.get(size) or self._choose(size), q, k, v, block_indices, seq_lens, block_size)

    def _choose(self, size: Size) -> LaunchConfig:
        config = self._chosen[size] = self._tuned.get(size) or rule(size)
        return config

    def launch_configs(self) -> list[JsonValue]:
        """For the record: how every size that was called so far was launched, and what chose it."""
        return [
            {**asdict(size), **asdict(config), "chosen_by": "tuning" if size in self._tuned else "rule"}
            for size, config in self._chosen.items()
        ]


def size_of(q: torch.Tensor, v: torch.Tensor, block_indices: torch.Tensor, block_size: int) -> Size:
    """What the launch configuration of one call depends on."""
    B, G, h, D = q.shape
    return Size(B * G, h, block_indices.shape[2], block_size, D, v.shape[3], q.element_size(), processors(q.device))


def describe(device: torch.device) -> str:
    """The device and the software that measured launch configurations hold for."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "interpreter"
    return f"{name}, torch {torch.__version__}, triton {triton.__version__}"


def run(
    config: LaunchConfig,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    block_indices: torch.Tensor,
    seq_lens: torch.Tensor,
    block_size: int,
) -> torch.Tensor:
    """Launch one configuration on inputs that `SelectAttention` would take."""
    (B, G, h, D), Dv, n = q.shape, v.shape[3], block_indices.shape[2]
    o = torch.empty(B, G, h, Dv, dtype=q.dtype, device=q.device)
    if o.numel() == 0:
        return o
    steps = max(1, triton.cdiv(n * block_size, config.tokens))
    chunk = triton.cdiv(steps, config.splits)
    splits = triton.cdiv(steps, chunk)  # none is without steps
    split = splits > 1
    overlap = split and overlaps(q.device)
    partial_o, partial_m, partial_l = (
        torch.empty(shape if split else 0, dtype=torch.float32, device=q.device)
        for shape in ((B, G, splits, h, Dv), (B, G, splits, h), (B, G, splits, h))
    )
    with on(q.device):
        kernel.attend[(B, G, splits)](
            *(q, k, v, block_indices, seq_lens, o, partial_o, partial_m, partial_l),
            *(*q.stride()[:3], *k.stride()[:2], *v.stride()[:2], *block_indices.stride(), seq_lens.stride(0)),
            *(h, n, chunk, math.log2(math.e) / math.sqrt(D)),
            K_T=k.stride(2),
            V_T=v.stride(2),
            D=D,
            DV=Dv,
            D_PADDED=padded(D),
            DV_PADDED=padded(Dv),
            BLOCK=block_size,
            TOKENS=config.tokens,
            PREFETCH=config.prefetch,
            SPLIT=split,
            OVERLAP=overlap,
            num_warps=config.warps,
            num_stages=1,
        )
        if split:
            launch_combine(partial_o, partial_m, partial_l, o, overlap)
    return o
