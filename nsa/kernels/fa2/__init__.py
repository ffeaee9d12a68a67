"""FlashAttention-2 backend: known by name and guarded as the guide says; its kernel is not there yet, and it says so."""

from nsa.config import Flags
from nsa.errors import BackendUnavailable
from nsa.kernels.machine import Machine, guard_ada, require_cuda

FORCE_FLAG = "NSA_FA2_FORCE"


def require(machine: Machine, flags: Flags) -> None:
    """Raise BackendUnavailable: without a CUDA device, when guarded, and for now always."""
    require_cuda("fa2", machine)
    guard_ada("fa2", machine, flags.fa2_force, FORCE_FLAG)
    raise BackendUnavailable("fa2", "its kernel is not implemented yet", "use the sdpa backend")
