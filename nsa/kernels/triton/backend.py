"""Triton backend: one kernel over the selected blocks, split over their tokens where few rows would leave a GPU idle."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from nsa.config import Flags
from nsa.errors import BackendUnavailable
from nsa.kernels.guards import guard_ada, require_cuda
from nsa.machine.host import Machine

if TYPE_CHECKING:
    from nsa.kernels.contract import Backend

FORCE_FLAG = "NSA_TRITON_SEL_FORCE"
FIX = "delete results/tune/triton.json, then run `snakemake results/tune/triton.json`"


def require(machine: Machine, flags: Flags) -> None:
    """Raise BackendUnavailable without a CUDA device, when guarded, without Triton, and after a tuning that failed."""
    require_cuda("triton", machine)
    guard_ada("triton", machine, flags.triton_force, FORCE_FLAG)
    if importlib.util.find_spec("triton") is None:
        raise BackendUnavailable("triton", "the package triton is not installed", "pip install 'triton>=3.6'")
    tuning = machine.artifacts.get("triton")
    if tuning is not None and tuning["status"] not in ("ok", "unavailable"):
        reason = f"its tuning ended as {tuning['status']}: {tuning['reason']}"
        raise BackendUnavailable("triton", reason, f"{tuning['fix']}; {FIX}")


def load(machine: Machine) -> Backend:
    """The backend, cut as its tuning stage found best; its kernels are compiled at the first call of each kind of input.

    Raises:
        BackendUnavailable: the launch_configs were measured on another device or with other software.
        RecordError: the stage's record is broken.
    """
    import torch

    from nsa.kernels.contract import Backend
    from nsa.kernels.triton.plan import frozen
    from nsa.kernels.triton.select import SelectAttention, describe

    tuning = machine.artifacts.get("triton")
    if tuning is None or tuning["status"] != "ok":
        kernel = SelectAttention({})
    elif tuning["tuned_for"] != (here := describe(torch.device("cuda"))):
        raise BackendUnavailable(
            "triton", f"its launch_configs were measured for {tuning['tuned_for']}, this is {here}", FIX
        )
    else:
        kernel = SelectAttention(frozen(tuning))
    return Backend("triton", kernel, notes=kernel.launch_configs)
