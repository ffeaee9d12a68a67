"""The decode core in Triton as a backend: where it runs, and loading it."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from nsa.config import Flags
from nsa.errors import BackendUnavailable
from nsa.kernels.guards import require_cuda
from nsa.machine.host import Artifact, Machine

if TYPE_CHECKING:
    from nsa.kernels.contract import Backend


def require(machine: Machine, flags: Flags) -> None:
    """Raise BackendUnavailable without a CUDA device, and without Triton."""
    require_cuda("triton_core", machine)
    if importlib.util.find_spec("triton") is None:
        raise BackendUnavailable("triton_core", "the package triton is not installed", "pip install 'triton>=3.6'")


def load(machine: Machine, artifact: Artifact | None) -> Backend:
    """The backend; its kernels are compiled at the first call of each kind of input."""
    from nsa.kernels.contract import Backend
    from nsa.kernels.triton_core.operator import DecodeCore

    core = DecodeCore()
    return Backend("triton_core", core=core, notes=core.plans)
