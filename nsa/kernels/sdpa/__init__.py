"""Packed SDPA: pack the selected blocks, then PyTorch's fused attention. Runs on any device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa.config import Flags
from nsa.kernels.machine import Machine

if TYPE_CHECKING:
    from nsa.kernels.contract import Backend


def require(machine: Machine, flags: Flags) -> None:
    """Nothing is missing anywhere: the baseline always runs."""


def load(machine: Machine) -> Backend:
    """The backend, with every way of packing that competes for the fastest.

    Its select_attention is no fallback: it names the variant for each kind of input, and all of them are packed SDPA.
    """
    from nsa.kernels.contract import Backend
    from nsa.kernels.sdpa.packed import CUDA_VARIANTS, VARIANTS

    return Backend("sdpa", VARIANTS["gather"], VARIANTS | CUDA_VARIANTS, packs=True)
