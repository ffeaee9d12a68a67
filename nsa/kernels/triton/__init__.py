"""Triton backend: one kernel over the selected blocks, split over their tokens where few rows would leave a GPU idle."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from nsa.config import Flags
from nsa.errors import BackendUnavailable
from nsa.kernels.machine import Machine, guard_ada, require_cuda

if TYPE_CHECKING:
    from nsa.kernels.contract import Backend

FORCE_FLAG = "NSA_TRITON_SEL_FORCE"


def require(machine: Machine, flags: Flags) -> None:
    """Raise BackendUnavailable without a CUDA device, when guarded, and where Triton is not installed."""
    require_cuda("triton", machine)
    guard_ada("triton", machine, flags.triton_force, FORCE_FLAG)
    if not flags.triton_force:
        raise BackendUnavailable(
            "triton",
            "its kernel passes in the interpreter but has not passed on a GPU yet",
            f"set {FORCE_FLAG}=1 to run it all the same (experiments only)",
        )
    if importlib.util.find_spec("triton") is None:
        raise BackendUnavailable("triton", "the package triton is not installed", "pip install 'triton>=3.6'")


def load(machine: Machine) -> Backend:
    """The backend; its kernels are compiled at the first call of each kind of input."""
    from nsa.kernels.contract import Backend
    from nsa.kernels.triton.select import select_attention

    return Backend("triton", select_attention)
