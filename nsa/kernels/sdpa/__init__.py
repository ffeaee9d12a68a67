"""Packed SDPA: gather the selected blocks, then PyTorch's scaled_dot_product_attention. Runs on any device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsa.config import Flags
from nsa.kernels.machine import Machine

if TYPE_CHECKING:
    from nsa.kernels.contract import Backend


def require(machine: Machine, flags: Flags) -> None:
    """Nothing is missing anywhere: the baseline always runs."""


def load() -> Backend:
    """The backend, with every way of packing that competes for the fastest."""
    from nsa.kernels.contract import Backend
    from nsa.kernels.sdpa.packed import VARIANTS

    return Backend("sdpa", VARIANTS["gather"], VARIANTS, packs=True)
