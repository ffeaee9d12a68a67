"""Triton backend: known by name and guarded as the guide says; its kernel is not there yet, and it says so."""

from nsa.config import Flags
from nsa.errors import BackendUnavailable
from nsa.kernels.machine import Machine, guard_ada, require_cuda

FORCE_FLAG = "NSA_TRITON_SEL_FORCE"


def require(machine: Machine, flags: Flags) -> None:
    """Raise BackendUnavailable: without a CUDA device, when guarded, and for now always."""
    require_cuda("triton", machine)
    guard_ada("triton", machine, flags.triton_force, FORCE_FLAG)
    raise BackendUnavailable("triton", "its kernel is not implemented yet", "use the sdpa backend")
