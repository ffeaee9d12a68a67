"""CUDA backend: known by name; its kernel is not there yet, and it says so."""

from nsa.config import Flags
from nsa.errors import BackendUnavailable
from nsa.kernels.machine import Machine, require_cuda


def require(machine: Machine, flags: Flags) -> None:
    """Raise BackendUnavailable: without a CUDA device, and for now always."""
    require_cuda("cuda", machine)
    raise BackendUnavailable("cuda", "its kernel is not implemented yet", "use the sdpa backend")
