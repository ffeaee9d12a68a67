"""The Triton kernel as a backend: where it runs, and with which launch configurations."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from nsa.config import Flags
from nsa.errors import BackendUnavailable
from nsa.kernels.guards import require_cuda
from nsa.kernels.triton import tuning
from nsa.kernels.triton.tuning import AGAIN
from nsa.machine.host import Artifact, Machine

if TYPE_CHECKING:
    from nsa.kernels.contract import Backend


def require(machine: Machine, flags: Flags) -> None:
    """Raise BackendUnavailable without a CUDA device, without Triton, and after a tuning that failed.

    Raises:
        RecordError: the tuning's artifact is broken.
    """
    require_cuda("triton", machine)
    if importlib.util.find_spec("triton") is None:
        raise BackendUnavailable("triton", "the package triton is not installed", "pip install 'triton>=3.6'")
    artifact = machine.artifacts.get("triton")
    if artifact is not None and (tuned := tuning.of(artifact)).ended_badly:
        reason = f"its tuning ended as {tuned.status}: {tuned.reason}"
        raise BackendUnavailable("triton", reason, f"{tuned.fix}; {AGAIN}")


def load(machine: Machine, artifact: Artifact | None) -> Backend:
    """The backend with the launch configurations that its tuning found best; without a tuning a rule chooses them.

    Its kernels are compiled at the first call of each kind of input.

    Raises:
        BackendUnavailable: they were measured on another device or with other software.
        RecordError: the tuning's artifact is broken.
    """
    import torch

    from nsa.kernels.contract import Backend
    from nsa.kernels.triton.select import SelectAttention, describe

    kernel = SelectAttention({})
    if artifact is not None and (tuned := tuning.of(artifact)).status == "ok":
        if tuned.tuned_for != (here := describe(torch.device("cuda"))):
            measured = f"its launch configurations were measured for {tuned.tuned_for}, this is {here}"
            raise BackendUnavailable("triton", measured, AGAIN)
        kernel = SelectAttention(tuned.plans)
    return Backend("triton", kernel, notes=kernel.launch_configs)
